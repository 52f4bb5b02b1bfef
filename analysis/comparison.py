"""`vla-eval compare A B`: who is better, by how much, on which episodes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, NamedTuple

import tyro

from analysis.recorded import load_runs
from analysis.stats.paired import Row, SuiteComparison, adjust, compare
from evals.errors import UsageError
from evals.record import Run
from evals.summary_format import Format, percent
from evals.terminal.tables import Column, remarks, sheet_of
from evals.terminal.text import one_line, show


class Line(NamedTuple):
    """A row of the table: a task of a suite, or the mean of its tasks with the p-values."""

    suite: str
    row: Row
    p: float | None = None
    p_holm: float | None = None


def _points(rate: float) -> str:
    return f"{100 * rate:+.1f}"


def _p(value: float) -> str:
    return f"{value:.2g}"


COLUMNS: list[Column[Line]] = [
    Column("", lambda line: f"{line.suite}: {line.row.label}", "Suite and task"),
    Column("", lambda line: line.row.rate_a, "A", percent),
    Column("", lambda line: line.row.rate_b, "B", percent),
    Column("", lambda line: line.row.difference, "A - B", _points),
    Column("", lambda line: line.row.interval, "95 % interval", lambda span: " to ".join(map(_points, span))),
    Column("", lambda line: line.row.only_a, "Only A"),
    Column("", lambda line: line.row.only_b, "Only B"),
    Column("", lambda line: ", ".join(dict.fromkeys(f"{n:.0f}" for n in line.row.n)), "n"),
    Column("", lambda line: "" if line.p is None else _p(line.p), "p"),
    Column("", lambda line: "" if line.p_holm is None else _p(line.p_holm), "p (Holm)"),
]


@dataclass(frozen=True)
class CompareConfig:
    """Compare two policies on the same episodes.

    Attributes:
        a: Runs of policy A: a run folder, or a folder or pattern that holds one run per suite and seed.
        b: Runs of policy B: a run folder, or a folder or pattern that holds one run per suite and seed.
        sequential: Run the anytime-valid test too, which decides whether unfinished runs may stop.
        minimum_difference: Smallest difference in success rate that the test of --sequential looks for.
        mixed_protocols: Compare runs of different protocols, and print a note about the differences.
        format: Format in which the comparison is printed.
    """

    a: Annotated[str, tyro.conf.Positional]
    b: Annotated[str, tyro.conf.Positional]
    sequential: bool = False
    minimum_difference: float = 0.0
    mixed_protocols: bool = False
    format: Format = "table"


def command(arguments: list[str]) -> int:
    """Run `vla-eval compare`."""
    config = tyro.cli(CompareConfig, args=arguments, prog="vla-eval compare")
    recorded = [load_runs(place) for place in (config.a, config.b)]
    a, b = (by_suite(side.runs) for side in recorded)
    shared = sorted(set(a) & set(b))
    if not shared:
        raise UsageError(f"No suite was run in both: {config.a} has {', '.join(a)}; {config.b} has {', '.join(b)}.")
    minimum = config.minimum_difference if config.sequential else None
    found = adjust([compare(a[suite], b[suite], minimum, config.mixed_protocols) for suite in shared])
    notes = [note for side in recorded for note in side.notes]
    notes += [
        f"{suite} was run on side {name} only and is left out."
        for name, mine, other in (("A", a, b), ("B", b, a))
        for suite in sorted(set(mine) - set(other))
    ]
    show(render(found, (config.a, config.b), config.format, notes))
    if config.format == "csv":
        show("".join(f"{note}\n" for note in notes), stderr=True)
    return 0


def by_suite(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return suite -> its runs."""
    suites: dict[str, list[Run]] = {}
    for run in runs:
        suites.setdefault(run.header.suite["name"], []).append(run)
    return suites


def render(
    comparisons: Sequence[SuiteComparison],
    names: tuple[str, str],
    format: Format = "table",
    notes: Sequence[str] = (),
) -> str:
    """Return comparisons as text: rows, what must be said beside them, and the flipped episodes.

    Args:
        comparisons: one a suite.
        names: what A and B are called.
        format: how; CSV has no place for sentences.
        notes: sentences about all suites.
    """
    if format == "json":
        suites = [asdict(comparison) for comparison in comparisons]
        return json.dumps({"a": names[0], "b": names[1], "notes": [*notes], "suites": suites}, indent=1) + "\n"
    lines = [line for comparison in comparisons for line in _lines(comparison)]
    sheet = sheet_of(COLUMNS, lines, bold=[i for i, line in enumerate(lines) if line.p is not None])
    sentences = [*_sentences(comparisons, names), *notes]
    said = "".join(f"{one_line(line)}\n" for line in sentences) if format == "table" else remarks(sentences, format)
    return sheet.text(format, 140) + said


def _lines(comparison: SuiteComparison) -> Iterator[Line]:
    for row in comparison.tasks:
        yield Line(comparison.suite, row)
    yield Line(comparison.suite, comparison.mean, comparison.p, comparison.p_holm)


def _sentences(comparisons: Sequence[SuiteComparison], names: tuple[str, str]) -> Iterator[str]:
    yield f"A: {names[0]}"
    yield f"B: {names[1]}"
    for comparison in comparisons:
        test = "exact McNemar test on the same episodes" if comparison.paired else "exact stratified Fisher test"
        yield f"{comparison.suite}: {test}, p = {comparison.p:.2g}."
        for note in comparison.notes:
            yield f"{comparison.suite}: {note}"
        if comparison.decision is not None:
            yield f"{comparison.suite}, anytime-valid: {comparison.decision.text}"
        for flip in comparison.flips:
            films = f" {' '.join(flip.videos)}" if flip.videos else ""
            where = f"task {flip.task}, initial state {flip.initial_state}, seed {flip.seed} ({flip.episode_id})"
            yield f"{comparison.suite}: only {flip.better} solved {where}{films}"

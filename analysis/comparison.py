"""`vla-eval compare A B`: who is better, by how much, on which episodes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from analysis.recorded import load_runs
from analysis.stats.paired import Row, SuiteComparison, adjust, compare
from evals.errors import UsageError
from evals.record import Run
from evals.summary_format import NOTHING, Format
from evals.terminal.tables import as_csv, as_markdown, as_text, make_table, markdown
from evals.terminal.text import one_line, show

_HEADER = ("Suite and task", "A", "B", "A - B", "95 % interval", "Only A", "Only B", "n", "p", "p (Holm)")


@dataclass(frozen=True)
class CompareConfig:
    """Compare two policies on the same episodes.

    Attributes:
        a: Runs of one policy: a run folder, or a folder or pattern with one run a suite and seed.
        b: The same for the policy to compare with.
        sequential: Ask the anytime-valid test too: may unfinished runs stop?
        minimum_difference: Difference in success rate that --sequential looks for.
        mixed_protocols: Compare although the protocols differ, and say so.
        format: How the comparison is printed.
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
    rows = [cells for comparison in comparisons for cells in _rows(comparison)]
    if format == "csv":
        return as_csv([_HEADER, *rows])
    sentences = [*_sentences(comparisons, names), *notes]
    if format == "markdown":
        return as_markdown(_HEADER, rows) + "".join(f"\n{markdown(line)}\n" for line in sentences)
    means = [i for i, cells in enumerate(rows) if cells[-2]]
    return as_text(make_table(_HEADER, rows, bold=means), 140) + "".join(f"{one_line(line)}\n" for line in sentences)


def _rows(comparison: SuiteComparison) -> Iterator[tuple[str, ...]]:
    for row in comparison.tasks:
        yield (*_cells(comparison.suite, row), "", "")
    yield (*_cells(comparison.suite, comparison.mean), f"{comparison.p:.2g}", f"{comparison.p_holm:.2g}")


def _cells(suite: str, row: Row) -> tuple[str, ...]:
    n = f"{row.n[0]:.0f}" if row.n[0] == row.n[1] else f"{row.n[0]:.0f}, {row.n[1]:.0f}"
    only = (NOTHING if count is None else str(count) for count in (row.only_a, row.only_b))
    low, high = row.interval
    return (
        f"{suite}: {row.label}",
        f"{100 * row.rate_a:.1f}",
        f"{100 * row.rate_b:.1f}",
        f"{100 * row.difference:+.1f}",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
        *only,
        n,
    )


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

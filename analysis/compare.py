"""`vla-eval compare A B`: who is better, by how much, on which episodes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from analysis.comparison import Row, SuiteComparison, adjust, compare
from analysis.frame import find_runs
from evals.errors import UsageError
from evals.record import Run, read_run
from evals.summary_format import NOTHING, Format

_HEADER = ("Suite and task", "A", "B", "A - B", "95 % interval", "Only A", "Only B", "n", "p", "p (Holm)")


@dataclass(frozen=True)
class CompareConfig:
    """Compare two policies on the same episodes.

    Attributes:
        a: A run folder, or a folder or pattern with one run a suite.
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
    a, b = by_suite(config.a), by_suite(config.b)
    shared = sorted(set(a) & set(b))
    if not shared:
        raise UsageError(f"No suite was run in both: {config.a} has {', '.join(a)}; {config.b} has {', '.join(b)}.")
    minimum = config.minimum_difference if config.sequential else None
    found = adjust([compare(a[suite], b[suite], minimum, config.mixed_protocols) for suite in shared])
    print(render(found, (config.a, config.b), config.format), end="")
    return 0


def by_suite(place: str) -> dict[str, Run]:
    """Read the runs at or below a place, one a suite.

    Raises:
        UsageError: there are none, or two of one suite.
    """
    runs: dict[str, Run] = {}
    for path in find_runs(place):
        run = read_run(path)
        suite = run.header.suite["name"]
        if suite in runs:
            raise UsageError(f"{place} holds two runs of {suite}: {runs[suite].path} and {path}. Name one of them.")
        runs[suite] = run
    return runs


def render(comparisons: Sequence[SuiteComparison], names: tuple[str, str], format: Format = "table") -> str:
    """Return comparisons as text: rows, what must be said beside them, and the flipped episodes."""
    if format == "json":
        return json.dumps({"a": names[0], "b": names[1], "suites": [asdict(c) for c in comparisons]}, indent=1) + "\n"
    rows = [cells for comparison in comparisons for cells in _rows(comparison)]
    if format == "csv":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([_HEADER, *rows])
        return buffer.getvalue()
    below = "".join(f"\n{line}\n" if format == "markdown" else f"{line}\n" for line in _sentences(comparisons, names))
    if format == "markdown":
        lines = [_HEADER, ("---", *["---:"] * (len(_HEADER) - 1)), *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines) + below
    table = Table()
    for name in _HEADER:
        table.add_column(name, justify="left" if name == _HEADER[0] else "right")
    for cells in rows:
        table.add_row(*cells, style="bold" if cells[-2] else "")
    console = Console(file=io.StringIO(), width=140, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue() + below


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

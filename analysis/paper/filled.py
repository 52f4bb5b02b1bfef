"""The paper's tables filled from our runs, with marks for what keeps a number from being comparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from analysis.paper.measured import Cell, Measurements, average
from analysis.paper.printed import AVERAGE, DELTA, HEADINGS, Column, Conditions, PaperRow, PaperTable, Printed
from analysis.stats.intervals import pooled, unpaired_difference
from evals.summary_format import percent
from evals.terminal.tables import NOTHING, Sheet

Style = Literal["interval", "paper"]
Named = frozenset[Conditions]
# Where runs that are no row of the paper appear, beside the published baselines.
_BASELINE_TABLES = (8, 9)


@dataclass(frozen=True)
class Line:
    """A row of a measured table: the paper's row, if it has one, and the cells that runs filled."""

    group: str
    row: str
    printed: PaperRow | None
    cells: dict[Column, Cell]


def ours(table: PaperTable, measured: Measurements, named: Named, style: Style = "interval") -> Sheet | None:
    """Return the same table from runs, or None if no run belongs in it.

    Args:
        table: the paper's table.
        measured: cells by declared conditions.
        named: conditions that have a row in the paper; others are added to tables 8 and 9 as rows of their own.
        style: how errors are printed.
    """
    lines = list(lines_of(table, measured, named))
    if not any(line.cells for line in lines):
        return None
    notes = _Notes(style)
    rows = []
    for at, line in enumerate(lines):
        other = lines[at + 1] if at + 1 < len(lines) else None
        rows.append((line.group, line.row, *(_text_of(table, line, column, other, notes) for column in table.columns)))
    header = ("", "", *(HEADINGS[column] for column in table.columns))
    below = notes.lines()
    if Column(DELTA) in table.columns:
        below += ("Δ as of independent runs; where they share episodes, vla-eval compare is sharper.",)
    return Sheet(f"Table {table.number}, from our runs: {table.title}", header, tuple(rows), below, labels=2)


def others(measured: Measurements) -> Sheet | None:
    """Return the suites that no table of the paper has, or None if none of them was run."""
    known = {column.suite for column in HEADINGS}
    notes = _Notes("interval")
    rows = []
    for conditions, cells in measured.items():
        for column, cell in cells.items():
            if column.suite not in known and not column.task:
                rows.append(
                    (column.suite, " ".join(filter(None, conditions)), _cell_text(cell, notes.mark(column, cell)))
                )
    if not rows:
        return None
    header = ("Suite", "Run", "Mean of tasks")
    return Sheet("Suites that the paper does not have", header, tuple(sorted(rows)), notes.lines(), labels=2)


def lines_of(table: PaperTable, measured: Measurements, named: Named) -> Iterator[Line]:
    """Yield the rows of a table, and in tables 8 and 9 those of runs that are no row of the paper."""
    for row in table.rows:
        yield Line(row.group, row.row, row, _of_table(table, measured.get(row.conditions, {})))
    if table.number in _BASELINE_TABLES:
        for conditions, cells in measured.items():
            if conditions not in named and (here := _of_table(table, cells)):
                yield Line("measured here", " ".join(filter(None, conditions)), None, here)


def _of_table(table: PaperTable, cells: Mapping[Column, Cell]) -> dict[Column, Cell]:
    here = {column: cells[column] for column in table.strata if column in cells}
    whole = average(here, table.strata)
    return here if whole is None else {**here, Column(AVERAGE): whole}


class _Notes:
    """What the marks in a measured table mean, collected while its cells are written."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self._protocols: dict[str, dict[str, str]] = {}
        self._missing: dict[str, None] = {}
        self._decided: dict[str, None] = {}
        self._ns: dict[int, None] = {}
        self._excluded = False

    def mark(self, column: Column, cell: Cell, paper: Printed | None = None) -> str:
        """Return the marks of a cell."""
        marks = ""
        if paper is not None and excludes(cell, paper):
            self._excluded = True
            marks += "*"
        if cell.missing:
            low, high = cell.bounds
            self._missing[f"{cell.missing} missing: between {percent(low)} and {percent(high)} in the end"] = None
            marks += "†"
        if cell.decided:
            self._decided |= dict.fromkeys(cell.decided)
            marks += "‡"
        if cell.protocol:
            letters = self._protocols.setdefault(column.suite, {})
            marks += letters.setdefault(cell.protocol, chr(ord("a") + len(letters)))
        self._ns[cell.rate.scored] = None
        return marks

    def lines(self) -> tuple[str, ...]:
        """Return the notes."""
        lines = []
        if self.style == "paper":
            ns = ", ".join(map(str, sorted(self._ns)))
            lines.append(
                f"± is sqrt(p(1-p)/n) with n = {ns}, all episodes that have a score, as if no trajectory were repeated"
                " and every task were equally hard; an average's n is pooled."
            )
        else:
            lines.append("Rate [95 % interval] number of scored episodes; repeated trajectories do not narrow it.")
        if self._excluded:
            lines.append("* our interval excludes the paper's value.")
        lines += [f"† {text}." for text in self._missing]
        lines += [f"‡ {text}" for text in self._decided]
        for suite, letters in self._protocols.items():
            hashes = ", ".join(f"{letter} {value}" for value, letter in letters.items())
            warning = "; they differ, so its cells are not comparable" if len(letters) > 1 else ""
            lines.append(f"Protocols of {suite}: {hashes}{warning}.")
        return tuple(lines)


def excludes(cell: Cell, paper: Printed) -> bool:
    """Return whether a measured interval excludes what the paper prints."""
    return cell.rate.value is not None and not cell.rate.interval.low <= paper.value / 100 <= cell.rate.interval.high


def _text_of(table: PaperTable, line: Line, column: Column, other: Line | None, notes: _Notes) -> str:
    if column.suite == DELTA:
        return _delta(line, other)
    cell = line.cells.get(column)
    if cell is None:
        return NOTHING
    marks = notes.mark(column, cell, line.printed.cells.get(column) if line.printed else None)
    if notes.style == "paper" and cell.rate.value is not None:
        return f"{percent(cell.rate.value)}±{percent(_paper_error(table, line, column))}{marks}"
    return _cell_text(cell, marks)


def _cell_text(cell: Cell, marks: str) -> str:
    rate = cell.rate
    if rate.value is None:
        return f"?{marks}"
    low, high = map(percent, rate.interval)
    return f"{percent(rate.value)} [{low}, {high}] n={rate.scored}{marks}"


def _paper_error(table: PaperTable, line: Line, column: Column) -> float:
    columns = table.strata if column.suite == AVERAGE else (column,)
    rates = [line.cells[part].rate for part in columns]
    return pooled([rate.value or 0.0 for rate in rates], [rate.scored for rate in rates]).standard_error


def _delta(line: Line, other: Line | None) -> str:
    if line.printed is None or Column(DELTA) not in line.printed.cells:
        return ""
    cells = [one.cells.get(Column(AVERAGE)) if one else None for one in (line, other)]
    rates = [cell.rate for cell in cells if cell is not None]
    values = [rate.value for rate in rates if rate.value is not None]
    if len(values) < 2:
        return NOTHING
    low, high = unpaired_difference(values[0], rates[0].interval, values[1], rates[1].interval)
    return f"{100 * (values[0] - values[1]):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"

"""`vla-eval tables`: the paper's tables as printed, and the same tables from our runs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from analysis.audit import audit
from analysis.frame import find_runs
from analysis.measured import Cell, Measurements, average, measure
from analysis.paper import (
    AVERAGE,
    DELTA,
    HEADINGS,
    PAPER,
    TITLES,
    Column,
    Conditions,
    PaperRow,
    PaperTable,
    Printed,
    load_paper,
)
from analysis.sheets import Sheet, SheetFormat, render
from analysis.stats import pooled, unpaired_difference
from evals.record import HEADER, read_run
from evals.summary import Estimate
from evals.summary_format import NOTHING

Style = Literal["interval", "paper"]
Named = frozenset[Conditions]
RUNS = Path("results", "runs")
# Where runs that are no row of the paper appear, beside the published baselines.
_BASELINE_TABLES = (8, 9)
_TIDY = (
    "table", "row", "column", "paper", "paper_error", "rate", "low", "high", "n", "n_eff", "missing", "protocol",
    "paper_excluded", "runs",
)  # fmt: skip


@dataclass(frozen=True)
class TablesConfig:
    """Print the paper's tables, and beside each the same table from recorded runs.

    Attributes:
        runs: Run folders, or folders or patterns that hold some; results/runs by default, if there is one.
        tables: Numbers of the paper's tables.
        audit: Check the printed numbers instead: averages, grids, errors, agreement.
        se_style: "paper" prints ± as OpenVLA's line of work does, over all episodes; otherwise 95 % intervals.
        mixed_protocols: Print runs of different protocols in one table, with footnotes.
        format: How the tables are printed; csv has one line a cell.
        out: Folder to write tables.md, tables.tex, tables.csv and audit.md to.
        paper: Folder with the paper's tables.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    tables: tuple[int, ...] = tuple(TITLES)
    audit: bool = False
    se_style: Style = "interval"
    mixed_protocols: bool = False
    format: SheetFormat = "table"
    out: Path | None = None
    paper: Path = PAPER


@dataclass(frozen=True)
class Line:
    """A row of a measured table: the paper's row, if it has one, and the cells that runs filled."""

    group: str
    row: str
    printed: PaperRow | None
    cells: dict[Column, Cell]


def command(arguments: list[str]) -> int:
    """Run `vla-eval tables`."""
    config = tyro.cli(TablesConfig, args=arguments, prog="vla-eval tables")
    tables = load_paper(config.paper, config.tables)
    if config.audit:
        print(render(audit(tables), config.format), end="")
        return 0
    places = config.runs or ((str(RUNS),) if any(RUNS.rglob(HEADER)) else ())
    measured = measure([read_run(path) for path in find_runs(*places)] if places else [], config.mixed_protocols)
    named = frozenset(row.conditions for table in load_paper(config.paper) for row in table.rows)

    def text(format: SheetFormat) -> str:
        if format == "csv":
            return tidy(tables, measured, named)
        sheets = [(published(table), ours(table, measured, named, config.se_style)) for table in tables]
        printed = render([sheet for pair in sheets for sheet in pair if sheet is not None], format)
        return printed if measured else f"{printed}\nNo runs: nothing stands beside the paper's tables yet.\n"

    print(text(config.format), end="")
    if config.out is not None:
        _write(config.out, text, render(audit(tables), "markdown"))
    return 0


def published(table: PaperTable) -> Sheet:
    """Return a table as the paper prints it; rows that are not the paper's own model are marked."""
    rows = [
        (
            row.group if row.conditions.init else f"{row.group} (as published)",
            row.row,
            *map(_printed, _in_order(table, row)),
        )
        for row in table.rows
    ]
    header = ("", "", *(HEADINGS[column] for column in table.columns))
    return Sheet(f"Table {table.number}, as published: {table.title}", header, tuple(rows), labels=2)


def ours(table: PaperTable, measured: Measurements, named: Named, style: Style = "interval") -> Sheet | None:
    """Return the same table from runs, or None if no run belongs in it.

    Args:
        table: the paper's table.
        measured: cells by declared conditions.
        named: conditions that have a row in the paper; others are added to tables 8 and 9 as rows of their own.
        style: how errors are printed.
    """
    lines = list(_lines(table, measured, named))
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


def tidy(tables: Sequence[PaperTable], measured: Measurements, named: Named) -> str:
    """Return one CSV line a cell: what the paper prints and what we measured."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=_TIDY, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for line in _lines(table, measured, named):
            for column in table.columns:
                writer.writerow(_tidy_cell(table, line, column))
    return buffer.getvalue()


def _write(folder: Path, text: Callable[[SheetFormat], str], audited: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, SheetFormat] = {"md": "markdown", "tex": "latex", "csv": "csv"}
    for suffix, kind in kinds.items():
        (folder / f"tables.{suffix}").write_text(text(kind))
    (folder / "audit.md").write_text(audited)


def _lines(table: PaperTable, measured: Measurements, named: Named) -> Iterator[Line]:
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


def _in_order(table: PaperTable, row: PaperRow) -> list[tuple[Column, Printed | None]]:
    return [(column, row.cells.get(column)) for column in table.columns]


def _printed(cell: tuple[Column, Printed | None]) -> str:
    column, printed = cell
    if printed is None:
        return ""
    if column.suite == DELTA:
        return f"{printed.value:+.1f}"
    return f"{printed.value:.1f}" + ("" if printed.error is None else f"±{printed.error:.1f}")


class _Notes:
    """What the marks in a measured table mean, collected while its cells are written."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self._protocols: dict[str, dict[str, str]] = {}
        self._missing: dict[str, None] = {}
        self._ns: dict[int, None] = {}
        self._excluded = False

    def mark(self, column: Column, cell: Cell, paper: Printed | None) -> str:
        """Return the marks of a cell."""
        marks = ""
        if paper is not None and excludes(cell, paper):
            self._excluded = True
            marks += "*"
        if cell.missing:
            low, high = cell.bounds
            self._missing[f"{cell.missing} missing: between {100 * low:.1f} and {100 * high:.1f} in the end"] = None
            marks += "†"
        if cell.protocol:
            letters = self._protocols.setdefault(column.suite, {})
            marks += letters.setdefault(cell.protocol, chr(ord("a") + len(letters)))
        self._ns[cell.n] = None
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
        for suite, letters in self._protocols.items():
            hashes = ", ".join(f"{letter} {value}" for value, letter in letters.items())
            warning = "; they differ, so its cells are not comparable" if len(letters) > 1 else ""
            lines.append(f"Protocols of {suite}: {hashes}{warning}.")
        return tuple(lines)


def excludes(cell: Cell, paper: Printed) -> bool:
    """Return whether a measured interval excludes what the paper prints."""
    return cell.rate is not None and not cell.interval.low <= paper.value / 100 <= cell.interval.high


def _text_of(table: PaperTable, line: Line, column: Column, other: Line | None, notes: _Notes) -> str:
    if column.suite == DELTA:
        return _delta(line, other)
    cell = line.cells.get(column)
    if cell is None:
        return NOTHING
    marks = notes.mark(column, cell, line.printed.cells.get(column) if line.printed else None)
    if cell.rate is None:
        return f"?{marks}"
    if notes.style == "paper":
        return f"{100 * cell.rate:.1f}±{100 * _paper_error(table, line, column):.1f}{marks}"
    low, high = cell.interval
    return f"{100 * cell.rate:.1f} [{100 * low:.1f}, {100 * high:.1f}] n={cell.n}{marks}"


def _paper_error(table: PaperTable, line: Line, column: Column) -> float:
    columns = table.strata if column.suite == AVERAGE else (column,)
    cells = [line.cells[part] for part in columns]
    return pooled([cell.rate or 0.0 for cell in cells], [cell.n for cell in cells]).standard_error


def _delta(line: Line, other: Line | None) -> str:
    if line.printed is None or Column(DELTA) not in line.printed.cells:
        return ""
    a, b = line.cells.get(Column(AVERAGE)), other.cells.get(Column(AVERAGE)) if other else None
    if a is None or b is None or a.rate is None or b.rate is None:
        return NOTHING
    rates = (Estimate(rate, 0.0) for rate in (a.rate, b.rate))
    low, high = unpaired_difference(next(rates), a.interval, next(rates), b.interval)
    return f"{100 * (a.rate - b.rate):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _tidy_cell(table: PaperTable, line: Line, column: Column) -> dict[str, object]:
    paper = line.printed.cells.get(column) if line.printed else None
    cell = line.cells.get(column)
    record: dict[str, object] = {
        "table": table.number,
        "row": f"{line.group} {line.row}".strip(),
        "column": HEADINGS[column],
        "paper": "" if paper is None else paper.value,
        "paper_error": "" if paper is None or paper.error is None else paper.error,
    }
    if cell is None or cell.rate is None:
        return record
    return record | {
        "rate": round(100 * cell.rate, 3),
        "low": round(100 * cell.interval.low, 3),
        "high": round(100 * cell.interval.high, 3),
        "n": cell.n,
        "n_eff": math.floor(cell.effective + 0.5),
        "missing": cell.missing,
        "protocol": cell.protocol,
        "paper_excluded": "" if paper is None else excludes(cell, paper),
        "runs": " ".join(cell.runs),
    }

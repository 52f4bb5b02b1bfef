"""`vla-eval tables`: the paper's tables as printed, and the same tables from our runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from analysis.paper.audit import audit
from analysis.paper.filled import Line, Named, Style, excludes, lines_of, others, ours
from analysis.paper.measured import Cell, Measurements, measure
from analysis.paper.printed import DELTA, HEADINGS, PAPER, TITLES, Column, PaperRow, PaperTable, Printed, load_paper
from analysis.recorded import Recorded, load_runs
from evals.record import HEADER
from evals.terminal.tables import Sheet, SheetFormat, as_csv, remarks, render
from evals.terminal.text import show, write_whole

RUNS = Path("results", "runs")


class Place(NamedTuple):
    """A cell of a table: what the paper prints there, if anything, and what was measured, if it has a rate."""

    table: PaperTable
    line: Line
    column: Column
    paper: Printed | None
    cell: Cell | None


def _measured(tell: Callable[[Cell], object]) -> Callable[[Place], object]:
    return lambda place: None if place.cell is None else tell(place.cell)


def _points(rate: float | None) -> float:
    return round(100 * (rate or 0.0), 3)


_TIDY: dict[str, Callable[[Place], object]] = {
    "table": lambda place: place.table.number,
    "row": lambda place: f"{place.line.group} {place.line.row}".strip(),
    "column": lambda place: HEADINGS[place.column],
    "paper": lambda place: place.paper and place.paper.value,
    "paper_error": lambda place: place.paper and place.paper.error,
    "rate": _measured(lambda cell: _points(cell.rate.value)),
    "low": _measured(lambda cell: _points(cell.rate.interval.low)),
    "high": _measured(lambda cell: _points(cell.rate.interval.high)),
    "n": _measured(lambda cell: cell.rate.scored),
    "n_eff": _measured(lambda cell: math.floor(cell.rate.effective + 0.5)),
    "missing": _measured(lambda cell: cell.missing),
    "protocol": _measured(lambda cell: cell.protocol),
    "paper_excluded": lambda place: place.cell and place.paper and excludes(place.cell, place.paper),
    "runs": _measured(lambda cell: " ".join(cell.runs)),
}


@dataclass(frozen=True)
class TablesConfig:
    """Print the paper's tables, and next to each the same table measured from recorded runs.

    Attributes:
        runs: Run folders, or folders or patterns that hold run folders; results/runs by default, if it exists.
        tables: Numbers of the paper's tables to print.
        audit: Print a check of the paper's numbers instead of its tables: averages, grids, errors, agreement.
        se_style: How the uncertainty of a rate is printed: "interval" is a 95 % interval, "paper" is ± the standard
            error over all episodes, as OpenVLA and the work that follows it print.
        mixed_protocols: Print runs of different protocols in one table, with footnotes.
        format: Format in which the tables are printed; csv has one line per cell.
        out: Folder to which tables.md, tables.tex, tables.csv and audit.md are written.
        paper: Folder that holds the paper's tables.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    tables: tuple[int, ...] = tuple(TITLES)
    audit: bool = False
    se_style: Style = "interval"
    mixed_protocols: bool = False
    format: SheetFormat = "table"
    out: Path | None = None
    paper: Path = PAPER


def command(arguments: list[str]) -> int:
    """Run `vla-eval tables`."""
    config = tyro.cli(TablesConfig, args=arguments, prog="vla-eval tables")
    tables = load_paper(config.paper, config.tables)
    if config.audit:
        show(render(audit(tables), config.format))
        return 0
    places = config.runs or ((str(RUNS),) if any(RUNS.rglob(HEADER)) else ())
    recorded = load_runs(*places) if places else Recorded(())
    measured = measure(recorded.runs, config.mixed_protocols)
    named = frozenset(row.conditions for table in load_paper(config.paper) for row in table.rows)

    def text(format: SheetFormat) -> str:
        if format == "csv":
            return tidy(tables, measured, named)
        pairs = [(published(table), ours(table, measured, named, config.se_style)) for table in tables]
        sheets = [sheet for pair in (*pairs, (others(measured),)) for sheet in pair if sheet is not None]
        unmeasured = () if measured else ("No runs: nothing stands beside the paper's tables yet.",)
        return render(sheets, format) + remarks((*recorded.notes, *unmeasured), format)

    show(text(config.format))
    if config.format == "csv":
        show("".join(f"{note}\n" for note in recorded.notes), stderr=True)
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


def tidy(tables: Sequence[PaperTable], measured: Measurements, named: Named) -> str:
    """Return one CSV line a cell: what the paper prints and what we measured."""
    places = [
        place_of(table, line, column)
        for table in tables
        for line in lines_of(table, measured, named)
        for column in table.columns
    ]
    return as_csv([_TIDY, *([tell(place) for tell in _TIDY.values()] for place in places)])


def place_of(table: PaperTable, line: Line, column: Column) -> Place:
    """Return what is known of a row in a column."""
    cell = line.cells.get(column)
    paper = line.printed.cells.get(column) if line.printed else None
    return Place(table, line, column, paper, None if cell is None or cell.rate.value is None else cell)


def _write(folder: Path, text: Callable[[SheetFormat], str], audited: str) -> None:
    kinds: dict[str, SheetFormat] = {"md": "markdown", "tex": "latex", "csv": "csv"}
    for suffix, kind in kinds.items():
        write_whole(folder / f"tables.{suffix}", text(kind))
    write_whole(folder / "audit.md", audited)


def _in_order(table: PaperTable, row: PaperRow) -> list[tuple[Column, Printed | None]]:
    return [(column, row.cells.get(column)) for column in table.columns]


def _printed(cell: tuple[Column, Printed | None]) -> str:
    column, printed = cell
    if printed is None:
        return ""
    if column.suite == DELTA:
        return f"{printed.value:+.1f}"
    return f"{printed.value:.1f}" + ("" if printed.error is None else f"±{printed.error:.1f}")

"""`vla-eval tables`: the paper's tables as printed, and the same tables from our runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from analysis.paper.audit import audit
from analysis.paper.filled import Line, Named, Style, excludes, lines_of, others, ours
from analysis.paper.measured import Measurements, measure
from analysis.paper.printed import DELTA, HEADINGS, PAPER, TITLES, Column, PaperRow, PaperTable, Printed, load_paper
from analysis.recorded import Recorded, load_runs
from analysis.sheets import Sheet, SheetFormat, remarks, render
from evals.record import HEADER
from evals.terminal.tables import as_csv
from evals.terminal.text import show, write_whole

RUNS = Path("results", "runs")
_TIDY = (
    "table", "row", "column", "paper", "paper_error", "rate", "low", "high", "n", "n_eff", "missing", "protocol",
    "paper_excluded", "runs",
)  # fmt: skip


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
    cells = [
        _tidy_cell(table, line, column)
        for table in tables
        for line in lines_of(table, measured, named)
        for column in table.columns
    ]
    return as_csv([_TIDY, *([cell.get(name, "") for name in _TIDY] for cell in cells)])


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

"""The paper's tables 3 to 9 as data: what was printed, under which conditions, in which layout.

"Bridging Scale Discrepancies in Robotic Control via Language-Based Action Representations", tables 3 to 9. The
numbers lie in `results/paper/table*.csv`, one printed number a line.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from evals.errors import RecordError, UsageError

_SOURCE = Path(__file__).resolve().parents[2] / "results" / "paper"
_WHEEL = Path(__file__).resolve().parent / "published"  # where the build puts a copy (pyproject.toml)
PAPER = _SOURCE if _SOURCE.is_dir() else _WHEEL
AVERAGE, DELTA = "average", "delta"
FIELDS = (
    "table", "group", "row", "size", "init", "pretrain_target", "motion", "method", "suite", "task", "value",
    "printed_error",
)  # fmt: skip

TITLES = {
    3: "Success rates (%) on LIBERO benchmark (models trained from scratch)",
    4: "Success rates (%) on SimplerEnv benchmark (models trained from scratch)",
    5: "Success rates (%) on LIBERO benchmark (models trained based on pretraining)",
    6: "Success rates (%) on SimplerEnv benchmark (models trained based on pretraining)",
    7: "Success rates (%) on Ours and raw motion and without motion",
    8: "Success rates (%) on LIBERO benchmark (models trained based on pretraining)",
    9: "Success rates (%) on SimplerEnv benchmark (models trained based on pretraining)",
}


class Conditions(NamedTuple):
    """What an experiment is told by; all empty for a published baseline but its method."""

    size: str = ""
    init: str = ""
    pretrain_target: str = ""
    motion: str = ""
    method: str = ""


class Column(NamedTuple):
    """A column of a table: a suite, or one task of it, or `AVERAGE` or `DELTA`."""

    suite: str
    task: str = ""


HEADINGS = {
    Column("libero_spatial"): "LIBERO-Spatial",
    Column("libero_object"): "LIBERO-Object",
    Column("libero_goal"): "LIBERO-Goal",
    Column("libero_10"): "LIBERO-Long",
    Column("simpler_bridge", "widowx_spoon_on_towel"): "Spoon/Towel",
    Column("simpler_bridge", "widowx_carrot_on_plate"): "Carrot/Plate",
    Column("simpler_bridge", "widowx_stack_cube"): "Stack Blocks",
    Column("simpler_bridge", "widowx_put_eggplant_in_basket"): "Eggplant/Basket",
    Column(AVERAGE): "Average",
    Column(DELTA): "Δ Avg.",
}
# Episodes behind one cell in the protocols that the paper follows: 10 tasks x 50 initial states, 24 scenes a task.
PROTOCOL_N = {column: 24 if column.task else 500 for column in HEADINGS if column.suite not in (AVERAGE, DELTA)}


class Printed(NamedTuple):
    """A printed number in percent (points for `DELTA`), and the ± printed with it, if any."""

    value: float
    error: float | None = None


@dataclass(frozen=True)
class PaperRow:
    """One row of one table."""

    group: str
    row: str
    conditions: Conditions
    cells: dict[Column, Printed]

    @property
    def label(self) -> str:
        """Group and row in one string."""
        return " ".join(part for part in (self.group, self.row) if part)

    @property
    def strata(self) -> dict[Column, Printed]:
        """The cells that the average is of."""
        return {column: cell for column, cell in self.cells.items() if column.suite not in (AVERAGE, DELTA)}


@dataclass(frozen=True)
class PaperTable:
    """A table as printed."""

    number: int
    rows: tuple[PaperRow, ...]

    @property
    def title(self) -> str:
        """The caption."""
        return TITLES[self.number]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns, in print order."""
        used = {column for row in self.rows for column in row.cells}
        return tuple(column for column in HEADINGS if column in used)

    @property
    def strata(self) -> tuple[Column, ...]:
        """The columns that are suites or tasks."""
        return tuple(column for column in self.columns if column.suite not in (AVERAGE, DELTA))


def load_paper(folder: Path = PAPER, numbers: Sequence[int] = tuple(TITLES)) -> list[PaperTable]:
    """Read the paper's tables.

    Raises:
        UsageError: a table does not exist.
        RecordError: a line does not read.
    """
    unknown = sorted(set(numbers) - set(TITLES))
    if unknown:
        raise UsageError(f"The paper has no results table {unknown[0]}. Known: {', '.join(map(str, TITLES))}.")
    return [_load(folder / f"table{number}.csv", number) for number in numbers]


def _load(file: Path, number: int) -> PaperTable:
    if not file.is_file():
        raise UsageError(f"{file} does not exist: --paper names the folder with the paper's tables (results/paper).")
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            fields, lines = reader.fieldnames, list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{file} does not read as CSV: {error}.") from error
    if tuple(fields or ()) != FIELDS:
        raise RecordError(f"{file}: the columns are {fields}, expected {list(FIELDS)}.")
    rows: dict[tuple[str, str], PaperRow] = {}
    for at, line in enumerate(lines, start=2):
        column = Column(line["suite"], line["task"])
        if column not in HEADINGS:
            raise RecordError(f"{file}, line {at}: no column for suite {column.suite!r}, task {column.task!r}.")
        conditions = Conditions(*(line[name] for name in Conditions._fields))
        key = (line["group"], line["row"])
        row = rows.setdefault(key, PaperRow(*key, conditions, {}))
        try:
            row.cells[column] = Printed(
                float(line["value"]), float(line["printed_error"]) if line["printed_error"] else None
            )
        except (TypeError, ValueError) as error:
            raise RecordError(f"{file}, line {at}: {error}.") from error
    return PaperTable(number, tuple(rows.values()))

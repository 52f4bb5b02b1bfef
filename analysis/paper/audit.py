"""What arithmetic says about a printed table: averages, differences, grids, errors, and rows that should agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from analysis.paper.printed import AVERAGE, DELTA, HEADINGS, PROTOCOL_N, Column, PaperRow, PaperTable, Printed
from evals.summary import binomial_standard_error, equal_weight_mean, wilson
from evals.terminal.tables import Sheet

HALF_DIGIT = 0.05  # percent: everything is printed to one decimal
_TOLERANCE = 1e-9
_LARGEST_N = 10_000


def on_grid(value: float, n: int) -> bool:
    """Return whether k successes of n, for some k, print as a value in percent with one decimal."""
    return abs(100 * round(value * n / 100) / n - value) <= HALF_DIGIT + _TOLERANCE


def smallest_n(values: Sequence[float]) -> int:
    """Return the fewest episodes a cell that can give every printed value (each cell with the same number)."""
    return next(n for n in range(1, _LARGEST_N) if all(on_grid(value, n) for value in values))


def implied_n(printed: Printed) -> tuple[int, int] | None:
    """Return the least and greatest n for which sqrt(p(1-p)/n) prints as the error beside the value, if any."""
    if printed.error is None or not 0 < printed.value < 100:
        return None
    variance = printed.value * (100 - printed.value)
    low = math.ceil(variance / (printed.error + HALF_DIGIT) ** 2 - _TOLERANCE)
    high = math.floor(variance / (printed.error - HALF_DIGIT) ** 2 + _TOLERANCE)
    return low, high


class Explanation(NamedTuple):
    """Which numbers of episodes explain the most printed errors, and the errors that they do not explain."""

    ns: tuple[int, ...]
    explained: int
    exceptions: tuple[str, ...]


def explain_errors(cells: Sequence[tuple[str, Printed]], step: int) -> Explanation | None:
    """Return the multiples of the protocol's n (n seeds of it) whose sqrt(p(1-p)/n) prints as most of the errors.

    Args:
        cells: where each number stands, and what was printed.
        step: the protocol's n.

    Returns:
        None if no error was printed.
    """
    spans = [(where, span) for where, printed in cells if (span := implied_n(printed)) is not None]
    if not spans:
        return None
    candidates = range(step, max(high for _, (_, high) in spans) + step, step)
    counts = {n: sum(low <= n <= high for _, (low, high) in spans) for n in candidates}
    most = max(counts.values())
    ns = tuple(n for n, count in counts.items() if count == most)
    exceptions = tuple(where for where, (low, high) in spans if not low <= ns[0] <= high)
    return Explanation(ns, most, exceptions)


def honest_error(row: PaperRow, column: Column) -> float | None:
    """Return the standard error in percent over the protocol's episodes: 500 a LIBERO suite, 24 a SimplerEnv task.

    The average's is the stratified error of an equal-weight mean. A difference has none here.
    """
    if column.suite == DELTA:
        return None
    if column.suite == AVERAGE:
        rates = [cell.value / 100 for cell in row.strata.values()]
        return 100 * equal_weight_mean(rates, [PROTOCOL_N[c] for c in row.strata]).standard_error
    return 100 * binomial_standard_error(row.cells[column].value / 100, PROTOCOL_N[column])


def audit(tables: Sequence[PaperTable]) -> list[Sheet]:
    """Return everything that can be checked in printed tables, as sheets."""
    return [_sums(tables), _grids(tables), _agreement(tables), *(_errors(table) for table in tables)]


def wrong_averages(tables: Iterable[PaperTable]) -> list[tuple[PaperTable, PaperRow, float]]:
    """Return rows whose printed average is not the mean of their printed cells, to the printed digit."""
    found = []
    for table in tables:
        for row in table.rows:
            mean = sum(cell.value for cell in row.strata.values()) / len(row.strata)
            if abs(mean - row.cells[Column(AVERAGE)].value) > HALF_DIGIT + _TOLERANCE:
                found.append((table, row, mean))
    return found


def wrong_deltas(tables: Iterable[PaperTable]) -> list[tuple[PaperTable, PaperRow, float]]:
    """Return rows whose printed difference is not that of their and the next row's printed averages."""
    found = []
    for table in tables:
        for row, other in itertools.pairwise(table.rows):
            if Column(DELTA) in row.cells:
                difference = row.cells[Column(AVERAGE)].value - other.cells[Column(AVERAGE)].value
                if abs(difference - row.cells[Column(DELTA)].value) > _TOLERANCE:
                    found.append((table, row, difference))
    return found


def disagreements(tables: Sequence[PaperTable]) -> list[tuple[PaperTable, PaperRow, PaperTable, PaperRow]]:
    """Return pairs of rows of the same experiment (equal conditions and columns) that print different numbers."""
    rows = [(table, row) for table in tables for row in table.rows if row.conditions.init]
    return [
        (table, row, other_table, other)
        for (table, row), (other_table, other) in itertools.combinations(rows, 2)
        if row.conditions == other.conditions
        and set(row.strata) == set(other.strata)
        and any(row.strata[column].value != other.strata[column].value for column in row.strata)
    ]


def _sums(tables: Sequence[PaperTable]) -> Sheet:
    rows = [
        (f"{table.number}: {row.label}", what, f"{row.cells[Column(kind)].value:.1f}", f"{value:.3f}")
        for what, kind, found in (
            ("average", AVERAGE, wrong_averages(tables)),
            ("difference", DELTA, wrong_deltas(tables)),
        )
        for table, row, value in found
    ]
    averages = sum(len(table.rows) for table in tables)
    deltas = sum(Column(DELTA) in row.cells for table in tables for row in table.rows)
    kinds = [row[1] for row in rows]
    note = (
        f"{averages - kinds.count('average')} of {averages} averages and {deltas - kinds.count('difference')} of"
        f" {deltas} differences follow from the printed cells."
    )
    return Sheet(
        "Averages and differences that do not follow", ("Row", "What", "Printed", "Computed"), tuple(rows), (note,)
    )


def _grids(tables: Sequence[PaperTable]) -> Sheet:
    rows = []
    for table in tables:
        cells = [(column, cell.value) for row in table.rows for column, cell in row.strata.items()]
        n = PROTOCOL_N[cells[0][0]]
        fitting = sum(on_grid(value, n) for _, value in cells)
        least = smallest_n([value for _, value in cells])
        rows.append((str(table.number), str(len(cells)), str(n), f"{fitting} of {len(cells)}", str(least)))
    header = ("Table", "Cells", "Protocol's n", "On its grid", "Least n for all")
    notes = ("A cell is on the grid of n if some k of n prints as its value. From n = 1000 on, every value is.",)
    return Sheet("Which number of episodes could give the cells", header, tuple(rows), notes)


def _agreement(tables: Sequence[PaperTable]) -> Sheet:
    found = disagreements(tables)
    rows = []
    for table, row, other_table, other in found:
        for number, one in ((table.number, row), (other_table.number, other)):
            values = tuple(f"{one.cells[column].value:.1f}" for column in one.strata)
            rows.append((f"{number}: {one.label}", *values))
    columns = [HEADINGS[column] for column in found[0][1].strata] if found else []
    title = "Rows of the same experiment that print different numbers"
    return Sheet(title, ("Row", *columns), tuple(rows), () if found else ("None.",))


def _errors(table: PaperTable) -> Sheet:
    columns = [column for column in table.columns if column.suite != DELTA]
    rows = tuple((row.group, row.row, *(_both_errors(row, column) for column in columns)) for row in table.rows)
    header = ("", "", *(HEADINGS[column] for column in columns))
    n = PROTOCOL_N[table.strata[0]]
    notes = [f"Value ± printed → ± over the protocol's {n} episodes a cell (average: stratified; 0: 95 % interval)."]
    ours = [row for row in table.rows if row.conditions.init]
    cells = [(_where(row, c), row.cells[c]) for row in ours for c in row.strata]
    averages = [(_where(row, Column(AVERAGE)), row.cells[Column(AVERAGE)]) for row in ours]
    notes += [*_explain("cell", cells, n), *_explain("average", averages, n)]
    notes += [
        f"{row.label}: its average's ± implies n from {span[0]} to {span[1]}."
        for row in table.rows
        if not row.conditions.init and (span := implied_n(row.cells[Column(AVERAGE)])) is not None
    ]
    return Sheet(f"Table {table.number}: printed and honest errors", header, rows, tuple(notes), labels=2)


def _where(row: PaperRow, column: Column) -> str:
    cell = row.cells[column]
    return f"{row.label} {HEADINGS[column]} {cell.value:.1f}±{cell.error}"


def _both_errors(row: PaperRow, column: Column) -> str:
    cell, error = row.cells[column], honest_error(row, column)
    if cell.value in (0, 100):
        # The standard error of nothing seen is not 0: Wilson's bounds say what may still be true.
        low, high = wilson(cell.value / 100 * PROTOCOL_N[column], PROTOCOL_N[column])
        return f"{cell.value:.1f} → {100 * low:.0f} to {100 * high:.0f}"
    printed = "" if cell.error is None else f"±{cell.error:.1f} "
    return f"{cell.value:.1f} {printed}→ ±{error:.1f}"


def _explain(what: str, cells: Sequence[tuple[str, Printed]], protocol_n: int) -> list[str]:
    found = explain_errors(cells, protocol_n)
    if found is None:
        return []
    ns = " or ".join(f"{n}" for n in found.ns)
    text = f"The ± of {found.explained} of {len(cells)} {what}s is sqrt(p(1-p)/n) with n = {ns}"
    if found.exceptions:
        text += f" (not of {'; '.join(found.exceptions)})"
    if what == "cell" and found.ns[0] > protocol_n:
        text += f"; over {protocol_n} episodes it is √{found.ns[0] / protocol_n:g} times as large"
    return [text + "."]

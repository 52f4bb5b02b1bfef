"""The CSV files hold what the paper prints, number by number."""

import itertools
import re

import pytest

from analysis.paper.printed import AVERAGE, DELTA, HEADINGS, TITLES, Column, Printed, load_paper
from evals.errors import RecordError, UsageError

TABLES = {table.number: table for table in load_paper()}


def rows_of(text: str, number: int) -> list[list[str]]:
    """Return the lines of one table of the paper's text, cut at tabs."""
    caption = re.search(rf"^Table {number}: ", text, re.MULTILINE)
    before = text[: caption.start()].rstrip().splitlines()
    lines = list(itertools.takewhile(lambda line: "\t" in line, reversed(before)))
    return [line.split("\t") for line in reversed(lines)][1:]


def printed(cell: str) -> Printed:
    value, _, error = cell.partition("±")
    return Printed(float(value), float(error) if error else None)


@pytest.mark.parametrize("number", list(TITLES))
def test_every_printed_number_and_its_error_agree_with_the_papers_text(shared, number):
    expected = []
    for line in rows_of((shared / "paper.txt").read_text(), number):
        cells = [printed(cell) for cell in line if re.fullmatch(r"[-+]?\d+(\.\d+)?(±\d\.\d)?", cell)]
        expected.append(cells)
    assert [list(row.cells.values()) for row in TABLES[number].rows] == expected


@pytest.mark.parametrize("number", list(TITLES))
def test_row_labels_and_caption_agree_with_the_papers_text(shared, number):
    text = (shared / "paper.txt").read_text()
    assert f"Table {number}: {TITLES[number]}" in text
    groups = [cell for line in rows_of(text, number) for cell in line if cell and not cell[0].isdigit()]
    for row in TABLES[number].rows:
        assert not row.group or row.group in groups or any(row.group == line[0] for line in rows_of(text, number))


def test_there_are_48_libero_cells_in_tables_3_and_5():
    assert sum(len(row.strata) for number in (3, 5) for row in TABLES[number].rows) == 48


def test_every_row_has_four_cells_and_an_average():
    for table in TABLES.values():
        for row in table.rows:
            assert len(row.strata) == 4
            assert Column(AVERAGE) in row.cells


def test_conditions_name_every_experiment_of_ours_once_in_a_table():
    for table in TABLES.values():
        conditions = [row.conditions for row in table.rows]
        assert len(set(conditions)) == len(conditions)
        assert all(all(c) for c in conditions if c.method == "ours")


def test_columns_come_in_print_order():
    assert [HEADINGS[column] for column in TABLES[3].columns] == [
        "LIBERO-Spatial", "LIBERO-Object", "LIBERO-Goal", "LIBERO-Long", "Average", "Δ Avg.",
    ]  # fmt: skip
    assert Column(DELTA) not in TABLES[8].columns


def test_a_table_that_the_paper_does_not_have_is_refused():
    with pytest.raises(UsageError, match="no results table 12"):
        load_paper(numbers=(12,))


def test_a_missing_folder_and_a_broken_line_name_the_file(tmp_path):
    with pytest.raises(UsageError, match=re.escape("--paper")):
        load_paper(tmp_path, (3,))
    (tmp_path / "table3.csv").write_text("table,value\n3,84.0\n")
    with pytest.raises(RecordError, match="expected"):
        load_paper(tmp_path, (3,))
    header = "table,group,row,size,init,pretrain_target,motion,method,suite,task,value,printed_error\n"
    for line in ("3,a,b,,,,,,libero_spatial,,many,\n", "3,a,b,,,,,,libero_moon,,1,\n"):
        (tmp_path / "table3.csv").write_text(header + line)
        with pytest.raises(RecordError, match="line 2"):
            load_paper(tmp_path, (3,))

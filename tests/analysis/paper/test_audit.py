"""The audit finds what arithmetic can find in the paper's printed tables."""

import pytest

from analysis.paper.audit import (
    audit,
    disagreements,
    explain_errors,
    honest_error,
    implied_n,
    on_grid,
    smallest_n,
    wrong_averages,
    wrong_deltas,
)
from analysis.paper.printed import AVERAGE, Column, Printed, load_paper
from analysis.paper.tables import command
from evals.terminal.tables import render

TABLES = load_paper()
BY_NUMBER = {table.number: table for table in TABLES}


def cells(number, column=None):
    return [
        (f"{row.label} {c}", cell)
        for row in BY_NUMBER[number].rows
        if row.conditions.init
        for c, cell in (row.strata.items() if column is None else [(column, row.cells[column])])
    ]


def test_one_average_does_not_follow_from_its_cells():
    [(table, row, mean)] = wrong_averages(TABLES)
    assert (table.number, row.label, mean) == (4, "1.5B w/o motion", pytest.approx(15.375))
    assert row.cells[Column(AVERAGE)].value == 15.3


def test_every_difference_follows_from_the_averages():
    assert wrong_deltas(TABLES) == []


@pytest.mark.parametrize("number", [3, 5])
def test_the_libero_cells_are_multiples_of_a_fifth_of_a_percent(number):
    values = [cell.value for _, cell in cells(number)]
    assert len(values) == 24
    assert all(on_grid(value, 500) for value in values)
    assert smallest_n(values) == 500


def test_the_simpler_cells_do_not_sit_on_the_grid_of_24_episodes():
    values = [cell.value for _, cell in cells(4)]
    assert not all(on_grid(value, 24) for value in values)
    assert smallest_n([16.7, 19.6, 14.1, 20.5, 22.7]) == 419
    assert smallest_n(values) >= 419


def test_on_grid_is_what_rounding_gives():
    for n in (24, 50, 500):
        printed = {round(100 * k / n, 1) for k in range(n + 1)}
        assert {value / 10 for value in range(1001) if on_grid(value / 10, n)} >= printed


def test_the_printed_errors_imply_three_times_500_episodes():
    explained = {number: explain_errors(cells(number), 500) for number in (3, 5)}
    assert [explained[number].ns for number in (3, 5)] == [(1500,), (1500,)]
    assert explained[5].exceptions == ()
    # 45 of the 48: these three of table 3 are a tenth off sqrt(p(1-p)/1500).
    assert [where.split("'")[1] for where in explained[3].exceptions] == [
        "libero_object",
        "libero_spatial",
        "libero_goal",
    ]


def test_the_papers_averages_imply_6000_episodes_and_openvlas_4500():
    assert 6000 in explain_errors(cells(3, Column(AVERAGE)), 500).ns
    assert explain_errors(cells(5, Column(AVERAGE)), 500).ns == (6000,)
    openvla = next(row for row in BY_NUMBER[8].rows if row.group == "Openvla")
    low, high = implied_n(openvla.cells[Column(AVERAGE)])
    assert low <= 4500 <= high < 6000


def test_the_implied_n_is_the_range_that_prints_the_error():
    printed = Printed(86.0, 0.9)
    low, high = implied_n(printed)
    prints = [n for n in range(1000, 2500) if round((86 * 14 / n) ** 0.5, 1) == 0.9]
    assert (low, high) == (prints[0], prints[-1])
    assert implied_n(Printed(0.0, 0.0)) is None


def test_honest_errors_are_root_three_times_the_printed_ones():
    for row in BY_NUMBER[5].rows:
        for column, cell in row.strata.items():
            assert honest_error(row, column) / cell.error == pytest.approx(3**0.5, rel=0.07)


def test_table_7_repeats_rows_of_table_5_with_other_numbers():
    found = {(a.number, row.label, b.number, other.label) for a, row, b, other in disagreements(TABLES)}
    assert (5, "0.5B w/ motion", 7, "Ours (0.5B)") in found
    assert (5, "0.5B w/o motion", 7, "w/o motion") in found
    assert {number for pair in found for number in (pair[0], pair[2])} == {5, 7, 8}
    assert all(7 in (pair[0], pair[2]) for pair in found)


def test_a_table_without_errors_has_nothing_to_explain():
    assert explain_errors(cells(4), 24) is None


def test_the_audit_names_what_it_finds(capsys):
    assert command(["--audit", "--format", "markdown"]) == 0
    printed = capsys.readouterr().out
    for finding in (
        "| 4: 1.5B w/o motion | average | 15.3 | 15.375 |",
        "41 of 42 averages and 12 of 12 differences follow",
        "| 3 | 24 | 500 | 24 of 24 | 500 |",
        "| 4 | 24 | 24 | 7 of 24 | 800 |",
        "The ± of 24 of 24 cells is sqrt(p(1-p)/n) with n = 1500; over 500 episodes it is √3 times as large.",
        "Openvla: its average's ± implies n from 4256 to 5942.",
        "| 7: Ours (0.5B) | 86.2 | 84.6 | 76.2 | 51.1 |",
        "86.0 ±0.9 → ±1.6",
        "0.0 → 0 to 14",
    ):
        assert finding in printed


@pytest.mark.parametrize("format", ["table", "markdown", "latex", "csv"])
def test_the_audit_prints_in_every_format(format):
    text = render(audit(TABLES), format)
    assert all(value in text for value in ("15.375", "800"))

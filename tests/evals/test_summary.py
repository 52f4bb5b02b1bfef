"""A success rate is printed with its error, and what is missing is said."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.errors import RecordError, UsageError
from evals.summary import (
    binomial_standard_error,
    effective_n,
    equal_weight_interval,
    equal_weight_mean,
    summarise,
    wilson,
    worst_case,
)
from evals.summary_format import COLUMNS, notes, render, rich_table
from evals.terminal.tables import NOTHING, Column
from evals.types import EpisodeResult, Seconds, Status, Task

TASKS = tuple(Task(id=i, name=f"task_{i}", instruction=f"do {i}", max_steps=10) for i in range(3))


def result(task, state, status=Status.SUCCESS, seed=0, trajectory=None, **changes):
    success = status is Status.SUCCESS
    fields = {
        "suite": "toy",
        "task": task,
        "initial_state": state,
        "seed": seed,
        "episode_id": f"{task}-{state}-{seed}",
        "status": status,
        "success_first": 5 if success else None,
        "success_ever": success,
        "success_last": success,
        "success_at_reset": False,
        "official": True,
        "steps": 5,
        "seconds": Seconds(),
        "trajectory_hash": f"{task}-{state}-{seed}" if trajectory is None else trajectory,
        "scene_hash": "",
        "protocol_hash": "p",
        "worker": 0,
        "attempt": 0,
    }
    return EpisodeResult(**{**fields, **changes})


def test_wilson_agrees_with_newcombe_1998_table_1():
    # Newcombe, Statistics in Medicine 17:857 (1998), table I, method 3.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), expected in published.items():
        assert wilson(successes, n) == pytest.approx(expected, abs=5e-5)


def test_the_standard_error_of_86_percent_over_500_is_1_55_points():
    assert binomial_standard_error(0.86, 500) == pytest.approx(0.015518, abs=1e-6)


@given(n=st.integers(1, 2000), data=st.data())
def test_wilson_holds_the_rate_and_mirrors(n, data):
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored = wilson(n - successes, n)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-12)


def test_no_episode_says_nothing():
    assert wilson(0, 0) == (0, 1)


def test_rates_outside_zero_and_one_are_refused():
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="rate"):
        binomial_standard_error(1.2, 5)


def test_the_mean_weighs_tasks_equally_whatever_their_n():
    mean = equal_weight_mean([0.0, 0.5], [1000, 10])
    assert mean.value == 0.25
    assert mean.standard_error == pytest.approx(math.sqrt(0.25 / 10) / 2)


def test_with_equal_n_the_interval_of_the_mean_is_wilsons_of_the_pooled_rate():
    assert equal_weight_interval([0.2, 0.6], [50, 50]) == pytest.approx(wilson(40, 100))


def test_a_perfect_suite_still_has_an_interval():
    assert equal_weight_interval([1.0] * 10, [50] * 10).low == pytest.approx(wilson(500, 500).low)


def test_three_seeds_of_the_same_trajectories_are_one():
    assert effective_n([f"t{i}" for i in range(500)] * 3) == pytest.approx(500)


def test_distinct_or_unrecorded_trajectories_all_count():
    assert effective_n(["a", "b", "", ""]) == 4
    assert effective_n([]) == 0


def test_effective_n_gives_the_variance_of_the_plain_mean():
    rng = np.random.default_rng(0)
    repeats = np.array([1, 1, 2, 5, 3])
    draws = rng.random((40_000, len(repeats))) < 0.3
    means = draws @ repeats / repeats.sum()
    n = effective_n("abcde"[i] for i in np.repeat(np.arange(5), repeats))
    assert means.var() == pytest.approx(0.3 * 0.7 / n, rel=0.03)


def test_missing_episodes_widen_the_bounds_and_never_move_the_rate():
    assert worst_case(40, 45, 50) == (0.8, 0.9)
    with pytest.raises(ValueError, match="planned"):
        worst_case(40, 45, 44)


def test_a_crash_is_missing_and_not_a_failure():
    results = [result(0, 0), result(0, 1, Status.FAILURE), result(0, 2, Status.SIM_ERROR, error="died")]
    summary = summarise("toy", TASKS, results, {0: 4})
    row = summary.tasks[0]
    assert (row.value, row.scored, row.missing, row.errors) == (0.5, 2, 2, {"sim_error": 1})
    assert row.bounds == (0.25, 0.75)
    assert notes(summary) == [
        "INCOMPLETE: 2 of 4 episodes have no score (1 sim_error);"
        " the mean lies between 25.0 and 75.0 % whatever they were."
    ]


def test_a_task_without_any_score_leaves_no_mean():
    summary = summarise("toy", TASKS, [result(0, 0)], {0: 1, 1: 1})
    assert summary.mean.value is None
    assert summary.mean.bounds == (0.5, 1)
    assert f"| {NOTHING} |" in render(summary, "markdown")


def test_repeated_trajectories_widen_the_interval_and_are_said():
    results = [result(0, state, seed=seed, trajectory=f"t{state}") for state in range(10) for seed in range(3)]
    summary = summarise("toy", TASKS, results, {0: 30})
    assert summary.tasks[0].interval == pytest.approx(wilson(10, 10))
    assert any("30 episodes carry as much as 10" in note for note in notes(summary))


def test_free_points_foreign_states_and_other_success_rules_are_said():
    results = [
        result(0, 0, success_at_reset=True),
        result(0, 1, official=False, success_last=False),
    ]
    text = " ".join(notes(summarise("toy", TASKS, results, {0: 2})))
    assert "(free points): 1." in text
    assert "not comparable: 1." in text
    assert "at the last step: 1, as the protocol scores it: 2" in text


def test_an_episode_counted_twice_is_an_error():
    with pytest.raises(RecordError, match="twice"):
        summarise("toy", TASKS, [result(0, 0), result(0, 0)], {0: 2})


def test_results_of_a_task_nobody_planned_are_an_error():
    with pytest.raises(RecordError, match="not planned"):
        summarise("toy", TASKS, [result(1, 0)], {0: 1})


@pytest.fixture
def summary():
    results = [
        result(task, state, Status.SUCCESS if state else Status.FAILURE) for task in (0, 2) for state in range(4)
    ]
    return summarise("toy", TASKS, results, {0: 4, 2: 4})


def test_the_table_for_the_terminal_shows_rate_interval_and_n(summary):
    text = render(summary)
    assert "0 do 0" in text
    assert "75.0" in text
    assert "30.1 to 95.4" in text


def test_a_mean_prints_with_its_interval_and_n(summary):
    assert str(summary.mean) == "75.0 % of 8 episodes, 95 % interval 40.9 to 92.9"
    assert summary.interval == summary.mean.interval


def test_markdown_is_a_table_with_one_row_a_task_and_the_mean(summary):
    lines = render(summary, "markdown").splitlines()
    assert len(lines) == 5
    assert all(line.count("|") == 8 for line in lines)


def test_csv_and_json_hold_the_same_numbers(summary):
    rows = list(csv.DictReader(io.StringIO(render(summary, "csv"))))
    data = json.loads(render(summary, "json"))
    assert [float(row["rate"]) for row in rows] == [row["rate"] for row in data["rows"]] == [0.75, 0.75, 0.75]
    assert rows[-1]["name"] == "mean"


def test_a_column_is_one_line_and_stands_in_every_format(summary, monkeypatch):
    monkeypatch.setattr("evals.summary_format.COLUMNS", [*COLUMNS, Column("lost", lambda r: 7 * r.missing, "Lost")])
    rows = [line.split("|")[-2].strip() for line in render(summary, "markdown").splitlines() if line[:1] == "|"]
    assert rows == ["Lost", "---:", "0", "0", "0"]
    assert "Lost" in render(summary, "table")
    assert [column.header for column in rich_table(summary).columns][-1] == "Lost"
    assert [row["lost"] for row in csv.DictReader(io.StringIO(render(summary, "csv")))] == ["0", "0", "0"]
    assert [row["lost"] for row in json.loads(render(summary, "json"))["rows"]] == [0, 0, 0]


def test_an_unknown_format_is_a_usage_error(summary):
    with pytest.raises(UsageError, match="yaml"):
        render(summary, "yaml")


def test_a_partial_outcome_stands_beside_success_and_only_where_the_suite_counts_one():
    half = [result(0, i, Status.FAILURE, partial={"grasped": i == 0, "moved": True}) for i in range(2)]
    summary = summarise("toy", TASKS, [*half, result(1, 0, partial={"grasped": True, "moved": False})], {0: 2, 1: 1})
    assert "| Task | Success | grasped | 95 % interval |" in render(summary, "markdown")
    assert "| 0 do 0 | 0.0 | 50.0 |" in render(summary, "markdown")
    assert "| Mean of tasks | 50.0 | 75.0 |" in render(summary, "markdown")
    rows = list(csv.DictReader(io.StringIO(render(summary, "csv"))))
    assert [(row["grasped"], row["moved"]) for row in rows] == [("0.5", "1.0"), ("1.0", "0.0"), ("0.75", "0.5")]
    assert "grasped" not in render(summarise("toy", TASKS, [result(0, 0)], {0: 1}), "csv")


def test_an_episode_without_a_partial_outcome_is_missing_and_not_without_success_in_it():
    known, older = result(0, 0, partial={"grasped": True}), result(0, 1)
    summary = summarise("toy", TASKS, [known, older, result(1, 0)], {0: 2, 1: 1})
    assert summary.tasks[0].partial == {"grasped": 1.0}
    assert f"| 1 do 1 | 100.0 | {NOTHING} |" in render(summary, "markdown")
    assert summary.mean.partial == {"grasped": None}


def test_partial_outcomes_survive_the_record_and_old_lines_read_as_before():
    known, older = result(0, 0, partial={"grasped": True}), result(0, 1)
    assert EpisodeResult.from_json(json.loads(json.dumps(known.to_json()))) == known
    assert known.to_json()["partial.grasped"] is True
    assert not [name for name in older.to_json() if name.startswith("partial")]
    with pytest.raises(ValueError, match="true or false"):
        EpisodeResult.from_json({**older.to_json(), "partial.grasped": "no"})
    assert EpisodeResult.from_json(older.to_json()) == older

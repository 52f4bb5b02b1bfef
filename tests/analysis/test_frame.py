"""Run folders become one row an episode, whatever their number and state."""

import json
import time

import pandas as pd
import pytest

from analysis.frame import COLUMNS, episodes, episodes_of, find_runs, planned
from evals.errors import RunFolderError, UsageError
from evals.record import read_run


def test_a_frame_has_the_declared_columns_and_one_row_an_episode(write_run, tmp_path):
    write_run(tmp_path / "a", ["+-+", "+!"], conditions={"size": "0.5B", "motion": "adaptive"})
    frame = episodes(tmp_path)
    assert list(frame.columns) == list(COLUMNS)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    assert len(frame) == 5
    assert frame["size"].unique().tolist() == ["0.5B"]
    assert frame["render_seconds"].tolist() == [2.0] * 5


def test_a_crash_is_a_row_without_a_score(write_run, tmp_path):
    frame = episodes(write_run(tmp_path / "a", ["+!"]))
    assert frame["scored"].tolist() == [True, False]
    assert frame["error"].tolist() == ["", "Traceback: it died"]
    assert frame.loc[frame["scored"], "success"].mean() == 1


def test_runs_of_a_whole_tree_stack_and_keep_their_origin(write_run, tmp_path):
    write_run(tmp_path / "x" / "seed0", ["++"], policy="one")
    write_run(tmp_path / "y" / "seed0", ["--"], policy="two")
    frame = episodes(tmp_path)
    assert frame.groupby("policy", observed=True)["success"].mean().to_dict() == {"one": 1, "two": 0}
    assert find_runs(tmp_path, tmp_path / "x") == [tmp_path / "x" / "seed0", tmp_path / "y" / "seed0"]


def test_a_run_that_has_not_recorded_anything_yet_gives_no_rows(write_run, tmp_path):
    frame = episodes(write_run(tmp_path / "a", [" "]))
    assert len(frame) == 0
    assert list(frame.columns) == list(COLUMNS)


@pytest.mark.parametrize("place", ["missing", ""])
def test_no_runs_is_an_error_that_names_the_place(tmp_path, place):
    with pytest.raises(UsageError, match=str(tmp_path)):
        episodes(tmp_path / place)


def test_a_record_of_a_newer_format_is_refused(write_run, edit_header, tmp_path):
    edit_header(write_run(tmp_path / "a", ["+"]), format=99)
    with pytest.raises(RunFolderError, match="Upgrade"):
        episodes(tmp_path)


def test_the_plan_is_the_widest_of_all_starts(write_run, edit_header, tmp_path):
    path = write_run(tmp_path / "a", ["+", "+"])
    sessions = [{"config": {"tasks": []}, "planned": 8}, {"config": {"tasks": ["reach_left"]}, "planned": 5}]
    edit_header(path, sessions=sessions)
    assert planned(read_run(path)) == {0: 5, 1: 2, 2: 2, 3: 2}
    edit_header(path, sessions=[{"planned": 3}])
    with pytest.raises(RunFolderError, match="what was planned"):
        planned(read_run(path))


def test_the_plan_of_a_real_run_is_what_the_evaluator_ran(reach_runs):
    assert planned(read_run(reach_runs / "steady")) == dict.fromkeys(range(4), 10)


def test_reading_by_columns_and_line_by_line_agree(write_run, reach_runs, tmp_path):
    path = write_run(tmp_path / "a", ["+-!", "!!+"])
    lines = (path / "episodes.jsonl").read_text().splitlines()
    again = [line.replace('"sim_error"', '"success"').replace('"attempt": 1', '"attempt": 2') for line in lines[2:4]]
    died = [line.replace('"success"', '"timeout"') for line in lines[:1]]
    (path / "episodes.jsonl").write_text("\n".join([*lines, *again, *died]) + "\n")
    for place in (path, reach_runs):
        by_line = episodes_of(read_run(run) for run in find_runs(place))
        pd.testing.assert_frame_equal(episodes(place), by_line)
    frame = episodes(path)
    assert frame["status"].tolist() == ["success", "failure", "success", "success", "sim_error", "success"]
    assert frame["attempt"].tolist() == [1, 1, 2, 2, 1, 1]


@pytest.mark.parametrize("cut", ["line", "field", "word"])
def test_a_damaged_record_is_read_or_refused_as_the_evaluator_does(write_run, tmp_path, cut):
    path = write_run(tmp_path / "a", ["++"])
    text = (path / "episodes.jsonl").read_text()
    damaged = {"line": text[:-9], "field": text.replace('"worker": 0, ', ""), "word": text.replace("success", "won", 2)}
    (path / "episodes.jsonl").write_text(damaged[cut])
    if cut == "line":
        assert len(episodes(path)) == 1
    else:
        with pytest.raises(RunFolderError, match="line 1"):
            episodes(path)


def test_a_hundred_thousand_episodes_take_less_than_two_seconds_of_cpu_time(write_run, tmp_path):
    path = write_run(tmp_path / "a", ["+"])
    line = (path / "episodes.jsonl").read_text()
    known = json.loads(line)["episode_id"]
    (path / "episodes.jsonl").write_text("".join(line.replace(known, f"{i:016x}") for i in range(100_000)))
    started = time.process_time()
    assert len(episodes(path)) == 100_000
    assert time.process_time() - started < 2

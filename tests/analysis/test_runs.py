"""Run folders become one row an episode, whatever their number and state."""

import json
import os
import shutil
import time
from functools import partial

import pytest

from analysis.recorded import decision_of, find_runs, load_runs, planned
from analysis.runs import COLUMNS, episodes
from evals.errors import RunFolderError, UsageError
from evals.record import read_run
from evals.types import Episode, Seconds


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


def test_one_row_an_episode_is_kept_as_the_evaluator_keeps_it(write_run, tmp_path):
    path = write_run(tmp_path / "a", ["+-!", "!!+"])
    lines = (path / "episodes.jsonl").read_text().splitlines()
    again = [line.replace('"sim_error"', '"success"').replace('"attempt": 1', '"attempt": 2') for line in lines[2:4]]
    died = [line.replace('"success"', '"timeout"') for line in lines[:1]]
    (path / "episodes.jsonl").write_text("\n".join([*lines, *again, *died]) + "\n")
    frame = episodes(path)
    assert frame["status"].tolist() == ["success", "failure", "success", "success", "sim_error", "success"]
    assert frame["attempt"].tolist() == [1, 1, 2, 2, 1, 1]


def test_a_whole_last_line_without_its_end_counts_everywhere(write_run, tmp_path):
    path = write_run(tmp_path / "a", ["+-"])
    (path / "episodes.jsonl").write_text((path / "episodes.jsonl").read_text().rstrip("\n"))
    assert len(episodes(path)) == len(read_run(path).results) == 2


@pytest.mark.parametrize(
    ("field", "value"), [("task", "0"), ("steps", 5.5), ("success_ever", 1), ("seed", None), ("steps", 10**30)]
)
def test_a_field_of_another_kind_is_refused_by_file_and_episode(write_run, tmp_path, field, value):
    path = write_run(tmp_path / "a", ["+"])
    line = json.loads((path / "episodes.jsonl").read_text())
    (path / "episodes.jsonl").write_text(json.dumps(line | {field: value}) + "\n")
    with pytest.raises(RunFolderError, match=r"episodes\.jsonl"):
        episodes(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"suite": {"name": "reach"}},
        {"suite": {"name": "reach", "tasks": [{"id": 0}]}},
        {"config": []},
        {"config": {}},
        {"sessions": None},
        {"sessions": [7]},
        {"protocol": "none"},
        {"conditions": ["size"]},
    ],
)
def test_a_header_that_lacks_what_tables_are_made_of_is_refused_by_file(write_run, edit_header, tmp_path, damage):
    edit_header(write_run(tmp_path / "a", ["+"]), **damage)
    with pytest.raises(RunFolderError, match=r"run\.json"):
        load_runs(tmp_path)


@pytest.mark.parametrize("damage", ["deep line", "deep header", "folder", "pipe"])
def test_a_record_that_is_none_ends_in_words(write_run, tmp_path, damage):
    path = write_run(tmp_path / "a", ["+"])
    lines = path / "episodes.jsonl"
    if damage.startswith("deep"):
        (lines if damage == "deep line" else path / "run.json").write_text("[" * 100_000 + "\n")
    else:
        lines.unlink()
        (lines.mkdir if damage == "folder" else partial(os.mkfifo, lines))()
    with pytest.raises(RunFolderError, match=str(path)):
        load_runs(path)


def test_a_run_without_a_session_has_no_plan(write_run, edit_header, tmp_path):
    edit_header(write_run(tmp_path / "a", ["+"]), sessions=[])
    with pytest.raises(RunFolderError, match="has no session"):
        planned(read_run(tmp_path / "a"))


def test_a_run_is_found_once_by_whatever_ways_it_is_reached(write_run, tmp_path):
    path = write_run(tmp_path / "runs" / "[a]", ["+"])
    (tmp_path / "link").symlink_to(path)
    assert find_runs(path, tmp_path / "runs", tmp_path / "link", tmp_path / "runs" / ".." / "runs") == [path]
    assert find_runs(tmp_path / "r*" / "*a*") == [path]


def test_a_copied_folder_is_left_out_and_a_second_measurement_is_not(write_run, tmp_path):
    path = write_run(tmp_path / "a", ["+-!"])
    shutil.copytree(path, tmp_path / "a-backup")
    write_run(tmp_path / "again", ["+-!"], seconds=Seconds(3.0))
    recorded = load_runs(tmp_path)
    assert [run.path.name for run in recorded.runs] == ["a", "again"]
    assert [note.split()[0] for note in recorded.notes] == [str(tmp_path / "a-backup")]


def test_of_a_copy_that_went_on_the_fuller_record_is_kept(write_run, tmp_path):
    path = write_run(tmp_path / "a", ["+-+-"])
    copy = shutil.copytree(path, tmp_path / "b")
    lines = (path / "episodes.jsonl").read_text().splitlines(keepends=True)
    (path / "episodes.jsonl").write_text("".join(lines[:2]))
    assert [run.path for run in load_runs(tmp_path).runs] == [copy]


def test_a_run_that_stopped_since_its_comparison_was_decided_has_planned_no_more(write_run, edit_header, tmp_path):
    path = write_run(tmp_path / "a", ["++  ", "+-  "])
    decided = {"text": "A is better than B.", "against": "runs/noop", "episodes": 4}
    session = {"config": {"tasks": ["0", "1"]}, "planned": 8}
    edit_header(path, sessions=[session, session | {"decided": decided}])
    run = read_run(path)
    assert planned(run) == {0: 2, 1: 2}
    assert "runs/noop was decided: A is better than B." in decision_of(run)
    edit_header(path, sessions=[session | {"decided": decided}, session])
    assert planned(read_run(path)) == {0: 4, 1: 4}
    assert decision_of(read_run(path)) == ""


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


@pytest.mark.slow
def test_a_hundred_thousand_episodes_take_less_than_ten_seconds_of_cpu_time(write_run, tmp_path):
    path = write_run(tmp_path / "a", ["+"])
    line = json.loads((path / "episodes.jsonl").read_text())
    scenes = [Episode("reach", 0, state, 0, line["protocol_hash"]) for state in range(100_000)]
    lines = (json.dumps(line | {"initial_state": scene.initial_state, "episode_id": scene.id}) for scene in scenes)
    (path / "episodes.jsonl").write_text("".join(f"{line}\n" for line in lines))
    started = time.process_time()
    assert len(episodes(path)) == 100_000
    assert time.process_time() - started < 10

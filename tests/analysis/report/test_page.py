"""The report says everything a run can say in one file that opens from disk."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from analysis.report.page import command, labels
from envs.reach import suite
from evals.errors import RecordError, RunFolderError, UsageError
from evals.record import read_run
from evals.summary_format import COLUMNS
from evals.terminal.tables import Column
from evals.types import Status


@pytest.fixture
def report(tmp_path):
    """Return report(*places, ...): the text of the page that the command writes."""

    def build(*places, **options):
        out = tmp_path / "out" / "report.html"
        flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        assert command([*map(str, places), "--out", str(out), *flags]) == 0
        return out.read_text()

    return build


def words(page: str) -> str:
    """Return the page's text without tags, spaces run together."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_page_is_one_file_without_a_link_to_anywhere(report, reach_runs):
    page = report(reach_runs)
    assert not re.search(r"(src|href)=\"(?!#|data:)", page)
    assert not re.search(r"https?://|@import|url\(", page)


def test_it_says_what_was_run_and_how(report, reach_runs):
    page = words(report(reach_runs / "shaky"))
    for fact in ("noise=0.05", "Command", "Revision", "mujoco", "Renderer NumPy", "Settle steps 5", "Hash"):
        assert fact in page


def test_success_stands_with_its_interval_and_n(report, reach_runs):
    page = words(report(reach_runs / "steady"))
    assert "Mean of tasks 100.0 91.2 to 100.0 0.0 40 40" in page


def test_failures_come_first_then_errors_then_successes(report, write_run, tmp_path):
    page = report(write_run(tmp_path / "a", ["+!-+", "-+"]))
    outcomes = re.findall(r'data-outcome="([^"]+)"', page)
    assert outcomes == ["failure", "failure", "simulator error", "success", "success", "success"]
    assert "Traceback: it died" in page


def test_missing_episodes_are_a_warning_beside_the_rate(report, write_run, tmp_path):
    page = words(report(write_run(tmp_path / "a", ["++! ", "++++"])))
    assert "INCOMPLETE: 2 of 8 episodes have no score (1 sim_error)" in page


def test_runs_of_one_suite_are_compared_on_their_episodes(report, reach_runs):
    page = words(report(reach_runs))
    assert "Same episodes, exact McNemar: p" in page
    assert "One run a suite" not in page


def test_runs_of_different_protocols_are_compared_with_a_warning(report, write_run, tmp_path):
    write_run(tmp_path / "runs" / "a", ["+"])
    settled = replace(suite(), protocol=replace(suite().protocol, settle_steps=99))
    write_run(tmp_path / "runs" / "b", ["-"], suite=settled)
    assert "These runs have different protocols" in words(report(tmp_path / "runs"))


def test_several_seeds_of_a_policy_are_compared_as_one(report, write_run, tmp_path):
    for policy, row in (("one", "++-"), ("other", "+--")):
        for seed in range(3):
            write_run(tmp_path / "runs" / policy / f"s{seed}", [row], policy=policy, seed=seed)
    page = words(report(tmp_path / "runs"))
    assert page.count("Same episodes, exact McNemar: p") == 1
    assert "A: reach: one, seeds 0, 1, 2. B: reach: other, seeds 0, 1, 2." in page


def test_two_settings_of_a_policy_with_several_seeds_are_told_apart(report, write_run, edit_header, tmp_path):
    for name, row in (("gentle", "++-"), ("rough", "+--")):
        for seed in range(2):
            path = write_run(tmp_path / "runs" / name / f"s{seed}", [row], seed=seed)
            config = json.loads((path / "run.json").read_text())["config"]
            edit_header(path, config=config | {"policy_args": {"how": name}})
    page = words(report(tmp_path / "runs"))
    assert "A: reach: made_up, gentle/s0, seeds 0, 1. B: reach: made_up, rough/s0, seeds 0, 1." in page


def test_said_stands_beside_done_for_every_step_of_a_failure(report, reach_runs):
    page = report(reach_runs / "shaky")
    body = next(part for part in page.split("<tbody ") if 'data-outcome="failure"' in part)
    spans = re.findall(r'<th scope="row">(\d+)(?:–(\d+))?</th>', body)  # noqa: RUF001
    steps = [step for first, last in spans for step in range(int(first), int(last or first) + 1)]
    assert steps == list(range(40))
    assert re.search(r"<td>(move|stop|tilt|rotate|open|close)[^<]*</td>|<td>move", body)


def test_steps_in_which_said_and_done_agree_are_counted(report, write_run, tmp_path):
    path = write_run(tmp_path / "a", ["-"])
    actions = np.zeros((20, 7))
    actions[:, 0], actions[:, 6] = 1.0, -1.0
    said = np.array(["move forward"] * 15 + ["stop"] * 5)
    (path / "traces").mkdir()
    name = read_run(path).results[0].episode_id
    np.savez(path / "traces" / f"{name}.npz", actions=actions, motion=said, success=np.zeros(20, bool))
    page = words(report(path))
    assert "Said and done agree in 15 of 20 steps." in page
    assert "motion done (adaptive labels of" in page
    assert "motion done (raw labels of" in words(report(path, motion="raw"))
    with pytest.raises(UsageError, match=r"No labeller named 'adaptiv'\. Did you mean 'adaptive'"):
        report(path, motion="adaptiv")


def test_films_beyond_the_budget_are_linked_not_embedded(report, reach_runs, capsys):
    page = report(reach_runs / "shaky", film_megabytes=0)
    assert "data:video" not in page
    links = re.findall(r'data-src="([^"]+)"', page)
    assert links
    assert all(link.startswith("../") and link.endswith(".mp4") for link in links)
    assert "videos are linked" in capsys.readouterr().out
    assert "data:video/mp4;base64," in report(reach_runs / "shaky")


def test_text_from_a_record_cannot_become_markup(report, write_run, tmp_path):
    path = write_run(tmp_path / "a", ["!"], policy="<script>alert(1)</script>", error="<img src=x onerror=alert(2)>")
    page = report(path)
    assert "<script>alert(1)" not in page
    assert "<img" not in page


def test_a_run_that_has_recorded_nothing_is_shown_as_missing(report, write_run, tmp_path):
    page = words(report(write_run(tmp_path / "a", [" "])))
    assert "1 of 1 episodes have no score (not run)" in page


def test_no_runs_and_newer_formats_are_errors(write_run, edit_header, tmp_path):
    with pytest.raises(UsageError, match="results/runs"):
        command([])
    edit_header(write_run(tmp_path / "a", ["+"]), format=99)
    with pytest.raises(RunFolderError, match="Upgrade"):
        command([str(tmp_path / "a"), "--out", str(tmp_path / "r.html")])


@pytest.mark.parametrize("damage", ["no archive", "cut", "empty", "partial", "flat", "NaN", "short", "text"])
def test_a_trace_that_does_not_read_leaves_a_note_in_its_place(report, reach_runs, tmp_path, damage):
    copy = shutil.copytree(reach_runs / "shaky", tmp_path / "copy")
    failed = next(result for result in read_run(copy).results if result.status is Status.FAILURE)
    trace = copy / "traces" / f"{failed.episode_id}.npz"
    content = trace.read_bytes()
    with np.load(trace) as stored:
        arrays = dict(stored)
    changed = {"flat": arrays["actions"].ravel(), "NaN": arrays["actions"] * np.nan, "text": arrays["motion"]}
    if damage in changed:
        np.savez(trace, **arrays | {"actions": changed[damage]})
    elif damage == "short":
        np.savez(trace, **arrays | {"motion": arrays["motion"][:3]})
    elif damage == "partial":
        trace.with_suffix(".partial.npz").write_bytes(content[:700])
    else:
        trace.write_bytes({"no archive": b"no archive", "cut": content[:700], "empty": b""}[damage])
    page = report(copy)
    assert page.count("Motion said, and motion done") == (40 if damage == "partial" else 39)
    assert (f"The trace {trace} does not read:" in words(page)) == (damage != "partial")


def test_a_record_that_does_not_say_what_opens_the_gripper_leaves_a_note(report, edit_header, reach_runs, tmp_path):
    copy = shutil.copytree(reach_runs / "shaky", tmp_path / "copy")
    header = json.loads((copy / "run.json").read_text())
    one_number = header["action_space"] | {"gripper_open": 1.0}
    edit_header(copy, action_space=one_number)
    assert "does not say what opens the gripper" in words(report(copy))
    before = episode_ids(copy)
    edit_header(copy, action_space=None, suite=header["suite"] | {"name": "of_a_plugin_that_is_gone"})
    for old, new in zip(before, episode_ids(copy), strict=True):
        (copy / "traces" / f"{old}.npz").rename(copy / "traces" / f"{new}.npz")
    assert "does not say what opens the gripper" in words(report(copy))


def episode_ids(folder):
    return [json.loads(line)["episode_id"] for line in (folder / "episodes.jsonl").read_text().splitlines()]


def test_what_opens_the_gripper_is_what_the_record_says(report, edit_header, reach_runs, tmp_path):
    copy = shutil.copytree(reach_runs / "shaky", tmp_path / "copy")
    header = json.loads((copy / "run.json").read_text())
    for trace in (copy / "traces").iterdir():
        with np.load(trace) as stored:
            arrays = dict(stored)
        arrays["actions"][:, 6] = np.where(np.arange(len(arrays["actions"])) < 5, -1.0, 1.0)
        np.savez(trace, **arrays)
    settled_closed = header["protocol"] | {"settle_action": [0.0] * 6 + [1.0]}
    edit_header(copy, protocol=settled_closed)
    said = words(report(copy))
    assert "close gripper" in said
    assert "open gripper" not in said
    edit_header(copy, format=1, action_space=None)
    assert words(report(copy)) == said  # what the installed suite says
    edit_header(copy, action_space=header["action_space"] | {"gripper_open": 1.0, "gripper_closed": -1.0})
    assert "open gripper" in words(report(copy))


def test_episodes_of_a_task_that_the_header_lacks_are_listed_and_not_counted(report, write_run, edit_header, tmp_path):
    path = write_run(tmp_path / "a", ["++", "--"])
    described = json.loads((path / "run.json").read_text())["suite"]
    session = {"config": {"tasks": ["0"]}, "planned": 2}
    edit_header(path, suite=described | {"tasks": described["tasks"][:1]}, sessions=[session])
    page = words(report(path))
    assert "run.json has no task 1: episodes of it are listed, and count in no rate or comparison." in page
    assert "Mean of tasks 100.0" in page
    assert "1 (not in run.json)" in page


def test_text_that_no_file_can_hold_is_written_out(report, write_run, tmp_path):
    page = report(write_run(tmp_path / "a", ["!"], error="no file \ud800 \x1b[2J \u202e"))
    assert r"no file \ud800 \x1b[2J \u202e" in page


def test_a_report_that_cannot_be_written_leaves_the_one_that_was_there(reach_runs, tmp_path, edit_header, write_run):
    out = tmp_path / "r.html"
    out.write_text("an earlier report")
    broken = write_run(tmp_path / "a", ["+"])
    edit_header(broken, sessions=[{"planned": 3}])
    with pytest.raises(RunFolderError, match="planned"):
        command([str(broken), "--out", str(out)])
    with pytest.raises(RecordError, match="Cannot write"):
        command([str(reach_runs / "steady"), "--out", str(tmp_path)])
    with pytest.raises(RecordError, match="Cannot write"):
        command([str(reach_runs / "steady"), "--out", str(out / "below.html")])
    assert out.read_text() == "an earlier report"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "r.html"]


@pytest.mark.parametrize("megabytes", ["nan", "inf", "-1"])
def test_a_budget_of_films_is_a_number_from_zero(reach_runs, tmp_path, megabytes):
    with pytest.raises(UsageError, match="--film-megabytes"):
        command([str(reach_runs), "--out", str(tmp_path / "r.html"), "--film-megabytes", megabytes])


def test_a_copied_folder_is_shown_once_and_that_is_said(report, write_run, tmp_path):
    path = write_run(tmp_path / "runs" / "a", ["+-"])
    shutil.copytree(path, tmp_path / "runs" / "b")
    page = report(tmp_path / "runs")
    assert page.count('data-outcome="success"') == 1
    assert f"{tmp_path / 'runs' / 'b'} holds the same record" in words(page)


def test_a_run_whose_comparison_was_decided_is_complete_and_says_why(report, write_run, edit_header, tmp_path):
    path = write_run(tmp_path / "a", ["++  "] * 4)
    decided = {"text": "A is better than B.", "against": "runs/noop", "episodes": 8}
    edit_header(path, sessions=[{"config": {"tasks": []}, "planned": 16, "decided": decided}])
    page = words(report(path))
    assert "INCOMPLETE" not in page
    assert "the comparison with runs/noop was decided: A is better than B." in page


def test_runs_in_folders_of_one_name_are_told_apart_by_the_folders_above(write_run, tmp_path):
    places = [("one", 0), ("two", 0), ("two", 1)]
    runs = [read_run(write_run(tmp_path / root / "reach" / f"seed{seed}", ["+"], seed=seed)) for root, seed in places]
    ends = ["one/reach/seed0", "two/reach/seed0", "two/reach/seed1"]
    assert labels(runs) == [f"reach: made_up, {end}" for end in ends]


def test_runs_of_one_policy_are_told_apart_by_their_folders(reach_runs):
    runs = [read_run(reach_runs / name) for name in ("shaky", "steady")]
    assert labels(runs) == ["reach: expert, shaky", "reach: expert, steady"]
    assert labels(runs[:1]) == ["reach: expert"]


def test_a_column_of_the_result_table_stands_on_the_page_too(report, write_run, tmp_path, monkeypatch):
    monkeypatch.setattr("evals.summary_format.COLUMNS", [*COLUMNS, Column("lost", lambda rate: rate.missing, "Lost")])
    page = words(report(write_run(tmp_path / "a", ["+!"])))
    assert "Missing Lost 0 " in page
    assert "Mean of tasks 100.0 20.7 to 100.0 0.0 1 1 1 1 " in page

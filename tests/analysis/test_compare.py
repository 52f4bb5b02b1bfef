"""Two policies are compared on the same episodes, and the answer says how sure it is."""

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from analysis.comparison import command
from analysis.stats.intervals import mcnemar_exact, paired_difference
from analysis.stats.paired import adjust, compare
from envs.reach import suite
from evals.errors import RunFolderError, UsageError
from evals.record import read_run
from evals.types import Seconds


@pytest.fixture
def two_runs(write_run, tmp_path):
    """Return two_runs(a, b): two sides of one run each, with these outcomes."""

    def build(a, b, **changes):
        return [[read_run(write_run(tmp_path / n, rows, **changes))] for n, rows in (("a", a), ("b", b))]

    return build


def test_pairs_are_matched_by_scene_and_only_flips_decide(two_runs):
    result = compare(*two_runs(["++++-", "+++--"], ["+---+", "+----"]))
    assert result.paired
    assert (result.mean.only_a, result.mean.only_b) == (5, 1)
    assert result.p == mcnemar_exact(5, 1)
    assert result.mean.difference == pytest.approx(0.4)
    assert result.mean.interval == pytest.approx(paired_difference(5, 1, 10))
    assert [(flip.task, flip.initial_state, flip.better) for flip in result.flips][:2] == [(0, 1, "A"), (0, 2, "A")]


def test_tasks_weigh_equally_when_their_numbers_differ(two_runs):
    result = compare(*two_runs(["+" * 20, "+-"], ["-" * 20, "+-"]))
    assert [row.difference for row in result.tasks] == [1, 0]
    assert result.mean.difference == 0.5


def test_missing_scores_are_left_out_and_counted(two_runs):
    result = compare(*two_runs(["++!"], ["-+-"]))
    assert result.mean.n == (2, 2)
    assert any("without a score in both runs: 1" in note for note in result.notes)


def test_repeats_of_the_same_pair_of_trajectories_count_once(two_runs):
    result = compare(*two_runs(["+++"], ["---"], trajectory_hash="same"))
    assert result.mean.n == (1, 1)
    assert any("2 pairs repeat" in note for note in result.notes)


def test_without_common_scenes_the_fallback_says_that_it_is_one(write_run, tmp_path):
    a = read_run(write_run(tmp_path / "a", ["+" * 10, "+" * 10]))
    b = read_run(write_run(tmp_path / "b", ["-" * 10, "+" * 10], seed=1))
    result = compare([a], [b])
    assert not result.paired
    assert result.notes[0].startswith("UNPAIRED")
    assert result.mean.difference == 0.5
    assert result.p < 0.001
    assert result.mean.interval.low < 0.5 < result.mean.interval.high
    assert compare([b], [a]).mean.interval == pytest.approx((-result.mean.interval.high, -result.mean.interval.low))


def test_pairing_narrows_the_interval(write_run, tmp_path):
    rng = np.random.default_rng(0)
    outcomes = rng.random((4, 50)) < 0.5
    rows = ["".join("+" if x else "-" for x in row) for row in outcomes]
    worse = [row[:-5] + "-----" for row in rows]
    a = read_run(write_run(tmp_path / "a", rows))
    paired = compare([a], [read_run(write_run(tmp_path / "b", worse))]).mean.interval
    unpaired = compare([a], [read_run(write_run(tmp_path / "c", worse, seed=1))]).mean.interval
    assert paired.high - paired.low < 0.6 * (unpaired.high - unpaired.low)


def test_different_suites_cannot_be_compared(write_run, tmp_path):
    a, b = write_run(tmp_path / "a", ["+"]), write_run(tmp_path / "b", ["+"], suite=replace(suite(), name="other"))
    with pytest.raises(UsageError, match="nothing to compare"):
        compare([read_run(a)], [read_run(b)])
    with pytest.raises(UsageError, match="No suite was run in both"):
        command([str(a), str(b)])


def test_different_protocols_are_refused_unless_asked_for_and_then_said(write_run, tmp_path):
    settled = replace(suite(), protocol=replace(suite().protocol, settle_steps=99))
    a, b = write_run(tmp_path / "a", ["+"]), write_run(tmp_path / "b", ["-"], suite=settled)
    with pytest.raises(UsageError, match="settle_steps"):
        compare([read_run(a)], [read_run(b)])
    result = compare([read_run(a)], [read_run(b)], mixed_protocols=True)
    assert "settle_steps" in result.notes[0]


@pytest.fixture
def three_seeds(write_run, tmp_path):
    """Return three_seeds(name, rows, ...): a folder with runs of seeds 0, 1 and 2, one row of outcomes a seed."""

    def build(name, rows, **changes):
        for seed, row in enumerate(rows):
            write_run(tmp_path / name / f"s{seed}", [row], seed=seed, policy=name, **changes)
        return tmp_path / name

    return build


def printed_suite(capsys, *arguments):
    assert command([*map(str, arguments), "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    return printed, printed["suites"][0]


@pytest.mark.parametrize("pattern", ["", "s*"])
def test_several_seeds_a_policy_are_paired_by_task_state_and_seed(three_seeds, capsys, pattern):
    one, other = three_seeds("one", ["++", "++", "+-"]), three_seeds("other", ["+-", "--", "+-"])
    _, found = printed_suite(capsys, one / pattern, other / pattern)
    assert found["paired"]
    assert found["mean"]["n"] == [6, 6]
    assert (found["mean"]["only_a"], found["mean"]["only_b"]) == (3, 0)
    assert found["p"] == mcnemar_exact(3, 0)
    assert [(flip["initial_state"], flip["seed"]) for flip in found["flips"]] == [(0, 1), (1, 0), (1, 1)]


def test_seeds_that_repeat_the_trajectories_of_both_sides_count_once(write_run, tmp_path, capsys):
    for name, row in (("one", "+"), ("other", "-")):
        for seed in range(3):
            path = tmp_path / name / f"s{seed}"
            write_run(path, [row, row], seed=seed, policy=name, trajectory_hash=f"{name} always")
    _, found = printed_suite(capsys, tmp_path / "one", tmp_path / "other")
    assert found["mean"]["n"] == [2, 2]
    assert any("4 pairs repeat" in note for note in found["notes"])


def test_a_side_that_repeats_its_trajectories_alone_is_said(three_seeds, write_run, tmp_path, capsys):
    three_seeds("greedy", ["+", "+", "+"], trajectory_hash="always")
    for seed in range(3):
        write_run(tmp_path / "drawn" / f"s{seed}", ["-"], seed=seed, policy="drawn", trajectory_hash=f"t{seed}")
    _, found = printed_suite(capsys, tmp_path / "greedy", tmp_path / "drawn")
    assert any("3 episodes of A carry as much as 1" in note for note in found["notes"])


def test_seeds_of_one_side_only_are_left_out_and_said(three_seeds, write_run, tmp_path, capsys):
    one = three_seeds("one", ["+", "+", "+"])
    write_run(tmp_path / "other" / "s1", ["-"], seed=1, policy="other")
    _, found = printed_suite(capsys, one, tmp_path / "other", "--sequential")
    assert found["mean"]["n"] == [1, 1]
    assert any("A ran seeds 0, 1, 2. B ran seeds 1." in note for note in found["notes"])
    assert "1 pairs" in found["decision"]["text"]


def test_a_copied_run_is_not_counted_twice_and_that_is_said(three_seeds, capsys):
    one, other = three_seeds("one", ["++", "+-", "+-"]), three_seeds("other", ["+-", "--", "+-"])
    _, alone = printed_suite(capsys, one, other)
    shutil.copytree(one / "s0", one / "s0-backup")
    printed, found = printed_suite(capsys, one, other)
    assert found == alone
    assert [note for note in printed["notes"] if str(one / "s0-backup") in note]


def test_a_comparison_of_a_run_with_its_copy_says_so(write_run, tmp_path, capsys):
    path = write_run(tmp_path / "a", ["+-"])
    _, found = printed_suite(capsys, path, shutil.copytree(path, tmp_path / "b"))
    assert "A and B hold the same record." in found["notes"]


def test_two_policies_or_two_measurements_of_one_seed_on_one_side_are_refused(write_run, tmp_path):
    write_run(tmp_path / "x" / "1", ["+"])
    write_run(tmp_path / "x" / "2", ["+"], policy="another", seed=1)
    write_run(tmp_path / "y" / "1", ["+"])
    write_run(tmp_path / "y" / "2", ["+"], seconds=Seconds(5.0))
    with pytest.raises(UsageError, match="differ in: policy"):
        command([str(tmp_path / "x"), str(tmp_path / "y" / "1")])
    with pytest.raises(UsageError, match="same seed"):
        command([str(tmp_path / "y"), str(tmp_path / "x" / "1")])


def test_episodes_of_a_task_that_the_header_lacks_end_in_words(write_run, edit_header, tmp_path):
    a, b = write_run(tmp_path / "a", ["+", "+"]), write_run(tmp_path / "b", ["+", "-"])
    described = json.loads((a / "run.json").read_text())["suite"]
    edit_header(a, suite=described | {"tasks": described["tasks"][:1]})
    with pytest.raises(RunFolderError, match=r"episodes of task 1, which run\.json lacks"):
        command([str(a), str(b)])


def test_a_suite_of_one_side_only_is_said(write_run, tmp_path, capsys):
    for name in ("a", "b"):
        write_run(tmp_path / name, ["+"])
    write_run(tmp_path / "b" / "more", ["+"], suite=replace(suite(), name="elsewhere"))
    assert command([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "elsewhere was run on side B only and is left out." in capsys.readouterr().out


def test_holm_adjusts_over_the_suites(two_runs):
    result = compare(*two_runs(["+" * 9], ["-" * 9]))
    adjusted = adjust([result, result, result])
    assert [c.p_holm for c in adjusted] == pytest.approx([3 * result.p] * 3)


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "json"])
def test_the_command_compares_real_runs(reach_runs, capsys, format):
    assert command([str(reach_runs / "steady"), str(reach_runs / "shaky"), "--format", format, "--sequential"]) == 0
    printed = capsys.readouterr().out
    if format == "json":
        found = json.loads(printed)["suites"][0]
        assert found["mean"]["n"] == [40, 40]
        flips = found["flips"]
        assert flips
        assert all(video.endswith(f"{flip['episode_id']}.mp4") for flip in flips for video in flip["videos"])
        assert found["decision"]["text"]
    elif format == "csv":
        rows = list(csv.reader(io.StringIO(printed)))
        assert len(rows) == 6
        assert rows[-1][1] == "100.0"
    else:
        assert "exact McNemar test" in printed
        assert "only A solved task" in printed
        assert "anytime-valid" in printed

"""Two policies are compared on the same episodes, and the answer says how sure it is."""

import csv
import io
import json

import numpy as np
import pytest

from analysis.compare import command
from analysis.comparison import adjust, compare
from analysis.stats import mcnemar_exact, paired_difference
from evals.errors import UsageError
from evals.record import read_run


@pytest.fixture
def two_runs(write_run, tmp_path):
    """Return two_runs(a, b): two read runs with these outcomes."""

    def build(a, b, **changes):
        return [read_run(write_run(tmp_path / n, rows, **changes)) for n, rows in (("a", a), ("b", b))]

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
    result = compare(a, b)
    assert not result.paired
    assert result.notes[0].startswith("UNPAIRED")
    assert result.mean.difference == 0.5
    assert result.p < 0.001
    assert result.mean.interval.low < 0.5 < result.mean.interval.high
    assert compare(b, a).mean.interval == pytest.approx((-result.mean.interval.high, -result.mean.interval.low))


def test_pairing_narrows_the_interval(write_run, tmp_path):
    rng = np.random.default_rng(0)
    outcomes = rng.random((4, 50)) < 0.5
    rows = ["".join("+" if x else "-" for x in row) for row in outcomes]
    worse = [row[:-5] + "-----" for row in rows]
    a = read_run(write_run(tmp_path / "a", rows))
    paired = compare(a, read_run(write_run(tmp_path / "b", worse))).mean.interval
    unpaired = compare(a, read_run(write_run(tmp_path / "c", worse, seed=1))).mean.interval
    assert paired.high - paired.low < 0.6 * (unpaired.high - unpaired.low)


def test_different_suites_cannot_be_compared(write_run, edit_header, tmp_path):
    a, b = write_run(tmp_path / "a", ["+"]), write_run(tmp_path / "b", ["+"])
    edit_header(b, suite={"name": "other", "tasks": []})
    with pytest.raises(UsageError, match="nothing to compare"):
        compare(read_run(a), read_run(b))
    with pytest.raises(UsageError, match="No suite was run in both"):
        command([str(a), str(b)])


def test_different_protocols_are_refused_unless_asked_for_and_then_said(write_run, edit_header, tmp_path):
    a, b = write_run(tmp_path / "a", ["+"]), write_run(tmp_path / "b", ["-"])
    edit_header(b, protocol_hash="other", protocol={"settle_steps": 99})
    with pytest.raises(UsageError, match="settle_steps"):
        compare(read_run(a), read_run(b))
    result = compare(read_run(a), read_run(b), mixed_protocols=True)
    assert "settle_steps" in result.notes[0]


def test_two_runs_of_one_suite_on_one_side_are_refused(write_run, tmp_path):
    for name in ("x/1", "x/2", "y"):
        write_run(tmp_path / name, ["+"])
    with pytest.raises(UsageError, match="two runs of reach"):
        command([str(tmp_path / "x"), str(tmp_path / "y")])


def test_holm_adjusts_over_the_suites(two_runs):
    result = compare(*two_runs(["+" * 9], ["-" * 9]))
    adjusted = adjust([result, result, result])
    assert [c.p_holm for c in adjusted] == pytest.approx([3 * result.p] * 3)


@pytest.mark.parametrize("format", ["table", "markdown", "csv", "json"])
def test_the_command_compares_real_runs(reach_runs, capsys, format):
    assert command([str(reach_runs / "steady"), str(reach_runs / "shaky"), "--format", format, "--sequential"]) == 0
    printed = capsys.readouterr().out
    if format == "json":
        suite = json.loads(printed)["suites"][0]
        assert suite["mean"]["n"] == [40, 40]
        flips = suite["flips"]
        assert flips
        assert all(video.endswith(f"{flip['episode_id']}.mp4") for flip in flips for video in flip["videos"])
        assert suite["decision"]["text"]
    elif format == "csv":
        rows = list(csv.reader(io.StringIO(printed)))
        assert len(rows) == 6
        assert rows[-1][1] == "100.0"
    else:
        assert "exact McNemar test" in printed
        assert "only A solved task" in printed
        assert "anytime-valid" in printed

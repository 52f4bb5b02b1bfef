"""The anytime-valid test may be asked after every episode, and still errs as seldom as it says."""

import itertools

import numpy as np
import pytest

from analysis.stats.sequential import blocks, confidence_sequence, decide
from evals.errors import UsageError
from evals.record import read_run


@pytest.fixture
def two_runs(write_run, tmp_path):
    """Return two_runs(a, b): the results of two runs with these outcomes."""

    def build(a, b, **changes):
        paths = [write_run(tmp_path / name, rows, **changes) for name, rows in (("a", a), ("b", b))]
        return [read_run(path).results for path in paths]

    return build


def differences(rng, blocks, mean, discordant):
    """Draw `[blocks, tasks]` differences with these means and probabilities of a flip."""
    u = rng.random((blocks, len(mean)))
    better, flipped = (discordant + mean) / 2, discordant
    return np.where(u < better, 1.0, np.where(u < flipped, -1.0, 0.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mean", "discordant"),
    [(np.zeros(4), 0.4), (np.linspace(-0.5, 0.5, 4), 0.6), (np.full(4, 0.1), 0.3)],
    ids=["equal", "tasks differ", "shifted"],
)
def test_watched_after_every_block_it_misses_the_mean_in_less_than_five_percent(mean, discordant):
    rng = np.random.default_rng(7)
    runs = 300
    wrong = 0
    for _ in range(runs):
        final = confidence_sequence(differences(rng, 50, mean, np.full(4, discordant)))[-1]
        wrong += not final.low <= mean.mean() <= final.high
    assert wrong / runs <= 0.05


def test_the_fixed_sample_test_would_err_far_more_often_when_watched():
    # What the confidence sequence is for: a 5 % z-test looked at after every episode.
    rng = np.random.default_rng(7)
    d = differences(rng, 500, np.zeros(300), np.full(300, 0.4))
    z = np.cumsum(d, axis=0)[20:] / np.sqrt(np.cumsum(d**2, axis=0)[20:])
    assert np.mean(np.any(np.abs(z) > 1.96, axis=0)) > 0.2


def test_intervals_only_shrink():
    rng = np.random.default_rng(0)
    sequence = confidence_sequence(differences(rng, 50, np.full(3, 0.3), np.full(3, 0.4)))
    assert sequence[0] == (-1, 1)
    assert all(a.low <= b.low <= b.high <= a.high for a, b in itertools.pairwise(sequence))


def test_a_clear_winner_is_found_before_all_episodes_have_run(two_runs):
    a, b = two_runs(["+" * 10] * 4, ["-" * 10] * 4)
    b = [result for result in b if result.initial_state < 6]
    decision = decide(a, b, 0.1)
    assert decision.decided
    assert decision.text.startswith("A is better than B by more than 10.0 points")
    assert decide(b, a, 0.1).text.startswith("B is better than A")


def test_equal_runs_are_found_to_be_equal_enough(two_runs):
    a, b = two_runs(["+-+-+" * 20] * 4, ["+-+-+" * 20] * 4)
    assert decide(a, b, 0.2).text.startswith("Neither is better by 20.0 points")
    assert not decide(a, b, 0.0).decided


def test_too_few_episodes_leave_it_undecided(two_runs):
    a, b = two_runs(["+", "+"], ["-", "-"])
    assert decide(a, b).text.startswith("Undecided: A - B lies in")


def test_a_task_that_has_not_started_holds_the_decision_back(two_runs):
    a, b = two_runs(["+" * 30, "+" * 30], ["-" * 30, " "])
    assert not decide(a, b).decided
    assert "0 pairs" in decide(a, b).text


def test_a_later_pair_never_overtakes_an_earlier_one_that_still_runs(two_runs):
    a, b = two_runs(["+++"], ["+ -"])
    lowest, _ = blocks(a, b)
    assert lowest.tolist() == [[0]]


def test_a_crash_counts_against_whoever_would_win(two_runs):
    a, b = two_runs(["+!"], ["--"])
    lowest, highest = blocks(a, b)
    assert lowest.tolist() == [[1], [0]]
    assert highest.tolist() == [[1], [1]]


def test_repeated_trajectories_are_no_evidence(two_runs):
    a, b = two_runs(["+" * 40], ["-" * 40], trajectory_hash="same")
    lowest, _ = blocks(a, b)
    assert lowest.shape == (1, 1)


def test_runs_without_a_common_episode_cannot_be_compared(two_runs, write_run, tmp_path):
    a, _ = two_runs(["+"], ["+"])
    other = read_run(write_run(tmp_path / "other", ["+"], seed=1)).results
    with pytest.raises(UsageError, match="share no episode"):
        decide(a, other)


@pytest.mark.parametrize("minimum", [-0.1, 1.0])
def test_a_minimum_difference_out_of_range_is_refused(two_runs, minimum):
    with pytest.raises(UsageError, match="success rate"):
        decide(*two_runs(["+"], ["+"]), minimum)

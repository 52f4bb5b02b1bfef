"""May a comparison stop now? An anytime-valid confidence sequence for paired differences, by betting.

After Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting" (JRSS-B 86:1): a
gambler bets on every pair's difference D in {-1, 0, 1} exceeding m. If the true mean is at most m, the gambler's
wealth is a nonnegative supermartingale, so by Ville's inequality it ever reaches 2/alpha with probability at most
alpha/2, however often one looks and whenever one stops.

Tasks differ, and the mean asked about weighs them equally. Pairs are therefore taken in blocks of one pair a task,
in the fixed order (initial state, seed), with one bet a block: the expected factor of a block is the product over
tasks of 1 + bet (mean_k - m), at most (1 + bet (mean - m))^K by the inequality of means, hence at most 1. A block
counts once all its pairs are in: taking pairs as they arrive would favour quick episodes, which are the successes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.errors import UsageError
from evals.summary import Interval
from evals.types import EpisodeResult, Status

ALPHA = 0.05
_GRID = np.linspace(-1.0, 1.0, 801)
# The largest share of the wealth that a bet may lose; Waudby-Smith and Ramdas use 1/2 or 3/4.
_BOLDNESS = 0.75
_PRIOR_VARIANCE = 0.25


@dataclass(frozen=True)
class Decision:
    """Whether a comparison may stop, and the sentence that says why."""

    decided: bool
    text: str


def decide(
    results_a: Sequence[EpisodeResult], results_b: Sequence[EpisodeResult], minimum_difference: float = 0.0
) -> Decision:
    """Say whether A is better than B by more than a difference, or B than A, or neither by as much.

    Args:
        results_a: every result of one run, finished or not.
        results_b: of the other.
        minimum_difference: of success rates, in [0, 1); 0 asks only which is better.

    Returns:
        A decision that errs with probability at most 5 %, however often it is asked for.

    Raises:
        UsageError: the runs share no episode, or the difference is out of range.
    """
    if not 0 <= minimum_difference < 1:
        raise UsageError(f"The minimum difference is a success rate in [0, 1), got {minimum_difference}.")
    lowest, highest = blocks(results_a, results_b)
    low = confidence_sequence(lowest)[-1].low
    high = confidence_sequence(highest)[-1].high
    seen = f"after {len(lowest)} blocks of one pair a task ({lowest.size} pairs)"
    span = f"A - B lies in [{100 * low:+.1f}, {100 * high:+.1f}] points"
    threshold = f"more than {100 * minimum_difference:.1f} points" if minimum_difference else "some margin"
    if low > minimum_difference:
        return Decision(True, f"A is better than B by {threshold}: {span} {seen}.")
    if high < -minimum_difference:
        return Decision(True, f"B is better than A by {threshold}: {span} {seen}.")
    if minimum_difference and max(-low, high) < minimum_difference:
        return Decision(True, f"Neither is better by {100 * minimum_difference:.1f} points or more: {span} {seen}.")
    return Decision(False, f"Undecided: {span} {seen}.")


def blocks(
    results_a: Sequence[EpisodeResult], results_b: Sequence[EpisodeResult]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the complete blocks of differences, `[blocks, tasks]`, with missing scores at their worst and best.

    An episode that ended without a score counts as the least (first array) or greatest (second) difference that it
    could have given; one that has not run yet ends the sequence, since later pairs must not overtake it.

    Raises:
        UsageError: the runs share no episode.
    """
    a, b = _by_task(results_a), _by_task(results_b)
    if not {key for keys in a.values() for key in keys} & {key for keys in b.values() for key in keys}:
        names = [next((r.suite for r in results), "no episode") for results in (results_a, results_b)]
        raise UsageError(f"The runs share no episode ({names[0]} and {names[1]}): run both on the same scenes.")
    columns = []
    for task in sorted({*a, *b}):
        one, other = a.get(task, {}), b.get(task, {})
        order = sorted({*one, *other})
        run = next((i for i, key in enumerate(order) if key not in one or key not in other), len(order))
        columns.append([_bounds(*pair) for pair in distinct_pairs((one[key], other[key]) for key in order[:run])])
    complete = min(len(column) for column in columns)
    bounds = np.array([column[:complete] for column in columns], dtype=float).reshape(len(columns), complete, 2)
    return bounds[:, :, 0].T, bounds[:, :, 1].T


def distinct_pairs(
    pairs: Iterable[tuple[EpisodeResult, EpisodeResult]],
) -> list[tuple[EpisodeResult, EpisodeResult]]:
    """Drop pairs in which both runs repeat earlier trajectories exactly: another seed of the same thing is no news."""
    seen: set[tuple[int, str, str]] = set()
    kept = []
    for a, b in pairs:
        key = (a.task, a.trajectory_hash, b.trajectory_hash)
        if a.trajectory_hash and b.trajectory_hash and key in seen:
            continue
        seen.add(key)
        kept.append((a, b))
    return kept


def confidence_sequence(differences: npt.NDArray[np.float64], alpha: float = ALPHA) -> list[Interval]:
    """Return the interval of the mean difference after 0, 1, 2, ... blocks; each lies within the one before.

    Args:
        differences: `[blocks, tasks]` in [-1, 1], in the order in which they count.
        alpha: probability that any of the intervals misses the mean.
    """
    lower = _lower_bounds(differences, alpha / 2)
    upper = _lower_bounds(-differences, alpha / 2)
    return [Interval(float(low), float(-high)) for low, high in zip(lower, upper, strict=True)]


def _lower_bounds(differences: npt.NDArray[np.float64], alpha: float) -> npt.NDArray[np.float64]:
    """Return the lower confidence bound after each block, `[blocks + 1]`.

    The bound is one grid step below the least mean that is not rejected, so rejections need not be monotone in m.
    """
    tasks = differences.shape[1]
    bets = _bets(differences)
    log_wealth = np.zeros((len(differences) + 1, len(_GRID)))
    for k in range(tasks):
        log_wealth[1:] += np.log1p(bets * (differences[:, k, None] - _GRID))
    log_wealth = np.cumsum(log_wealth, axis=0)
    rejected = np.maximum.accumulate(log_wealth, axis=0) >= np.log(1 / alpha)
    first = np.where(rejected.all(axis=1), len(_GRID) - 1, np.argmin(rejected, axis=1))
    bounds: npt.NDArray[np.float64] = _GRID[np.maximum(first - 1, 0)]
    return bounds


def _bets(differences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return one bet a block and candidate mean, `[blocks, grid]`, from the blocks before it only.

    The approximately growth-optimal bet is mean(D - m) / mean((D - m)^2) (their "aGRAPA"), with one prior pair.
    """
    tasks = differences.shape[1]
    before = np.arange(len(differences))[:, None] * tasks
    total = np.vstack([np.zeros(1), np.cumsum(differences.sum(axis=1))[:-1, None]])[: len(differences)]
    squares = np.vstack([np.zeros(1), np.cumsum((differences**2).sum(axis=1))[:-1, None]])[: len(differences)]
    mean = total / (before + 1)
    variance = (_PRIOR_VARIANCE + squares) / (before + 1) - mean**2
    gain = mean - _GRID
    most = _BOLDNESS / (1 + np.maximum(_GRID, -1 + 1e-9))
    bets: npt.NDArray[np.float64] = np.clip(gain / (np.maximum(variance, 1e-4) + gain**2), 0.0, np.minimum(most, 1e6))
    return bets


def _by_task(results: Sequence[EpisodeResult]) -> dict[int, dict[tuple[int, int, str], EpisodeResult]]:
    tasks: dict[int, dict[tuple[int, int, str], EpisodeResult]] = {}
    for result in results:
        tasks.setdefault(result.task, {})[(result.initial_state, result.seed, result.episode_id)] = result
    return tasks


def _bounds(a: EpisodeResult, b: EpisodeResult) -> tuple[float, float]:
    least_a, most_a = _score_bounds(a)
    least_b, most_b = _score_bounds(b)
    return least_a - most_b, most_a - least_b


def _score_bounds(result: EpisodeResult) -> tuple[float, float]:
    if not result.status.scored:
        return 0.0, 1.0
    score = float(result.status is Status.SUCCESS)
    return score, score

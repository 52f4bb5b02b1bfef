"""Counts and arrays to numbers with bounds; a NumPy `Generator` is an argument where chance enters.

What the evaluator itself prints (standard error, Wilson, equal-weight means, n_eff, worst case) lives in
`evals.summary`; here is what needs SciPy. It is imported inside
functions: it takes longer than what most commands do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from evals.summary import CONFIDENCE, Estimate, Interval, binomial_standard_error, wilson


def clopper_pearson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the exact interval of a rate (Clopper and Pearson 1934), which never covers less than it says.

    Raises:
        ValueError: successes lies outside [0, n].
    """
    if not 0 <= successes <= n:
        raise ValueError(f"0 <= successes <= n was expected, got {successes} of {n}.")
    if n == 0:
        return Interval(0.0, 1.0)
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.isf(tail, successes + 1, n - successes))
    return Interval(low, high)


def pooled(rates: Sequence[float], ns: Sequence[float]) -> Estimate:
    """Return the rate over all strata's episodes together with sqrt(p(1-p)/N), as OpenVLA's tables print averages.

    It ignores which stratum an episode belongs to; `evals.summary.equal_weight_mean` is the sharper error.

    Raises:
        ValueError: there are no episodes, or a rate lies outside [0, 1].
    """
    total = sum(ns)
    if total <= 0:
        raise ValueError("The pooled rate of no episodes is not defined.")
    rate = sum(p * n for p, n in zip(rates, ns, strict=True)) / total
    return Estimate(rate, binomial_standard_error(rate, total))


def task_bootstrap(
    scores: Sequence[npt.NDArray[np.float64]],
    rng: np.random.Generator,
    draws: int = 10_000,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the percentile interval of the mean over tasks when the tasks themselves are a sample.

    Whole tasks are drawn with replacement (Cameron and Miller 2015, cluster bootstrap). It answers "how would
    another set of such tasks score", and is therefore wider than the error on these very tasks.

    Args:
        scores: one `[episodes]` array of 0/1 (or of differences) a task.
        rng: source of the draws.
        draws: bootstrap resamples.
        confidence: two-sided coverage.

    Raises:
        ValueError: fewer than two tasks, or a task without episodes.
    """
    if len(scores) < 2 or any(len(task) == 0 for task in scores):
        raise ValueError("A bootstrap over tasks needs at least two tasks, each with an episode.")
    means = np.array([np.mean(task) for task in scores])
    picks = rng.integers(0, len(means), size=(draws, len(means)))
    low, high = np.quantile(means[picks].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Return the two-sided exact p-value that A and B succeed equally often on the same episodes.

    Under the null hypothesis each of the discordant episodes is a fair coin, whatever the tasks' difficulties.

    Args:
        only_a: episodes in which only A succeeded.
        only_b: episodes in which only B succeeded.
    """
    from scipy.stats import binomtest

    discordant = only_a + only_b
    return 1.0 if discordant == 0 else float(binomtest(only_a, discordant, 0.5).pvalue)


def paired_difference(only_a: float, only_b: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Return Tango's score interval of rate A - rate B over n pairs (Tango 1998, Stat Med 17:891).

    Args:
        only_a: pairs in which only A succeeded (not whole when n is an effective number).
        only_b: pairs in which only B succeeded.
        n: all pairs.
        confidence: two-sided coverage.

    Raises:
        ValueError: there are fewer pairs than discordant ones.
    """
    if min(only_a, only_b) < 0 or only_a + only_b > n * (1 + 1e-9):
        raise ValueError(f"only_a + only_b <= n was expected, got {only_a} + {only_b} of {n}.")
    if n == 0:
        return Interval(-1.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    estimate = (only_a - only_b) / n

    def excess(delta: float, sign: int) -> float:
        """Score statistic minus its critical value, times the standard error so that it is finite at +-1."""
        a, b = 2 * n, (2 * n - only_a + only_b) * delta - only_a - only_b
        c = -only_b * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = n * max(2 * q + delta * (1 - delta), 0.0)
        return sign * (only_a - only_b - n * delta) - z * math.sqrt(variance)

    from scipy.optimize import brentq

    # Every pair flipped the same way: the estimate itself, at +-1, is a root with no variance, and not the bound.
    edge, step = 1 - 1e-12, 1e-9
    low = -1.0 if excess(-edge, 1) <= 0 else brentq(excess, -edge, estimate - step, args=(1,))
    high = 1.0 if excess(edge, -1) <= 0 else brentq(excess, estimate + step, edge, args=(-1,))
    return Interval(float(low), float(high))


def unpaired_difference(a: float, within_a: Interval, b: float, within_b: Interval) -> Interval:
    """Return the interval of a - b from the intervals of two independent rates (Newcombe 1998, method 10).

    The bounds' distances from the estimates are added in squares ("MOVER"), which keeps Wilson's behaviour at 0 and 1.
    """
    difference = a - b
    down = math.hypot(a - within_a.low, within_b.high - b)
    up = math.hypot(within_a.high - a, b - within_b.low)
    return Interval(max(difference - down, -1.0), min(difference + up, 1.0))


def newcombe(successes_a: int, n_a: int, successes_b: int, n_b: int) -> Interval:
    """Return Newcombe's 95 % interval of the difference between two independent rates."""
    within_a, within_b = wilson(successes_a, n_a), wilson(successes_b, n_b)
    return unpaired_difference(successes_a / n_a, within_a, successes_b / n_b, within_b)


def stratified_p(table: npt.NDArray[np.int64]) -> float:
    """Return the two-sided p-value that two independent runs succeed equally often in every task.

    Fisher's exact test conditions on the margins of one task; the sum over tasks of these hypergeometric counts is
    compared with its own exact distribution (the exact form of the Cochran-Mantel-Haenszel test).

    Args:
        table: `[tasks, 2, 2]` counts: run A, B by success, failure.
    """
    from scipy.stats import hypergeom

    distribution = np.ones(1)
    lowest = 0
    for (a, b), (c, d) in table:
        law = hypergeom(a + b + c + d, a + c, a + b)
        first, last = law.support()
        distribution = np.convolve(distribution, law.pmf(np.arange(first, last + 1)))
        lowest += int(first)
    observed = distribution[int(table[:, 0, 0].sum()) - lowest]
    return float(min(1.0, distribution[distribution <= observed * (1 + 1e-7)].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979): compare each with 0.05 and the family errs in 5 %.

    Equal to statsmodels' `multipletests`, whose import takes longer than a comparison.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, (len(order) - rank) * p_values[i])
        adjusted[i] = min(1.0, largest)
    return adjusted


def smallest_paired_difference(
    n: int, discordant: float, power: float = 0.8, confidence: float = CONFIDENCE
) -> float | None:
    """Return the least difference that n paired episodes show with the given power (Connor 1987, Biometrics 43:207).

    Args:
        n: pairs.
        discordant: share of pairs in which exactly one run succeeds.
        power: probability of a significant two-sided test.
        confidence: one minus the test's level.

    Returns:
        The difference in [0, discordant], or None if n is too small for any.
    """
    from scipy.optimize import brentq

    z_level, z_power = NormalDist().inv_cdf((1 + confidence) / 2), NormalDist().inv_cdf(power)

    def gap(difference: float) -> float:
        spread = math.sqrt(max(discordant - difference**2, 0.0))
        return difference * math.sqrt(n) - z_level * math.sqrt(discordant) - z_power * spread

    return None if discordant <= 0 or gap(discordant) < 0 else float(brentq(gap, 0.0, discordant))

"""How often the intervals cover, and how often the sequential test errs: `python -m studies.coverage`.

Everything is seeded; the figures of a full run stand in the log.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

from analysis.stats.intervals import clopper_pearson, newcombe, paired_difference, task_bootstrap
from analysis.stats.sequential import confidence_sequence
from evals.summary import Interval, binomial_standard_error, equal_weight_interval, wilson
from evals.terminal.tables import Sheet, render
from evals.terminal.text import show

Rates = npt.NDArray[np.float64]
Rows = Iterator[tuple[str, str, str]]


def rate_coverage(interval: Callable[[int, int], Interval], n: int, rates: Sequence[float]) -> Rates:
    """Return the exact probability that an interval over n episodes holds each rate, by summing over outcomes."""
    successes = np.arange(n + 1)
    low, high = np.array([interval(int(k), n) for k in successes]).T
    at = np.asarray(rates)[:, None]
    held = (low <= at) & (at <= high)
    shares: Rates = (scipy_stats.binom.pmf(successes, n, at) * held).sum(axis=1)
    return shares


def wald(successes: int, n: int) -> Interval:
    """Return p ± 1.96 SE, for contrast: it is a point at 0 and at n."""
    rate = successes / n
    half = 1.959964 * binomial_standard_error(rate, n)
    return Interval(rate - half, rate + half)


def mean_coverage(rates: Rates, ns: npt.NDArray[np.int64], rng: np.random.Generator, runs: int) -> float:
    """Return how often `equal_weight_interval` holds the mean of tasks' rates."""
    drawn = rng.binomial(ns, rates, size=(runs, len(rates))) / ns
    held = (equal_weight_interval(list(one), list(map(float, ns))) for one in drawn)
    return float(np.mean([low <= rates.mean() <= high for low, high in held]))


def paired_coverage(n: int, difference: float, discordant: float, rng: np.random.Generator, runs: int) -> float:
    """Return how often Tango's interval holds the difference of n pairs."""
    chances = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    counts = rng.multinomial(n, chances, size=runs)
    held = (paired_difference(int(a), int(b), n) for a, b, _ in counts)
    return float(np.mean([low <= difference <= high for low, high in held]))


def unpaired_coverage(n: int, a: float, b: float, rng: np.random.Generator, runs: int) -> float:
    """Return how often Newcombe's interval holds the difference of two independent rates over n episodes each."""
    pairs = zip(rng.binomial(n, a, runs), rng.binomial(n, b, runs), strict=True)
    held = (newcombe(int(x), n, int(y), n) for x, y in pairs)
    return float(np.mean([low <= a - b <= high for low, high in held]))


def bootstrap_coverage(tasks: int, rng: np.random.Generator, runs: int) -> float:
    """Return how often `task_bootstrap` holds the mean of the population (uniform rates) that tasks are drawn from."""
    held = []
    for _ in range(runs):
        scores = [(rng.random(50) < rate).astype(float) for rate in rng.random(tasks)]
        low, high = task_bootstrap(scores, rng, draws=1000)
        held.append(low <= 0.5 <= high)
    return float(np.mean(held))


def draw_differences(mean: Rates, discordant: float, blocks: int, rng: np.random.Generator) -> Rates:
    """Draw `[blocks, tasks]` differences in {-1, 0, 1} with these means and probability of a flip."""
    u = rng.random((blocks, len(mean)))
    return np.where(u < (discordant + mean) / 2, 1.0, np.where(u < discordant, -1.0, 0.0))


def ever_wrong(mean: Rates, discordant: float, blocks: int, rng: np.random.Generator, runs: int) -> float:
    """Return how often the confidence sequence, watched after every block, ever excludes the mean difference."""
    finals = (confidence_sequence(draw_differences(mean, discordant, blocks, rng))[-1] for _ in range(runs))
    return float(np.mean([not low <= mean.mean() <= high for low, high in finals]))


def blocks_to_decide(
    mean: Rates, discordant: float, blocks: int, rng: np.random.Generator, runs: int
) -> tuple[float, float]:
    """Return how often A is found to be better within the blocks, and the mean share of blocks run until then."""
    stops = []
    for _ in range(runs):
        sequence = confidence_sequence(draw_differences(mean, discordant, blocks, rng))
        stops.append(next((at for at, interval in enumerate(sequence) if interval.low > 0), None))
    found = [stop for stop in stops if stop is not None]
    return len(found) / runs, sum(blocks if stop is None else stop for stop in stops) / runs / blocks


def simulate(runs: int, seed: int) -> list[Sheet]:
    """Return all figures, for a number of simulated runs a row."""
    rng = np.random.default_rng(seed)
    kinds: Sequence[tuple[str, Rows]] = (
        ("Coverage of 95 % intervals", _coverage(rng, runs)),
        ("The sequential test, watched after every block of one pair a task", _sequential(rng, runs)),
    )
    return [Sheet(title, ("What", "Case", "Measured"), tuple(rows), labels=2) for title, rows in kinds]


def _coverage(rng: np.random.Generator, runs: int) -> Rows:
    for name, interval in (("Wilson", wilson), ("Clopper-Pearson", clopper_pearson), ("p ± 1.96 SE", wald)):
        for n in (24, 50, 500):
            shares = rate_coverage(interval, n, np.arange(0.02, 0.99, 0.02).tolist())
            text = f"mean {100 * shares.mean():.1f}, least {100 * shares.min():.1f} %"
            yield f"{name}, exact", f"n = {n}, p = 0.02 to 0.98", text
    suites = {"equal": np.full(10, 0.85), "spread": np.linspace(0.3, 1.0, 10), "hard": np.array([0.0] * 8 + [0.1, 0.3])}
    for name, rates in suites.items():
        for kind, ns in (("50 each", np.full(10, 50)), ("10 to 100", np.linspace(10, 100, 10).astype(int))):
            share = mean_coverage(rates, ns, rng, runs)
            yield "Mean of 10 tasks", f"rates {name}, episodes {kind}", f"{100 * share:.1f} %"
    for n, difference, discordant in ((24, 0.0, 0.2), (50, 0.1, 0.3), (500, 0.0, 0.1), (500, 0.05, 0.2)):
        share = paired_coverage(n, difference, discordant, rng, runs)
        yield "Paired difference (Tango)", f"n = {n}, {difference} of {discordant} flips", f"{100 * share:.1f} %"
    for n, a, b in ((24, 0.5, 0.5), (50, 0.9, 0.8), (500, 0.86, 0.85)):
        yield "Unpaired difference", f"n = {n}, {a} and {b}", f"{100 * unpaired_coverage(n, a, b, rng, runs):.1f} %"
    for tasks in (4, 10, 40):
        share = bootstrap_coverage(tasks, rng, max(runs // 10, 1))
        yield "Bootstrap over tasks", f"{tasks} tasks", f"{100 * share:.1f} %"


def _sequential(rng: np.random.Generator, runs: int) -> Rows:
    few = max(runs // 4, 1)
    for name, mean, discordant, blocks in (
        ("10 equal tasks, no difference", np.zeros(10), 0.2, 50),
        ("10 tasks, +0.5 to -0.5, none on average", np.linspace(0.5, -0.5, 10), 0.6, 50),
        ("1 task of 500, no difference", np.zeros(1), 0.3, 500),
        ("4 tasks of 24, +0.1", np.full(4, 0.1), 0.3, 24),
    ):
        yield "Ever wrong (at most 5 %)", name, f"{100 * ever_wrong(mean, discordant, blocks, rng, few):.1f} %"
    for difference, discordant in ((0.05, 0.2), (0.1, 0.2), (0.1, 0.4), (0.2, 0.4)):
        found, share = blocks_to_decide(np.full(10, difference), discordant, 50, rng, few)
        case = f"10 tasks x 50, +{difference}, {discordant} flips"
        yield "Finds the better one", case, f"{100 * found:.0f} %, after {100 * share:.0f} % of the episodes"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=4000, help="simulated runs a row")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    show(render(simulate(arguments.runs, arguments.seed), "markdown"))


if __name__ == "__main__":
    main()

"""Success rates with their errors: what the evaluator prints at the end of a run.

A rate is never printed without its interval, an episode that crashed is missing and not failed, and episodes that
repeat the very same trajectory count as one. `analysis.stats.intervals` builds on the functions here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist
from typing import NamedTuple

from evals.errors import RecordError
from evals.types import EpisodeResult, Status, Task

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Two-sided bounds of a rate, both in [0, 1] (or of a difference, in [-1, 1])."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A value with its standard error, in the same unit."""

    value: float
    standard_error: float


def binomial_standard_error(rate: float, n: float) -> float:
    """Return sqrt(rate (1 - rate) / n), the standard error of a success rate over n independent episodes.

    Raises:
        ValueError: rate lies outside [0, 1] or n is not positive.
    """
    if not 0 <= rate <= 1 or n <= 0:
        raise ValueError(f"A rate in [0, 1] over n > 0 episodes was expected, got {rate} over {n}.")
    return math.sqrt(rate * (1 - rate) / n)


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's score interval of a rate (Wilson 1927, JASA 22:209); (0, 1) without episodes.

    Args:
        successes: number of successes; not whole when n is an effective number.
        n: number of independent episodes.
        confidence: two-sided coverage.

    Raises:
        ValueError: successes lies outside [0, n].
    """
    if not 0 <= successes <= n:
        raise ValueError(f"0 <= successes <= n was expected, got {successes} of {n}.")
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / n
    centre = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return Interval(low, high)


def equal_weight_mean(rates: Sequence[float], ns: Sequence[float]) -> Estimate:
    """Return the mean of strata's rates with its stratified standard error, sqrt(sum p(1-p)/n) / K.

    Each stratum (a task of a suite, or a suite of a benchmark) weighs the same whatever its n. Between-stratum
    variance does not enter: the strata are the benchmark, not a sample of it.

    Raises:
        ValueError: there is no stratum, or the lengths differ, or a rate or n is out of range.
    """
    if not rates:
        raise ValueError("The mean of no strata is not defined.")
    variance = sum(binomial_standard_error(p, n) ** 2 for p, n in zip(rates, ns, strict=True))
    return Estimate(sum(rates) / len(rates), math.sqrt(variance) / len(rates))


def equal_weight_interval(rates: Sequence[float], ns: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's interval of an equal-weight mean, with n = K^2 / sum(1/n), the strata's effective size.

    With equal n it is Wilson's interval of the pooled rate. It ignores the gain from stratification and so errs
    on the wide side, but unlike mean ± z SE it does not collapse to a point when every stratum is at 0 or 1.
    """
    mean = equal_weight_mean(rates, ns).value
    n = len(ns) ** 2 / sum(1 / n for n in ns)
    return wilson(min(max(mean * n, 0.0), n), n, confidence)


def effective_n(trajectory_hashes: Iterable[str]) -> float:
    """Return how many independent episodes carry as much as these: n^2 / sum m^2 over repeats m of a trajectory.

    Three runs of a greedy policy on the same initial states are the same n episodes three times: 3n episodes
    with n_eff = n. This is Kish's effective sample size, exact for the variance of the plain mean when equal
    hashes mean equal outcomes. Empty hashes (nothing recorded) count as distinct.
    """
    repeats = Counter(trajectory_hashes)
    unknown = repeats.pop("", 0)
    n = sum(repeats.values()) + unknown
    squares = sum(m * m for m in repeats.values()) + unknown
    return n * n / squares if n else 0.0


def worst_case(successes: int, scored: int, planned: int) -> Interval:
    """Return the rates if every missing episode had failed, and if every one had succeeded.

    Raises:
        ValueError: not 0 <= successes <= scored <= planned, or nothing was planned.
    """
    if not 0 <= successes <= scored <= planned or planned == 0:
        raise ValueError(f"successes <= scored <= planned was expected, got {successes}, {scored}, {planned}.")
    return Interval(successes / planned, (successes + planned - scored) / planned)


@dataclass(frozen=True)
class Rate:
    """A success rate with its errors: of one task's episodes, or the equal-weight mean of other rates.

    Attributes:
        task: id of the task, beside its name and instruction; None of a mean.
        planned: episodes that the run asked for.
        scored: episodes that ended in success or failure.
        successes: those of them that the protocol's rule scores as success.
        successes_ever: episodes in which the rule held at any step.
        successes_last: episodes in which it held at the last step.
        effective: n_eff of the scored episodes (`effective_n`).
        at_reset: scored episodes that were successes before the first action.
        unofficial: scored episodes whose initial state is not one of the protocol's.
        errors: status -> episodes whose last attempt ended so, scored statuses left out.
        partial: partial outcome -> rate over the scored episodes that recorded it; None while a part has none.
        parts: the rates that a mean is of; a mean's counts are their sums.
    """

    task: int | None
    name: str
    instruction: str
    planned: int
    scored: int
    successes: int
    successes_ever: int
    successes_last: int
    effective: float
    at_reset: int
    unofficial: int
    errors: Mapping[str, int] = field(default_factory=dict)
    partial: Mapping[str, float | None] = field(default_factory=dict)
    parts: tuple[Rate, ...] = ()

    def __str__(self) -> str:
        low, high = self.interval
        rate = "?" if self.value is None else f"{100 * self.value:.1f} %"
        return f"{rate} of {self.scored} episodes, 95 % interval {100 * low:.1f} to {100 * high:.1f}"

    @property
    def label(self) -> str:
        """What tables call it."""
        return "Mean of tasks" if self.task is None else f"{self.task} {self.instruction or self.name}"

    @property
    def value(self) -> float | None:
        """Success rate over the scored episodes, None without any; of a mean, None while a part of it has none."""
        if not self.parts:
            return self.successes / self.scored if self.scored else None
        values = [part.value for part in self.parts if part.value is not None]
        return sum(values) / len(values) if len(values) == len(self.parts) else None

    @property
    def standard_error(self) -> float | None:
        """Binomial standard error over the effective number of episodes; of a mean, the stratified one."""
        if self.value is None or not self.parts:
            return None if self.value is None else binomial_standard_error(self.value, self.effective)
        return math.sqrt(sum((part.standard_error or 0.0) ** 2 for part in self.parts)) / len(self.parts)

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval over the effective number of episodes, of a mean too (`equal_weight_interval`)."""
        if self.value is None:
            return Interval(0.0, 1.0)
        if not self.parts:
            return wilson(self.value * self.effective, self.effective)
        return equal_weight_interval([part.value or 0.0 for part in self.parts], [p.effective for p in self.parts])

    @property
    def missing(self) -> int:
        """Planned episodes without a score."""
        return self.planned - self.scored

    @property
    def bounds(self) -> Interval:
        """Rates if all missing episodes had failed, or succeeded."""
        if not self.planned:
            return Interval(0.0, 1.0)
        if not self.parts:
            return worst_case(self.successes, self.scored, self.planned)
        ends = zip(*(part.bounds for part in self.parts), strict=True)
        return Interval(*(sum(end) / len(end) for end in ends))


def mean_of(parts: Sequence[Rate]) -> Rate:
    """Return the equal-weight mean of rates, with their counts summed."""
    counts = ("planned", "scored", "successes", "successes_ever", "successes_last", "at_reset", "unofficial")
    partial: dict[str, float | None] = {}
    for name in dict.fromkeys(name for part in parts for name in part.partial):
        rates = [rate for part in parts if (rate := part.partial.get(name)) is not None]
        partial[name] = sum(rates) / len(rates) if len(rates) == len(parts) else None
    return Rate(
        task=None,
        name="mean",
        instruction="",
        effective=float(sum(part.effective for part in parts)),
        **{name: sum(getattr(part, name) for part in parts) for name in counts},
        errors=sum((Counter(part.errors) for part in parts), Counter[str]()),
        partial=partial,
        parts=tuple(parts),
    )


@dataclass(frozen=True)
class Summary:
    """A run's tasks, and their equal-weight mean."""

    suite: str
    tasks: tuple[Rate, ...]

    @cached_property
    def mean(self) -> Rate:
        """Equal-weight mean over tasks; its value is None while a task has no score."""
        return mean_of(self.tasks)

    @property
    def interval(self) -> Interval:
        """95 % interval of the mean."""
        return self.mean.interval

    def total(self, field: str) -> float:
        """Return the sum of a numeric field or property of the task rows, e.g. `total("missing")`."""
        return float(getattr(self.mean, field))


def summarise(
    suite: str, tasks: Sequence[Task], results: Sequence[EpisodeResult], planned: Mapping[int, int]
) -> Summary:
    """Return the rows of one run.

    Args:
        suite: the suite's name.
        tasks: its tasks, of which only those in `planned` get a row.
        results: the last result of each episode.
        planned: task id -> episodes asked for (`Counter(episode.task for episode in plan)`).

    Raises:
        RecordError: an episode occurs twice, or belongs to a task that was not planned.
    """
    by_task: dict[int, list[EpisodeResult]] = {task: [] for task in planned}
    seen = set()
    for result in results:
        if result.episode_id in seen:
            raise RecordError(f"Episode {result.episode_id} of {suite} task {result.task} occurs twice in the results.")
        if result.task not in by_task:
            raise RecordError(f"Task {result.task} of {suite} has results but was not planned.")
        seen.add(result.episode_id)
        by_task[result.task].append(result)
    rates = (_rate(task, by_task[task.id], planned[task.id]) for task in tasks if task.id in planned)
    return Summary(suite, tuple(rates))


def _rate(task: Task, results: Sequence[EpisodeResult], planned: int) -> Rate:
    scored = [result for result in results if result.status.scored]
    return Rate(
        task=task.id,
        name=task.name,
        instruction=task.instruction,
        planned=max(planned, len(scored)),
        scored=len(scored),
        successes=sum(result.status is Status.SUCCESS for result in scored),
        successes_ever=sum(result.success_ever for result in scored),
        successes_last=sum(result.success_last for result in scored),
        effective=effective_n(result.trajectory_hash for result in scored),
        at_reset=sum(result.success_at_reset for result in scored),
        unofficial=sum(not result.official for result in scored),
        errors=dict(Counter(result.status.value for result in results if not result.status.scored)),
        partial=_partial([result.partial for result in scored if result.partial]),
    )


def _partial(outcomes: Sequence[Mapping[str, bool]]) -> dict[str, float | None]:
    names = dict.fromkeys(name for outcome in outcomes for name in outcome)
    known = {name: [outcome[name] for outcome in outcomes if name in outcome] for name in names}
    return {name: sum(holds) / len(holds) for name, holds in known.items()}

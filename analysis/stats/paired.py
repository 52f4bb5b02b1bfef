"""Two policies on the same episodes: who is better, by how much, and which episodes flip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.recorded import labels_of
from analysis.stats import intervals as stats
from analysis.stats.sequential import Decision, decide, distinct_pairs
from analysis.stats.sides import Key, Side, key_of, protocol_note, run_notes, same_seeds, side_of
from evals.errors import UsageError
from evals.record import Run
from evals.summary import Interval, effective_n, equal_weight_interval, equal_weight_mean
from evals.types import EpisodeResult, Status

Pair = tuple[EpisodeResult, EpisodeResult]


@dataclass(frozen=True)
class Row:
    """A task, or the equal-weight mean of a suite's tasks.

    Attributes:
        n: episodes of A and of B with distinct trajectories; paired, both are the number of pairs.
        only_a: pairs in which only A succeeded; None when unpaired.
        only_b: pairs in which only B succeeded; None when unpaired.
        interval: 95 % interval of the difference (Tango's score interval; unpaired: Newcombe's).
    """

    label: str
    n: tuple[float, float]
    rate_a: float
    rate_b: float
    only_a: int | None
    only_b: int | None
    interval: Interval

    @property
    def difference(self) -> float:
        """Rate A - rate B."""
        return self.rate_a - self.rate_b


@dataclass(frozen=True)
class Flip:
    """An episode that one run solved and the other did not, with the videos that exist."""

    task: int
    initial_state: int
    seed: int
    episode_id: str
    better: str
    videos: tuple[str, ...]


@dataclass(frozen=True)
class SuiteComparison:
    """Two policies on one suite.

    Attributes:
        paired: whether rows compare the same episodes.
        tasks: one row a task.
        mean: the equal-weight mean over tasks.
        p: exact two-sided p-value (McNemar; unpaired: stratified Fisher).
        p_holm: the same, adjusted for the number of suites compared.
        flips: episodes whose outcome differs.
        notes: sentences that must stand beside the numbers.
        decision: of the anytime-valid test, if it was asked for.
    """

    suite: str
    paired: bool
    tasks: tuple[Row, ...]
    mean: Row
    p: float
    p_holm: float
    flips: tuple[Flip, ...]
    notes: tuple[str, ...]
    decision: Decision | None = None


def compare(
    a: Sequence[Run], b: Sequence[Run], sequential: float | None = None, mixed_protocols: bool = False
) -> SuiteComparison:
    """Compare two policies on one suite, on the same episodes (task, initial state, seed) where they have some.

    Args:
        a: one policy's runs, one a seed.
        b: the other's.
        sequential: minimum difference for the anytime-valid test, or None to leave it out.
        mixed_protocols: compare although the protocols differ, and say so.

    Raises:
        UsageError: the suites differ, the protocols differ and that is not asked for, no task has scores in both, or
            the runs of one side cannot be counted together.
        RunFolderError: a record has episodes of tasks that its header lacks.
    """
    one, other = side_of(a), side_of(b)
    suites = [side.header.suite["name"] for side in (one, other)]
    if suites[0] != suites[1]:
        raise UsageError(f"{one.place} ran {suites[0]} and {other.place} ran {suites[1]}: nothing to compare.")
    notes = [*protocol_note(one, other, mixed_protocols), *run_notes(one, other)]
    scored_a, scored_b = _by_key(one), _by_key(other)
    decision = None if sequential is None else decide(*same_seeds(one, other), sequential)
    shared = sorted(set(scored_a) & set(scored_b))
    if shared:
        result = _paired(one, other, [(scored_a[key], scored_b[key]) for key in shared])
        lost = len({key_of(r) for side in (one, other) for r in side.results}) - len(shared)
        if lost:
            notes.append(f"Left out, without a score in both runs: {lost}.")
    else:
        result = _unpaired(one, other)
    return replace(result, notes=(*notes, *result.notes), decision=decision)


def adjust(comparisons: Sequence[SuiteComparison]) -> list[SuiteComparison]:
    """Return the comparisons with Holm's adjustment over them."""
    adjusted = stats.holm([comparison.p for comparison in comparisons])
    return [replace(comparison, p_holm=p) for comparison, p in zip(comparisons, adjusted, strict=True)]


def _by_key(side: Side) -> dict[Key, EpisodeResult]:
    return {key_of(result): result for result in side.results if result.status.scored}


def _success(result: EpisodeResult) -> bool:
    return result.status is Status.SUCCESS


def _paired(a: Side, b: Side, pairs: list[Pair]) -> SuiteComparison:
    kept = distinct_pairs(pairs)
    labels = labels_of(a.runs[0])
    ids = sorted({one.task for one, _ in kept})
    counts = {task: _counts([pair for pair in kept if pair[0].task == task]) for task in ids}
    tasks = [
        Row(labels[task], (n, n), k_a / n, k_b / n, only_a, only_b, stats.paired_difference(only_a, only_b, n))
        for task, (n, k_a, k_b, only_a, only_b) in counts.items()
    ]
    # The strata's effective size, as in evals.summary.equal_weight_interval; with equal n it is the number of pairs.
    size = len(tasks) ** 2 / sum(1 / row.n[0] for row in tasks)
    shares = [np.mean([counts[task][column] / counts[task][0] for task in ids]) for column in range(1, 5)]
    only_a, only_b = (sum(counts[task][column] for task in ids) for column in (3, 4))
    interval = stats.paired_difference(float(shares[2]) * size, float(shares[3]) * size, size)
    mean = Row("Mean of tasks", (len(kept), len(kept)), float(shares[0]), float(shares[1]), only_a, only_b, interval)
    p = stats.mcnemar_exact(only_a, only_b)
    notes = []
    if len(kept) < len(pairs):
        notes.append(f"{len(pairs) - len(kept)} pairs repeat earlier trajectories of both runs and are left out.")
    notes += _repeats(kept)
    needed = stats.smallest_paired_difference(len(kept), (only_a + only_b) / len(kept))
    if needed is not None:
        notes.append(
            f"{len(kept)} pairs that flip as often find a difference of {100 * needed:.1f} points with power 80 %."
        )
    flips = tuple(_flip(a, b, pair) for pair in kept if _success(pair[0]) != _success(pair[1]))
    return SuiteComparison(a.header.suite["name"], True, tuple(tasks), mean, p, p, flips, tuple(notes))


def _counts(pairs: Sequence[Pair]) -> tuple[int, int, int, int, int]:
    """Return pairs, successes of A, of B, of A only, of B only."""
    a, b = ([_success(pair[side]) for pair in pairs] for side in (0, 1))
    only_a = sum(x and not y for x, y in zip(a, b, strict=True))
    only_b = sum(y and not x for x, y in zip(a, b, strict=True))
    return len(pairs), sum(a), sum(b), only_a, only_b


def _repeats(pairs: Sequence[Pair]) -> list[str]:
    """Say which side repeats its trajectories where the other does not: such pairs are kept."""
    notes = []
    for name, results in zip("AB", zip(*pairs, strict=True), strict=True):
        effective = effective_n(result.trajectory_hash for result in results)
        if effective < len(results):
            notes.append(
                f"{len(results)} episodes of {name} carry as much as {effective:.0f}: some repeat a trajectory while"
                " those of the other side do not. Interval and p are about these scenes and seeds only."
            )
    return notes


def _flip(a: Side, b: Side, pair: Pair) -> Flip:
    one, other = pair
    homes = ((a.folders[key_of(one)], one), (b.folders[key_of(other)], other))
    films = (path / "videos" / f"{result.episode_id}.mp4" for path, result in homes)
    videos = tuple(str(video_camera) for video_camera in films if video_camera.exists())
    return Flip(one.task, one.initial_state, one.seed, one.episode_id, "A" if _success(one) else "B", videos)


def _unpaired(a: Side, b: Side) -> SuiteComparison:
    side, other = _by_task(a), _by_task(b)
    ids = sorted(set(side) & set(other))
    if not ids:
        raise UsageError(f"No task has scored episodes in both {a.place} and {b.place}.")
    labels = labels_of(a.runs[0])
    rows = [_unpaired_row(labels[task], [side[task]], [other[task]]) for task in ids]
    mean = _unpaired_row("Mean of tasks", [side[task] for task in ids], [other[task] for task in ids])
    table = np.array([[_outcomes(side[task]), _outcomes(other[task])] for task in ids])
    p = stats.stratified_p(table)
    note = "UNPAIRED: the runs share no episode, so differences of the scenes are part of the error."
    return SuiteComparison(a.header.suite["name"], False, tuple(rows), mean, p, p, (), (note,))


def _by_task(side: Side) -> dict[int, list[EpisodeResult]]:
    tasks: dict[int, dict[str, EpisodeResult]] = {}
    for result in side.results:
        if result.status.scored:
            # One of each trajectory: a repeat is the same episode again.
            tasks.setdefault(result.task, {})[result.trajectory_hash or result.episode_id] = result
    return {task: list(results.values()) for task, results in tasks.items()}


def _outcomes(group: Sequence[EpisodeResult]) -> tuple[int, int]:
    successes = sum(map(_success, group))
    return successes, len(group) - successes


def _unpaired_row(label: str, a: Sequence[Sequence[EpisodeResult]], b: Sequence[Sequence[EpisodeResult]]) -> Row:
    rates = [[_outcomes(group)[0] / len(group) for group in side] for side in (a, b)]
    ns = [[float(len(group)) for group in side] for side in (a, b)]
    mean_a, mean_b = (equal_weight_mean(*side).value for side in zip(rates, ns, strict=True))
    within_a, within_b = (equal_weight_interval(*side) for side in zip(rates, ns, strict=True))
    interval = stats.unpaired_difference(mean_a, within_a, mean_b, within_b)
    return Row(label, (sum(ns[0]), sum(ns[1])), mean_a, mean_b, None, None, interval)

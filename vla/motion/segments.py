"""A labeller that cuts an episode into segments of steady speed and asks of each which axes move in it.

Not the paper's. One set of borders serves all axes; the cheapest set is found by dynamic programming over all of them.
The noise of an axis is estimated inside each segment, starting from the jitter of the episode, so that evidence is
counted in units of that noise: a slow motion that no noise hides is a motion, and a fast tremble is none. What is found
must matter as well: more than a leak of the motion that goes on beside it, and more than a small part of the way that
the arm makes in the episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla.actions import normalize_scale
from vla.motion.hmm import MEDIAN_OF_NORMAL_DIFFERENCE, slots_of
from vla.motion.labellers import Floats, Labeller, Slots, round_to_grid
from vla.statistics import GRIPPER, ActionStatistics, check_actions


class _Run(NamedTuple):
    """Neighbouring steps in which an axis moves the same way.

    Attributes:
        axis: which of six.
        begin: first step.
        end: step after the last.
        distance: between its ends, in steps at the data set's top speed.
    """

    axis: int
    begin: int
    end: int
    distance: float


@dataclass(frozen=True)
class SegmentLabeller(Labeller):
    """Most likely segments of steady speed, borders shared by all axes, noise estimated inside each segment.

    One setting serves every data set; the defaults are what `python -m studies.motion.search` found. Speeds are in
    units of the data set's scale.

    Attributes:
        border_cost: price of a border, in nats.
        axis_cost: price of an axis that moves in a segment, in nats.
        evidence: what a step's log likelihood counts; below 1, since the noise of neighbouring steps is alike.
        noise_floor: smallest noise of an axis.
        own_noise: further noise per unit of the episode's own jitter, the median change from step to step.
        prior_steps: steps that this first estimate of the noise counts for in a segment.
        rest_speed: mean speed up to which an axis may rest in any segment.
        rest_noise: further speed per unit of the first estimate of its noise: noise drifts.
        leak: speed up to which x, y or z may rest, as a part of the arm's speed in the segment.
        turn_leak: the same of roll, pitch and yaw.
        overlap_part: smallest distance of a run, as a part of the largest one that overlaps it in time.
        smallest_part: smallest distance of a run, as a part of the arm's way: the largest range of an axis's position.
        longest: steps of the longest segment; a longer motion is several segments.
        event_steps: longest gripper event; it ends earlier when another motion starts.
        gripper_hold: steps a gripper level must last to count; shorter runs are flicker.
        smallest_scale: see `vla.actions.normalize_scale`.
        smallest_turn: see there.
    """

    border_cost: float = 5.2
    axis_cost: float = 1.4
    evidence: float = 0.7
    noise_floor: float = 0.009
    own_noise: float = 0.8
    prior_steps: float = 3.8
    rest_speed: float = 0.01
    rest_noise: float = 0.36
    leak: float = 0.1
    turn_leak: float = 0.2
    overlap_part: float = 0.07
    smallest_part: float = 0.015
    longest: int = 400
    event_steps: int = 18
    gripper_hold: int = 2
    smallest_scale: float = 0.885
    smallest_turn: float = 1.0

    def slots(self, actions: ArrayLike, statistics: ActionStatistics, episode: str = "") -> Slots:
        """See `vla.motion.labellers.Labeller.slots`."""
        array = check_actions(actions, statistics.dataset, episode)
        normalized = normalize_scale(array, statistics, self.smallest_scale, self.smallest_turn)[:, :GRIPPER]
        words = self._significant(round_to_grid(normalized))
        return slots_of(words, array[:, GRIPPER], self.event_steps, self.gripper_hold)

    def _significant(self, deltas: Floats) -> Floats:
        """Return the words of `[T, 6]` deltas, as signs, without the runs that lead nowhere."""
        words = self._segmented(deltas)
        position = _cumulated(deltas)
        smallest = self.smallest_part * float(np.ptp(position, axis=0).max())
        runs = _runs(words, position)
        for run in runs:
            beside = max(other.distance for other in runs if other.begin < run.end and run.begin < other.end)
            if run.distance < max(smallest, self.overlap_part * beside):
                words[run.begin : run.end, run.axis] = 0
        return words

    def _segmented(self, deltas: Floats) -> Floats:
        """Find the cheapest segments by dynamic programming and return the sign of every axis that moves, `[T, 6]`.

        A start is forgotten once it is dearer than the best start by more than a border costs: later steps are then
        cheaper to reach through that border (PELT's rule: Killick et al. 2012, theorem 3.1).
        """
        steps = len(deltas)
        noise = self.first_noise(deltas)
        sums, squares = _cumulated(deltas), _cumulated(deltas**2)
        best, came_from = np.zeros(steps + 1), np.zeros(steps + 1, dtype=np.intp)
        moving = np.zeros((steps + 1, 6), dtype=bool)
        starts = np.zeros(0, dtype=np.intp)
        for end in range(1, steps + 1):
            starts = np.append(starts, end - 1)
            costs, moves = self._costs(sums[end] - sums[starts], squares[end] - squares[starts], end - starts, noise)
            total = best[starts] + costs
            chosen = int(total.argmin())
            best[end], came_from[end], moving[end] = total[chosen] + self.border_cost, starts[chosen], moves[chosen]
            starts = starts[(total <= total[chosen] + 2 * self.border_cost) & (end - starts < self.longest)]
        words = np.zeros((steps, 6))
        while steps:
            begin = came_from[steps]
            words[begin:steps] = np.where(moving[steps], np.sign(sums[steps] - sums[begin]), 0)
            steps = begin
        return words

    def first_noise(self, deltas: Floats) -> Floats:
        """Estimate the noise of every axis, `[6]`, of an episode's normalised `[T, 6]` deltas."""
        return self.noise_floor + self.own_noise * _jitter(deltas)

    def _costs(
        self, sums: Floats, squares: Floats, lengths: NDArray[np.intp], noise: Floats
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the price `[S]` of S segments that end together, and which axes move in each, `[S, 6]`.

        Args:
            sums: `[S, 6]` of the deltas in each segment.
            squares: `[S, 6]` sums of their squares.
            lengths: `[S]` steps.
            noise: `[6]` first estimate of every axis's noise.
        """
        count = lengths[:, None].astype(np.float64)
        mean = np.abs(sums) / count
        spread = np.maximum(squares - count * mean**2, 0)
        speed = np.sqrt((mean**2).sum(axis=1, keepdims=True))
        at_rest = np.maximum(
            self.rest_speed + self.rest_noise * noise, np.repeat([self.leak, self.turn_leak], 3) * speed
        )
        moved = spread + count * np.maximum(mean - at_rest, 0) ** 2
        weight = 0.5 * self.evidence * (count + self.prior_steps)
        rest = weight * np.log((moved / noise**2 + self.prior_steps) / (count + self.prior_steps))
        move = weight * np.log((spread / noise**2 + self.prior_steps) / (count + self.prior_steps)) + self.axis_cost
        return np.minimum(rest, move).sum(axis=1), move < rest


def _cumulated(values: Floats) -> Floats:
    """Return sums of `[T, n]` up to every step, `[T + 1, n]`."""
    total = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=total[1:])
    return total


def _jitter(deltas: Floats) -> Floats:
    """Estimate the deviation of white noise of every axis, `[6]`, from changes from step to step."""
    if len(deltas) < 2:
        return np.zeros(deltas.shape[1])
    jitter: Floats = np.median(np.abs(np.diff(deltas, axis=0)), axis=0) / MEDIAN_OF_NORMAL_DIFFERENCE
    return jitter


def _runs(words: Floats, position: Floats) -> list[_Run]:
    found = []
    for axis in range(words.shape[1]):
        edges = np.flatnonzero(np.diff(words[:, axis], prepend=np.inf, append=np.inf))
        for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if words[begin, axis]:
                found.append(_Run(axis, begin, end, abs(float(position[end, axis] - position[begin, axis]))))
    return found

"""A third labeller: every axis is a hidden Markov model of a few speeds, decoded by Viterbi over the whole episode.

Not the paper's. It keeps the paper's two ideas, scale-free deltas and a tolerance that grows with speed, and replaces
thresholds on windows by the most likely sequence of speeds: a word starts where the evidence of all steps around it
pays for the change. A short fast motion and a long slow one are found by the same rule, at any control rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla.actions import normalize_scale
from vla.motion.labellers import Floats, Labeller, Slots, displacement, round_to_grid, window_bounds, without_flicker
from vla.statistics import GRIPPER, ActionStatistics, check_actions

_EPISODES_AT_ONCE = 64
MEDIAN_OF_NORMAL_DIFFERENCE = 0.954
"""Median of |a - b| for two standard normal values."""


@dataclass(frozen=True)
class HmmLabeller(Labeller):
    """Most likely speeds per axis: Cauchy noise around a few speeds, a fixed price for every change of speed.

    One setting serves every data set; the defaults are what `python -m studies.motion.search` found.

    Attributes:
        slowest: slowest hidden speed, in units of the data set's scale.
        fastest: fastest hidden speed; anything faster fits it without error.
        speeds: hidden speeds from slowest to fastest, in geometric steps; each exists both ways, and rest is one more.
        rest_noise: width of the noise that every episode is granted.
        own_noise: width granted per unit of the episode's own jitter, the median change from step to step.
        speed_noise: further width per unit of the hidden speed.
        local_speed_noise: further width per unit of the arm's mean speed around the step: eq. 1's idea.
        local_speed_span: steps around `t` over which that mean is taken.
        switch_cost: price, in nats, of a change of word.
        speed_cost: price of a change of speed that leaves the word.
        event_steps: longest gripper event; it ends earlier when another motion starts.
        gripper_hold: steps a gripper level must last to count; shorter runs are flicker.
        smallest_scale: see `vla.actions.normalize_scale`.
        smallest_turn: see there.
    """

    slowest: float = 0.169
    fastest: float = 0.593
    speeds: int = 4
    rest_noise: float = 0.0366
    own_noise: float = 0.82
    speed_noise: float = 0.27
    local_speed_noise: float = 0.227
    local_speed_span: int = 15
    switch_cost: float = 1.45
    speed_cost: float = 1.71
    event_steps: int = 18
    gripper_hold: int = 2
    smallest_scale: float = 0.885
    smallest_turn: float = 1.0

    def slots(self, actions: ArrayLike, statistics: ActionStatistics, episode: str = "") -> Slots:
        """See `vla.motion.labellers.Labeller.slots`."""
        return self.slots_of_episodes({episode: actions}, statistics)[0]

    def slots_of_episodes(self, episodes: Mapping[str, ArrayLike], statistics: ActionStatistics) -> list[Slots]:
        """Label several episodes at once: Viterbi's loop over steps is paid once for all of them."""
        arrays = [check_actions(actions, statistics.dataset, name) for name, actions in episodes.items()]
        speeds = np.geomspace(self.slowest, self.fastest, self.speeds)
        states = np.concatenate([[0.0], speeds, -speeds])
        transition_cost = self._transition_costs(states)
        labels = []
        for first in range(0, len(arrays), _EPISODES_AT_ONCE):
            batch = arrays[first : first + _EPISODES_AT_ONCE]
            emission_cost = np.zeros((max(map(len, batch)), len(batch), 6, len(states)))
            for number, array in enumerate(batch):
                normalized = normalize_scale(array, statistics, self.smallest_scale, self.smallest_turn)[:, :GRIPPER]
                emission_cost[: len(array), number] = self._emission_cost(round_to_grid(normalized), states)
            path = viterbi(emission_cost.reshape(len(emission_cost), -1, len(states)), transition_cost)
            words = np.sign(states)[path].reshape(len(emission_cost), len(batch), 6)
            labels += [
                slots_of(words[: len(array), number], array[:, GRIPPER], self.event_steps, self.gripper_hold)
                for number, array in enumerate(batch)
            ]
        return labels

    def _emission_cost(self, deltas: Floats, states: Floats) -> Floats:
        """Negative log density of `[T, 6]` deltas under each of S states, `[T, 6, S]`, up to a constant."""
        squares = np.column_stack([(deltas[:, :3] ** 2).sum(axis=1), (deltas**2).sum(axis=1)])
        low, high = window_bounds(len(deltas), self.local_speed_span, "centered")
        local_speed = displacement(np.sqrt(squares), low, high) / (high - low)[:, None]
        changes = np.abs(np.diff(deltas, axis=0, prepend=deltas[:1]))
        jitter = np.median(changes, axis=0) / MEDIAN_OF_NORMAL_DIFFERENCE
        granted = self.rest_noise + self.own_noise * jitter + self.local_speed_noise * np.repeat(local_speed, 3, axis=1)
        width = granted[:, :, None] + self.speed_noise * np.abs(states)
        error = deltas[:, :, None] - states
        beyond = (np.abs(states) == np.abs(states).max()) & (deltas[:, :, None] * np.sign(states) > np.abs(states))
        error[beyond] = 0.0
        emission_cost: Floats = np.log1p((error / width) ** 2) + np.log(width)
        return emission_cost

    def _transition_costs(self, states: Floats) -> Floats:
        """Price of going from one state to another, `[S, S]`."""
        word = np.sign(states)
        costs = np.where(word[:, None] == word, self.speed_cost, self.switch_cost)
        np.fill_diagonal(costs, 0.0)
        return costs


def viterbi(emission_cost: Floats, transition_cost: Floats) -> NDArray[np.intp]:
    """Find the cheapest path of states, for several independent chains at once.

    Args:
        emission_cost: `[T, A, S]` cost of each of S states at each step of A chains.
        transition_cost: `[S, S]` cost of going from one state to another.

    Returns:
        `[T, A]` states.
    """
    steps, chains, _ = emission_cost.shape
    rows = np.arange(chains)[:, None]
    columns = np.arange(len(transition_cost))
    came_from = np.zeros(emission_cost.shape, dtype=np.intp)
    total = emission_cost[0]
    for step in range(1, steps):
        candidates = total[:, :, None] + transition_cost
        came_from[step] = best = candidates.argmin(axis=1)
        total = candidates[rows, best, columns] + emission_cost[step]
    path = np.empty((steps, chains), dtype=np.intp)
    path[-1] = total.argmin(axis=1)
    for step in range(steps - 1, 0, -1):
        path[step - 1] = came_from[step, rows[:, 0], path[step]]
    return path


def slots_of(words: Floats, level: Floats, longest: int, hold: int) -> Slots:
    """Join roll and pitch of `[T, 6]` signs to tilt, and add the gripper's events (`gripper_spans`): `[T, 6]` slots."""
    tilt = np.where(words[:, 3] != 0, words[:, 3], words[:, 4])
    motion = np.column_stack([words[:, :3], tilt, words[:, 5]])
    return np.column_stack([motion, gripper_spans(level, motion, longest, hold)]).astype(np.int8)


def gripper_spans(level: Floats, motion: Floats, longest: int, hold: int) -> Floats:
    """Name the steps in which the fingers move.

    A level that moves gradually shows its own span. One that jumps is a command, and the fingers need time: the event
    lasts until the arm starts another motion, at most `longest` steps.

    Args:
        level: `[T]`, 1 = open.
        motion: `[T, n]` slots of the arm's motion.
        longest: steps.
        hold: steps a level must last to count.

    Returns:
        `[T]`: +1 opening, -1 closing, 0 otherwise.
    """
    words = np.zeros(len(level))
    opened = without_flicker(level > 0.5, hold)
    crossings = np.flatnonzero(np.diff(opened)) + 1
    starts_motion = np.zeros(len(level), dtype=bool)
    starts_motion[1:] = ((np.diff(motion, axis=0) != 0) & (motion[1:] != 0)).any(axis=1)
    moving = np.diff(level, prepend=level[:1]) != 0
    for crossing in crossings:
        begin, end = crossing, crossing + 1
        if 0 < level[crossing] < 1 or 0 < level[crossing - 1] < 1:
            while begin > 0 and moving[begin - 1]:
                begin -= 1
            while end < len(level) and moving[end]:
                end += 1
        else:
            later = np.flatnonzero(starts_motion[end : crossing + longest])
            end = end + later[0] if len(later) else crossing + longest
        words[begin:end] = 1 if opened[crossing] else -1
    return words

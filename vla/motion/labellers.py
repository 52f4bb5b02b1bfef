"""Labellers: actions of one episode to one motion a step.

`RawLabeller` is the baseline (fixed threshold, fixed window, after ECoT), `AdaptiveLabeller` the paper's (eqs. 1-5).
Both look at a whole episode at once; neither loops over steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla.actions import normalize_affine, normalize_scale
from vla.motion.language import Motion, motions_from_slots
from vla.statistics import GRIPPER, ActionStatistics, check_actions

Floats = NDArray[np.float64]
Slots = NDArray[np.int8]
Anchor = Literal["future", "past", "centered"]
Detector = Literal["fast", "mid", "slow"]

GRID = 4096
"""Normalised deltas are rounded to multiples of 1/4096, so sums of them are exact."""

_GRID_OFFSET = (5**0.5 - 1) / 2
_OPEN_LEVEL = 0.5
_GROUP_OF_AXIS = np.array([0, 0, 0, 1, 2, 3])
"""Translation is detected as one group; each rotation axis is its own."""


class Labeller(ABC):
    """Says what the gripper does at every step of an episode."""

    @abstractmethod
    def slots(self, actions: ArrayLike, statistics: ActionStatistics, episode: str = "") -> Slots:
        """Label `[T, 7]` actions with `[T, 6]` slots of -1, 0, +1 in the order of `vla.motion.language.SLOTS`.

        Args:
            actions: of one episode: +x forward, +y left, +z up, +roll or +pitch tilts up, +yaw is counterclockwise;
                entry 6 is the gripper's level, 1 = open.
            statistics: of the actions' data set.
            episode: names the episode in error messages.

        Raises:
            ActionDataError: the actions are not finite `[T, 7]` numbers.
        """

    def slots_of_episodes(self, episodes: Mapping[str, ArrayLike], statistics: ActionStatistics) -> list[Slots]:
        """Label several episodes of a data set, given by their names; errors are those of `slots`."""
        return [self.slots(actions, statistics, name) for name, actions in episodes.items()]

    def label(self, actions: ArrayLike, statistics: ActionStatistics, episode: str = "") -> list[Motion]:
        """Label `[T, 7]` actions with `T` motions; arguments and errors are those of `slots`."""
        return motions_from_slots(self.slots(actions, statistics, episode))


@dataclass(frozen=True)
class RawLabeller(Labeller):
    """One threshold for every dimension, one window: ECoT's `classify_movement` on integrated actions.

    Source: Zawalski et al. 2024, `primitive_movements.py`. A window of 4 states is 3 steps of displacement. Rotations
    are divided by 10; translation whose L1 norm exceeds three thresholds is scaled down to that norm; roll wins over
    pitch. Windows are cut short at the end of an episode.

    Attributes:
        threshold: in the data set's own units (metres, radians, gripper level); ECoT's 0.03 is for Bridge.
        window: displacement span in steps.
    """

    threshold: float = 0.03
    window: int = 3

    def slots(self, actions: ArrayLike, statistics: ActionStatistics, episode: str = "") -> Slots:
        """See `Labeller.slots`; of the statistics only the data set's name is used, in error messages."""
        array = check_actions(actions, statistics.dataset, episode)
        low, high = window_bounds(len(array), self.window, "future")
        moved = displacement(array[:, :GRIPPER], low, high)
        moved[:, 3:] /= 10
        level = array[:, GRIPPER]
        opened = level[high - 1] - level[np.maximum(low - 1, 0)]
        roll, pitch = moved[:, 3], moved[:, 4]
        tilt = np.where(np.abs(roll) > self.threshold, roll, pitch)
        amount = np.column_stack([moved[:, :3], tilt, moved[:, 5], opened])
        limit = np.full(amount.shape, self.threshold)
        # Scaling translation down to an L1 norm of 3 thresholds, then comparing, is comparing with a third of the norm.
        limit[:, :3] = np.maximum(self.threshold, np.abs(moved[:, :3]).sum(axis=1, keepdims=True) / 3)
        return np.where(np.abs(amount) > limit, np.sign(amount), 0).astype(np.int8)


@dataclass(frozen=True)
class AdaptiveLabeller(Labeller):
    """Thresholds that grow with speed and three nested windows, on scale-normalised deltas (the paper's eqs. 1-5).

    One setting serves every data set; the defaults are what `python -m studies.motion.search` found.

    Attributes:
        base_translation: `T_base` of eq. 1 for x, y, z and their norm, in units of the data set's scale.
        base_rotation: `T_base` for roll, pitch, yaw.
        beta: sensitivity of the threshold to speed; 0 is a fixed threshold.
        tau: steps before `t` over which eq. 1 averages the speed.
        fast: shortest displacement window, in steps.
        mid: middle window, in steps; gripper events are sought in it.
        slow: longest window, in steps.
        anchor: where windows lie: `future` is `[t, t + X)`, the motion that is about to happen; `past` is the literal
            reading of eqs. 2-4; `centered` puts `t` in the middle.
        detectors: which of eqs. 2-4 are used.
        normalization: `scale` keeps zero at zero; `affine` is the literal reading of the paper.
        gripper_hold: steps a gripper level must last to count; shorter runs are flicker.
        smallest_scale: see `vla.actions.normalize_scale`; 0 is the paper's reading.
        smallest_turn: see there.
    """

    base_translation: float = 0.42
    base_rotation: float = 1.5
    beta: float = 0.305
    tau: int = 13
    fast: int = 2
    mid: int = 4
    slow: int = 5
    anchor: Anchor = "centered"
    detectors: tuple[Detector, ...] = ("fast", "mid", "slow")
    normalization: Literal["scale", "affine"] = "scale"
    gripper_hold: int = 2
    smallest_scale: float = 0.674
    smallest_turn: float = 0.21

    def __post_init__(self) -> None:
        """Refuse windows that are not nested."""
        if not 1 <= self.fast <= self.mid <= self.slow or self.tau < 0:
            raise ValueError(
                f"Windows fast={self.fast}, mid={self.mid}, slow={self.slow}, tau={self.tau}: expected "
                "1 <= fast <= mid <= slow and tau >= 0, in steps."
            )

    def slots(self, actions: ArrayLike, statistics: ActionStatistics, episode: str = "") -> Slots:
        """See `Labeller.slots`."""
        array = check_actions(actions, statistics.dataset, episode)
        if self.normalization == "scale":
            normalized = normalize_scale(array, statistics, self.smallest_scale, self.smallest_turn)
        else:
            normalized = normalize_affine(array, statistics)
        deltas = round_to_grid(normalized[:, :GRIPPER])
        axis_threshold, group_threshold = self.thresholds(deltas)
        named = np.zeros_like(deltas)
        undecided = np.ones((len(deltas), 4), dtype=bool)
        for detector in self.detectors:
            moved, fired = self._detect(detector, deltas, group_threshold)
            named = np.where((fired & undecided)[:, _GROUP_OF_AXIS], moved, named)
            undecided &= ~fired
        excess = np.abs(named) / axis_threshold
        words = np.sign(named) * (excess > 1)
        tilt = np.where((words[:, 3] != 0) & (excess[:, 3] >= excess[:, 4]), words[:, 3], words[:, 4])
        gripper = gripper_events(array[:, GRIPPER], self.mid, self.anchor, self.gripper_hold)
        return np.column_stack([words[:, :3], tilt, words[:, 5], gripper]).astype(np.int8)

    def thresholds(self, deltas: Floats) -> tuple[Floats, Floats]:
        """Eq. 1: `T_i(t)` per axis `[T, 6]` and per group `[T, 4]` (translation's norm, roll, pitch, yaw)."""
        base = np.repeat([self.base_translation, self.base_rotation], [4, 3])
        speed = np.column_stack([_norm(deltas[:, :3]), np.abs(deltas)])
        low, high = window_bounds(len(deltas), self.tau + 1, "past")
        threshold = base + self.beta * displacement(speed, low, high) / (high - low)[:, None]
        return threshold[:, 1:], threshold[:, [0, 4, 5, 6]]

    def _detect(self, detector: Detector, deltas: Floats, threshold: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Return displacement `[T, 6]` over the detector's window, and whether each group `[T, 4]` moves (eqs. 2-4)."""
        span = {"fast": self.fast, "mid": self.mid, "slow": self.slow}[detector]
        low, high = window_bounds(len(deltas), span, self.anchor)
        moved = displacement(deltas, low, high)
        distance = _by_group(moved)
        if detector == "fast":
            return moved, distance > 2 * threshold
        slowest = _sliding_minimum(_by_group(deltas), span, self.anchor)
        if detector == "mid":
            return moved, (distance > threshold) & (slowest > 0)
        consistent_grasp = (distance > threshold) & (slowest > threshold / (2 * span))
        return moved, consistent_grasp & self._keeps_direction(deltas, moved, low, high)

    def _keeps_direction(
        self, deltas: Floats, moved: Floats, low: NDArray[np.intp], high: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        """Whether every step in the window goes the way of the window's displacement, per group `[T, 4]`."""
        path = displacement(np.abs(deltas[:, 3:]), low, high)
        keeps = np.ones((len(deltas), 4), dtype=bool)
        keeps[:, 1:] = np.abs(moved[:, 3:]) == path
        for offset in range(self.slow):
            step = deltas[np.minimum(low + offset, high - 1), :3]
            keeps[:, 0] &= np.einsum("ti,ti->t", step, moved[:, :3]) > 0
        return keeps


def gripper_events(level: Floats, span: int, anchor: Anchor, hold: int) -> Floats:
    """Name the steps whose window holds a crossing of the gripper's level through one half.

    A level counts when it lasts `hold` steps, so that a flickering command is one event.

    Args:
        level: `[T]`, 1 = open.
        span: window in steps.
        anchor: where the window lies.
        hold: steps.

    Returns:
        `[T]`: +1 opening, -1 closing, 0 otherwise.
    """
    opened = without_flicker(level > _OPEN_LEVEL, hold)
    low, high = window_bounds(len(level), span, anchor)
    return opened[high - 1].astype(np.float64) - opened[np.maximum(low - 1, 0)]


def round_to_grid(deltas: Floats) -> Floats:
    """Round to multiples of 1/GRID, symmetric about 0, so that labels do not depend on the data set's units.

    Rescaling actions perturbs `a / s` by at most two units in the last place. On the grid that perturbation vanishes
    unless a value lies within 1e-15 of a rounding boundary; the boundaries are irrational, so quantised commands do
    not fall on them. Sums of grid values are exact in float64: comparisons with thresholds see no rounding at all.
    """
    return np.sign(deltas) * np.floor(np.abs(deltas) * GRID + _GRID_OFFSET) / GRID


def window_bounds(steps: int, span: int, anchor: Anchor) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First step and end (exclusive) of every step's window, each `[T]`, cut short at the episode's ends."""
    first = np.arange(steps) - {"future": 0, "centered": span // 2, "past": span - 1}[anchor]
    return np.maximum(first, 0), np.minimum(first + span, steps)


def displacement(deltas: Floats, low: NDArray[np.intp], high: NDArray[np.intp]) -> Floats:
    """Sum `[T, n]` deltas over the windows `[low, high)`."""
    position = np.zeros((len(deltas) + 1, deltas.shape[1]))
    np.cumsum(deltas, axis=0, out=position[1:])
    return position[high] - position[low]


def without_flicker(opened: NDArray[np.bool_], hold: int) -> NDArray[np.bool_]:
    """Replace runs shorter than `hold` steps by what stood before them (at the start, by the first long run)."""
    starts = np.flatnonzero(np.diff(opened, prepend=~opened[:1]))
    lengths = np.diff(starts, append=len(opened))
    long = lengths >= hold
    if not long.any():
        return np.full_like(opened, opened[lengths.argmax()] if len(lengths) else False)
    source = np.maximum.accumulate(np.where(long, np.arange(len(starts)), -1))
    source[source < 0] = long.argmax()
    return np.repeat(opened[starts[source]], lengths)


def _norm(vectors: Floats) -> Floats:
    squares: Floats = np.einsum("ti,ti->t", vectors, vectors)
    return np.sqrt(squares)


def _by_group(deltas: Floats) -> Floats:
    return np.column_stack([_norm(deltas[:, :3]), np.abs(deltas[:, 3:])])


def _sliding_minimum(values: Floats, span: int, anchor: Anchor) -> Floats:
    """Minimum of `[T, n]` over every step's window, by doubling: log2(span) passes."""
    before = {"future": 0, "centered": span // 2, "past": span - 1}[anchor]
    edges = ((before, span - 1 - before), (0, 0))
    lowest = np.pad(values, edges, constant_values=np.inf)
    width = 1
    while 2 * width <= span:
        lowest = np.minimum(lowest[:-width], lowest[width:])
        width *= 2
    rest = span - width
    return np.minimum(lowest[: len(lowest) - rest], lowest[rest:])

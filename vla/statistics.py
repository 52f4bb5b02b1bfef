"""Actions of a data set: what a valid array of them is, and their statistics.

An action is `(dx, dy, dz, droll, dpitch, dyaw, gripper)` in one robot's own units per control step. The gripper is a
level, 1 = open and 0 = closed (the RLDS / Open X-Embodiment convention).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla.errors import ActionDataError

DIMENSIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
GRIPPER = 6

_VECTORS = ("mean", "std", "min", "max", "q01", "q99")
_GRIPPER_SLACK = 1e-6
_RARE = 1e-3
"""Part of the whole range below which the quantiles say nothing of how far a dimension moves."""

CONSTANT_RANGE = 1e-8
"""A dimension whose range is below this is constant: it normalises to 0 (OpenVLA divides by the range plus 1e-8)."""

Vector = tuple[float, ...]


@dataclass(frozen=True)
class ActionStatistics:
    """Statistics of one data set's actions, per dimension over all steps.

    Attributes:
        dataset: the data set's name, as error messages and JSON files call it.
        mean: `[7]`, as the following five.
        std: population standard deviation.
        min: smallest value.
        max: largest value.
        q01: 1 % quantile, linear interpolation (`numpy.quantile`'s default, as OpenVLA). In a checkpoint that was
            trained with a floor on the range of an axis, the ends of the widened ranges (`with_axis_floor`).
        q99: 99 % quantile.
        mask: whether the affine normalisation scales the dimension by its quantiles; False for the gripper.
        num_transitions: steps counted.
        num_trajectories: episodes counted.
        state_q01: `[S]` 1 % quantile of the proprioceptive state; empty where nobody counted it.
        state_q99: `[S]` 99 % quantile.
    """

    dataset: str
    mean: Vector
    std: Vector
    min: Vector
    max: Vector
    q01: Vector
    q99: Vector
    mask: tuple[bool, ...] = (True, True, True, True, True, True, False)
    num_transitions: int = 0
    num_trajectories: int = 0
    state_q01: Vector = ()
    state_q99: Vector = ()

    def __post_init__(self) -> None:
        """Refuse vectors that are not seven finite numbers."""
        for name in _VECTORS:
            vector = getattr(self, name)
            if len(vector) != len(DIMENSIONS) or not np.isfinite(vector).all():
                raise ActionDataError(
                    f"Statistics of data set {self.dataset!r}: {name} is {vector!r}; "
                    f"{len(DIMENSIONS)} finite numbers are expected."
                )


def bounds(statistics: ActionStatistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest and the largest value, `[7]` each, that the normalisations map to their ends.

    These are the 1 % and 99 % quantiles. Where they (nearly) coincide although the dimension moves, it moves in fewer
    than 1 % of the steps, as with a rotation that few tasks need; its extremes are taken, or no token could say it.
    """
    low, high = np.array(statistics.q01), np.array(statistics.q99)
    rare = np.isin(np.arange(len(DIMENSIONS)), rare_dimensions(statistics))
    return np.where(rare, statistics.min, low), np.where(rare, statistics.max, high)


def with_axis_floor(statistics: ActionStatistics, floor: float) -> ActionStatistics:
    """Return statistics whose narrow ranges are widened, so that action tokens do not magnify jitter.

    The range from q01 to q99 of a translation becomes at least `floor` times the largest one among translations, that
    of a rotation at least `floor` times the largest one of all six (compare `vla.actions.normalize_scale`). Its middle
    stays. A constant dimension stays constant, and the gripper as it is.

    q01 and q99 themselves change, so that whoever decodes by OpenVLA's formula decodes by the ranges of training.

    Args:
        statistics: of the data set.
        floor: from 0 (nothing changes) to 1.
    """
    if not floor:
        return statistics
    low, high = bounds(statistics)
    span = high - low
    smallest = np.repeat([floor * span[:3].max(), floor * span[:GRIPPER].max(), 0.0], [3, 3, 1])
    widened = np.where((span > CONSTANT_RANGE) & np.array(statistics.mask), np.maximum(span, smallest), span)
    middle = (low + high) / 2
    narrow = widened > span
    q01 = np.where(narrow, middle - widened / 2, statistics.q01)
    q99 = np.where(narrow, middle + widened / 2, statistics.q99)
    return replace(statistics, q01=tuple(q01.tolist()), q99=tuple(q99.tolist()))


def rare_dimensions(statistics: ActionStatistics) -> list[int]:
    """Return the dimensions, the gripper not among them, that move in fewer than 1 % of the steps."""
    span = np.subtract(statistics.q99, statistics.q01)
    whole = np.subtract(statistics.max, statistics.min)
    rare = (whole > CONSTANT_RANGE) & (span < np.maximum(CONSTANT_RANGE, _RARE * whole))
    return [int(place) for place in np.flatnonzero(rare) if place != GRIPPER]


def rare_in_words(statistics: ActionStatistics) -> list[str]:
    """Return a line for each dimension that moves in fewer than 1 % of the steps."""
    return [
        f"{DIMENSIONS[place]} moves in fewer than 1 % of the steps (q01 {statistics.q01[place]:.3g}, q99 "
        f"{statistics.q99[place]:.3g}): it is normalised by its extremes, {statistics.min[place]:.3g} to "
        f"{statistics.max[place]:.3g}"
        for place in rare_dimensions(statistics)
    ]


def statistics_of(dataset: str, episodes: Iterable[ArrayLike]) -> ActionStatistics:
    """Compute the statistics of a data set given as `[T, 7]` arrays, one an episode.

    All values are kept in their own dtype (28 bytes a step in float32: 60 MB for Bridge V2), so quantiles are exact,
    and the order of episodes does not change a bit of the result.

    Raises:
        ActionDataError: there is no episode, or one of them is no actions.
    """
    arrays: list[NDArray[Any]] = []
    for actions in episodes:
        check_actions(actions, dataset, f"number {len(arrays)}")
        arrays.append(np.asarray(actions))
    if not arrays:
        raise ActionDataError(f"Data set {dataset!r} has no episode: statistics need at least one step.")
    steps = np.sort(np.concatenate(arrays).astype(np.float64), axis=0)
    q01, q99 = np.quantile(steps, (0.01, 0.99), axis=0)
    return ActionStatistics(
        dataset=dataset,
        mean=tuple(steps.mean(axis=0).tolist()),
        std=tuple(steps.std(axis=0).tolist()),
        min=tuple(steps[0].tolist()),
        max=tuple(steps[-1].tolist()),
        q01=tuple(q01.tolist()),
        q99=tuple(q99.tolist()),
        num_transitions=len(steps),
        num_trajectories=len(arrays),
    )


def with_state(statistics: ActionStatistics, states: Iterable[ArrayLike]) -> ActionStatistics:
    """Return the statistics with the quantiles of the data set's states, given as `[T, S]` arrays, one an episode."""
    steps = np.concatenate([np.asarray(state, dtype=np.float64) for state in states])
    low, high = np.quantile(steps, (0.01, 0.99), axis=0)
    return replace(statistics, state_q01=tuple(low.tolist()), state_q99=tuple(high.tolist()))


def check_actions(actions: ArrayLike, dataset: str, episode: str = "") -> NDArray[np.float64]:
    """Return actions as float64 `[T, 7]`, or say what is wrong with them.

    Raises:
        ActionDataError: wrong shape, no step, NaN or infinity, or a gripper level outside [0, 1].
    """
    where = f"Data set {dataset!r}, episode {episode or '(unnamed)'}"
    array = np.asarray(actions, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(DIMENSIONS):
        raise ActionDataError(f"{where}: actions have shape {array.shape}; [T, {len(DIMENSIONS)}] is expected.")
    if not len(array):
        raise ActionDataError(f"{where}: the episode has no step; leave empty episodes out.")
    finite = np.isfinite(array)
    if not finite.all():
        step, dimension = np.argwhere(~finite)[0]
        raise ActionDataError(
            f"{where}: dimension {DIMENSIONS[dimension]} is {array[step, dimension]} at step {step}; "
            "actions must be finite."
        )
    level = array[:, GRIPPER]
    outside = (level < -_GRIPPER_SLACK) | (level > 1 + _GRIPPER_SLACK)
    if outside.any():
        step = int(outside.argmax())
        raise ActionDataError(
            f"{where}: dimension gripper is {level[step]} at step {step}; a level in [0, 1] is expected, 1 = open. "
            "Convert the data set's own convention when loading it."
        )
    return array


def read_statistics(path: Path) -> dict[str, ActionStatistics]:
    """Read a `dataset_statistics.json` in OpenVLA's layout: `{name: {"action": {...}, "proprio": {...}, ...}}`.

    Raises:
        ActionDataError: a data set lacks its action statistics or one of their vectors.
    """
    return {name: statistics_from_json(name, entry) for name, entry in json.loads(path.read_text()).items()}


def write_statistics(path: Path, statistics: Iterable[ActionStatistics]) -> None:
    """Write OpenVLA's `dataset_statistics.json` layout."""
    path.write_text(json.dumps({one.dataset: statistics_to_json(one) for one in statistics}, indent=2) + "\n")


def statistics_from_json(dataset: str, entry: Mapping[str, Any]) -> ActionStatistics:
    """Read one data set's entry of `dataset_statistics.json`; a missing mask spares the gripper."""
    action, state = entry.get("action", {}), entry.get("proprio", {})
    missing = [name for name in _VECTORS if name not in action]
    if missing:
        raise ActionDataError(
            f"Statistics of data set {dataset!r} lack action {', '.join(missing)}; "
            "compute them with vla.statistics.statistics_of and write them again."
        )
    return ActionStatistics(
        dataset=dataset,
        **{name: tuple(float(value) for value in action[name]) for name in _VECTORS},
        mask=tuple(action.get("mask", ActionStatistics.mask)),
        num_transitions=int(entry.get("num_transitions", 0)),
        num_trajectories=int(entry.get("num_trajectories", 0)),
        state_q01=tuple(float(value) for value in state.get("q01", ())),
        state_q99=tuple(float(value) for value in state.get("q99", ())),
    )


def statistics_to_json(statistics: ActionStatistics) -> dict[str, Any]:
    """Write one data set's entry of `dataset_statistics.json`."""
    vectors = {name: list(getattr(statistics, name)) for name in (*_VECTORS, "mask")}
    state = {"q01": list(statistics.state_q01), "q99": list(statistics.state_q99)}
    return {
        "action": vectors,
        **({"proprio": state} if statistics.state_q01 else {}),
        "num_transitions": statistics.num_transitions,
        "num_trajectories": statistics.num_trajectories,
    }

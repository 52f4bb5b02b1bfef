"""Compares a policy's first answers with the suite's declared action space: signs, ranges and units.

No finding is certain, since a bad policy may answer anything. So each one is a remark that is made once and says what
to do.
"""

from __future__ import annotations

import numpy as np

from evals.spaces import ActionSpace
from evals.types import ActionChunk, FloatArray

WATCHED = 512
"""Number of actions that are looked at."""
_ENOUGH = 100
"""Number of actions that are needed to call a policy slow, since the first steps of an episode may be slow."""
_SLOWEST = 0.05
"""Metres per second; the fastest step of a working policy is ten times as fast in LIBERO, and twice in Bridge."""
_LONGEST = 0.3  # metres per step
_OFTEN = 0.2  # fraction of the actions


class Answers:
    """Looks at the first actions that run, and makes each remark about them once."""

    def __init__(self, space: ActionSpace) -> None:
        self._space = space
        self._seen: list[FloatArray] = []
        self._said: set[str] = set()

    def see(self, chunk: ActionChunk, run: int) -> list[str]:
        """Add an answer of which `run` actions will run, and return the new remarks about all answers so far.

        There are no remarks about an answer that is not a valid chunk: the worker refuses it.
        """
        count = sum(map(len, self._seen))
        actions = chunk.actions
        valid = isinstance(actions, np.ndarray) and actions.dtype.kind == "f" and actions.ndim == 2
        if count >= WATCHED or not valid or actions.shape[1] != ActionSpace.dim or not np.isfinite(actions).all():
            return []
        self._seen.append(actions[:run].copy())
        found = remarks(np.concatenate(self._seen), self._space, count + run >= _ENOUGH)
        fresh = [text for kind, text in found.items() if kind not in self._said]
        self._said |= found.keys()
        return fresh


def remarks(actions: FloatArray, space: ActionSpace, enough: bool = True) -> dict[str, str]:
    """Return remarks about actions `[N, 7]`, by kind: gripper, range, units, rotation.

    Args:
        actions: actions of a policy.
        space: action space of the suite.
        enough: whether there are enough actions to call a policy slow.
    """
    found = {
        "gripper": _gripper(actions[:, 6], space),
        "range": _range(actions[:, :6], space),
        "units": _units(np.linalg.norm(actions[:, :3], axis=1), space, enough),
        "rotation": _rotation(actions[:, 3:6], space),
    }
    return {kind: text for kind, text in found.items() if text}


def _gripper(values: FloatArray, space: ActionSpace) -> str:
    low, high = sorted((space.gripper_open, space.gripper_closed))
    middle, span = (low + high) / 2, high - low
    least, most = float(values.min()), float(values.max())
    declared = f"the suite takes {space.gripper_open:g} (open) and {space.gripper_closed:g} (closed)"
    factor = space.gripper_open - space.gripper_closed
    way = f"convert a level of 1 = open by {space.gripper_closed:g} + {factor:g} * level"
    if least < low - 0.25 * span or most > high + 0.25 * span:
        return f"gripper values are {least:g} to {most:g}, outside of what {declared}; {way}"
    undecided = bool((np.abs(values - middle) < 0.05 * span).any())
    if undecided and (least > middle - 0.05 * span or most < middle + 0.05 * span):
        return f"gripper values are {least:g} to {most:g}; {declared}, and {middle:g} is neither; {way}"
    return ""


def _range(motion: FloatArray, space: ActionSpace) -> str:
    beyond = np.maximum(motion - space.high, space.low - motion)
    width = space.high - space.low
    clipped = float((beyond > 0.01 * width).any(axis=1).mean())
    if beyond.max() > 0.5 * width or clipped > _OFTEN:
        return (
            f"actions reach {motion.flat[np.abs(motion).argmax()]:g} and {clipped:.0%} are out of range: the "
            f"controller clips at {space.low:g} and {space.high:g}; decode action tokens, and un-normalise with the "
            "suite's statistics"
        )
    return ""


def _units(lengths: FloatArray, space: ActionSpace, enough: bool) -> str:
    metres = float(lengths.max()) * space.metres_per_unit
    speed = metres * space.control_hz
    unit = f"one unit is {space.metres_per_unit:g} m here: divide metres by it, or un-normalise with its statistics"
    if space.translation == "absolute":
        return ""
    if enough and 0 < speed < _SLOWEST:
        return f"no step is longer than {metres * 1000:.2g} mm ({speed:.2g} m/s): other units? {unit}"
    if metres > _LONGEST:
        return f"a step is {metres:.2g} m long: other units? {unit}"
    return ""


def _rotation(rotations: FloatArray, space: ActionSpace) -> str:
    radians = float(np.linalg.norm(rotations, axis=1).max()) * space.radians_per_unit
    if space.rotation in ("axis_angle", "euler_xyz") and radians > 2 * np.pi:
        return f"a step turns by {radians:.3g} rad: degrees? One unit is {space.radians_per_unit:g} rad here"
    return ""

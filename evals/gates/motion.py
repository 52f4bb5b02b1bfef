"""Gates that move the robot and check that its state follows as declared: gripper, translation, rotation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evals.gates.result import GateContext, GateResult, in_words
from evals.gates.rotations import declared_matrix, degrees_between
from evals.rotations import matrix_to_axis_angle, nearest_rotation
from evals.spaces import RotationFormat
from evals.types import FloatArray, Observation

GRIPPER_STEPS = 10
PUSH_STEPS = 5
PUSH_METRES = 0.05
TURN_RADIANS = 0.5
SETTLE_SECONDS = 1.0
# A push along one axis sags along another at first (OSC_POSE: 14 degrees); an orientation settles to one degree.
PUSH_DEGREES = 30.0
TURN_DEGREES = 10.0
# Another rotation format must fit better than the declared one by this much before a gate reports it. At TURN_RADIANS
# about all axes at once, Euler angles and axis-angle turn about axes that are eight degrees apart.
READING_DEGREES = 3.0
# Smallest and largest share of a command that the state may follow. A controller that sets its goal from where the arm
# is (robosuite OSC_POSE) always reaches only a part of it; a wrong unit is wrong by a factor of ten or more.
LEAST, MOST = 0.1, 2.0


@dataclass(frozen=True)
class _Followed:
    """How the state followed a command.

    Attributes:
        degrees: angle between the command and the change of the state.
        share: length of the change of the state, relative to the command.
        well: whether both are within limits.
        words: the same in words.
    """

    degrees: float
    share: float
    well: bool
    words: str

    @classmethod
    def compare(cls, wanted: FloatArray, got: FloatArray, unit: str, degrees: float) -> _Followed:
        off, share = degrees_between(got, wanted), float(np.linalg.norm(got) / np.linalg.norm(wanted))
        words = f"{in_words(wanted, unit)} gave {in_words(got, unit)}, {off:.0f} degrees off and {share:.2f} of the way"
        return cls(off, share, off <= degrees and LEAST <= share <= MOST, words)


class _Reading(NamedTuple):
    """A way to read the rotation numbers of an action."""

    name: str
    matrix: Callable[[FloatArray], FloatArray]


def gripper(context: GateContext) -> GateResult:
    """Open the gripper, close it, and compare finger widths (polarity)."""
    space, fingers = context.suite.action_space, context.columns("finger", "gripper")
    commanded = f"{GRIPPER_STEPS} steps of {space.gripper_open:+g} (open), then of {space.gripper_closed:+g} (closed)"
    if not fingers:
        return GateResult("gripper", None, commanded, "the state space names no finger", "")
    context.reset()
    width_open, width_closed = (
        float(np.abs(context.hold(context.command(6, value), GRIPPER_STEPS).state[fingers]).sum())
        for value in (space.gripper_open, space.gripper_closed)
    )
    return GateResult(
        "gripper",
        width_closed < 0.75 * width_open,
        commanded,
        f"finger width {width_open:.4f}, then {width_closed:.4f}",
        "swap ActionSpace.gripper_open and gripper_closed, or the adapter's sign (RLDS: 1 = open; LIBERO: +1 = close)",
    )


def translation(context: GateContext) -> GateResult:
    """Push along each axis and compare how the state's position moves; finds wrong frames, axes, signs and units."""
    commanded = f"{PUSH_STEPS} steps along each axis, {PUSH_METRES} m in all"
    if len(_places(context)) < 3 or context.suite.action_space.translation != "delta":
        return GateResult("translation", None, commanded, "no position in the state, or actions are not changes", "")
    start, moved = _push_along_axes(context)
    R_state_action = _frame(context, start, moved)
    follows = [
        _Followed.compare(PUSH_METRES * wanted, got, "m", PUSH_DEGREES)
        for wanted, got in zip(R_state_action.T, moved.T, strict=True)
    ]
    return GateResult(
        "translation",
        all(followed.well for followed in follows),
        commanded,
        _in_words(follows),
        f"check ActionSpace.frame ({context.suite.action_space.frame}), metres_per_unit "
        f"({context.suite.action_space.metres_per_unit:g}) and StateSpace.frame ({context.suite.state_space.frame})",
    )


def rotation(context: GateContext) -> GateResult:
    """Turn about each axis and about all at once, and compare the turn of the state; finds wrong rotation formats."""
    action_space, state_space = context.suite.action_space, context.suite.state_space
    commanded = f"{TURN_RADIANS} rad about x, y, z and all three at once"
    if "none" in (action_space.rotation, state_space.rotation) or action_space.translation != "delta":
        return GateResult("rotation", None, commanded, "no change of rotation in the action, or none in the state", "")
    R_state_action = _frame(context, *_push_along_axes(context))
    follows = []
    for numbers in TURN_RADIANS * np.vstack([np.eye(3), np.full(3, 3**-0.5)]):
        turned = _turn(context, numbers)
        wanted = R_state_action @ _meant(context, numbers, _readings(action_space.rotation)[0])
        follows.append(_Followed.compare(wanted, turned, "rad", TURN_DEGREES))
    misread = _misread(context, numbers, R_state_action.T @ turned)
    return GateResult(
        "rotation",
        all(followed.well for followed in follows) and not misread,
        commanded,
        misread or _in_words(follows),
        f"check the rotation formats (action {action_space.rotation}, state {state_space.rotation}: quaternion order, "
        f"Euler against axis-angle), the frame ({action_space.frame}) and the state's source ({state_space.source})",
    )


def _in_words(follows: Sequence[_Followed]) -> str:
    wrong = [followed.words for followed in follows if not followed.well]
    shares = [followed.share for followed in follows]
    largest = max(followed.degrees for followed in follows)
    return (
        "; ".join(wrong) or f"followed within {largest:.1f} degrees, {min(shares):.2f} to {max(shares):.2f} of the way"
    )


def _places(context: GateContext) -> list[int]:
    names = context.suite.state_space.names
    return [names.index(name) for name in ("x", "y", "z") if name in names]


def _push_along_axes(context: GateContext) -> tuple[Observation, FloatArray]:
    """Return the first observation and, in columns, where pushing +x, +y and +z moved the state's position `[3, 3]`."""
    space, places = context.suite.action_space, _places(context)
    moved = np.empty((3, 3))
    for axis in range(3):
        start = context.reset()
        after = context.hold(context.command(axis, PUSH_METRES / PUSH_STEPS / space.metres_per_unit), PUSH_STEPS)
        moved[:, axis] = (after.state - start.state)[places]
    return start, moved


def _frame(context: GateContext, start: Observation, moved: FloatArray) -> FloatArray:
    """Return the rotation `R_state_action` that the declared frames imply, `[3, 3]`.

    No space declares the rotation between base and world. If one space is in the base frame and the other in the world
    frame, the rotation that fits the pushes best is taken. Then a gate still finds axes that are mirrored or not at
    right angles, and rotations that are in another frame than translations.
    """
    action_frame, state_frame = context.suite.action_space.frame, context.suite.state_space.frame
    if action_frame == "end_effector":
        return _orientation(context, start)
    return np.eye(3) if action_frame == state_frame else nearest_rotation(moved)


def _readings(declared: RotationFormat) -> list[_Reading]:
    """Return how an action's rotation can be read: first as declared, then in the other formats of three numbers."""
    as_declared = _Reading(declared, lambda numbers: declared_matrix(numbers, declared))
    as_axis_angle = _Reading("axis_angle", lambda numbers: declared_matrix(numbers, "axis_angle"))
    fixed = _Reading("Euler angles about fixed axes", lambda numbers: declared_matrix(numbers, "euler_xyz"))
    moving = _Reading("Euler angles about moving axes", lambda numbers: declared_matrix(-numbers, "euler_xyz").T)
    return [as_declared] if declared.startswith("quat") else [as_declared, as_axis_angle, fixed, moving]


def _meant(context: GateContext, rotation_numbers: FloatArray, reading: _Reading) -> FloatArray:
    """Return the rotation that the steps of `_turn` add up to with a reading, as axis-angle `[3]`."""
    steps = _steps(context, rotation_numbers)
    return matrix_to_axis_angle(np.linalg.matrix_power(reading.matrix(rotation_numbers / steps), steps))


def _turn(context: GateContext, rotation_numbers: FloatArray) -> FloatArray:
    """Command a rotation (radians, in the action's format) and return how the state turned, as axis-angle `[3]`."""
    space = context.suite.action_space
    before = context.reset()
    steps = _steps(context, rotation_numbers)
    action = space.idle()
    action[3:6] = rotation_numbers / space.radians_per_unit / steps
    context.hold(action, steps)
    after = context.hold(space.idle(), round(SETTLE_SECONDS * space.control_hz))
    return matrix_to_axis_angle(_orientation(context, after) @ _orientation(context, before).T)


def _steps(context: GateContext, rotation_numbers: FloatArray) -> int:
    space = context.suite.action_space
    return math.ceil(float(np.abs(rotation_numbers).max()) / (space.radians_per_unit * space.high) - 1e-9)


def _orientation(context: GateContext, seen: Observation) -> FloatArray:
    return declared_matrix(
        seen.state[context.columns("axis_angle", "euler", "quat")], context.suite.state_space.rotation
    )


def _misread(context: GateContext, rotation_numbers: FloatArray, turned: FloatArray) -> str:
    """Return in words which format the controller reads instead of the declared one, or "" if it reads that."""
    declared, *others = (
        (degrees_between(turned, _meant(context, rotation_numbers, reading)), reading.name)
        for reading in _readings(context.suite.action_space.rotation)
    )
    off, name = min(others, default=declared)
    if off > TURN_DEGREES or off + READING_DEGREES > declared[0]:
        return ""
    return f"the controller reads {declared[1]} as {name}: {off:.1f} degrees off instead of {declared[0]:.1f}"

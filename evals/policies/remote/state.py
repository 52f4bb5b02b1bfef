"""The numbers of a suite's state under the names and in the formats that servers want."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evals import rotations
from evals.policies.remote.profile import ALL, StateItem
from evals.spaces import StateSpace
from evals.types import FloatArray

_AXES = ("axis_angle_x", "axis_angle_y", "axis_angle_z")
_FINGERS = ("finger_left", "finger_right")
# The gripper of the WidowX in the pose from which Bridge counts its angles (Isaac-GR00T, SimplerEnv's wrapper).
R_link_upright = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def readings(state: FloatArray, space: StateSpace, fingers: tuple[float, float]) -> Mapping[str, float]:
    """Return every number that a profile can name, by name.

    These are the suite's own names, `zero`, and where the suite has an axis-angle rotation or two fingers:
    `quat_w`, `quat_x`, `quat_y`, `quat_z` (w >= 0); `short_axis_angle_x`, ... (the shorter way round, angle in
    [0, pi]); `euler_x`, `euler_y`, `euler_z` (about fixed axes, radians); `upright_euler_x`, ... (the same, counted
    from the WidowX's upright gripper); `openness` (0 closed, 1 open).

    Args:
        state: `[N]` numbers of the suite.
        space: their names.
        fingers: `Profile.fingers`.
    """
    found = {name: float(value) for name, value in zip(space.names, state, strict=True)} | {"zero": 0.0}
    if space.rotation == "axis_angle" and all(name in found for name in _AXES):
        found |= _rotation(np.array([found[name] for name in _AXES]))
    if all(name in found for name in _FINGERS):
        closed, opened = fingers
        mean = sum(abs(found[name]) for name in _FINGERS) / len(_FINGERS)
        found["openness"] = float(np.clip((mean - closed) / (opened - closed), 0.0, 1.0))
    return found


def numbers(item: StateItem, found: Mapping[str, float], space: StateSpace) -> FloatArray:
    """Return the array of one entry of a request, with its axes of length 1.

    Raises:
        KeyError: the suite has no number of a name.
    """
    names = space.names if item.values == (ALL,) else item.values
    return np.array([found[name] for name in names], item.dtype)[(None,) * item.axes]


def _rotation(axis_angle: FloatArray) -> dict[str, float]:
    quat = rotations.axis_angle_to_quat_xyzw(axis_angle)
    quat = -quat if quat[3] < 0 else quat
    matrix = rotations.quat_xyzw_to_matrix(quat)
    named = {
        "quat": dict(zip("xyzw", quat, strict=True)),
        "short_axis_angle": dict(zip("xyz", rotations.quat_xyzw_to_axis_angle(quat), strict=True)),
        "euler": dict(zip("xyz", matrix_to_euler_xyz(matrix), strict=True)),
        "upright_euler": dict(zip("xyz", matrix_to_euler_xyz(matrix @ R_link_upright.T), strict=True)),
    }
    return {f"{kind}_{axis}": float(value) for kind, values in named.items() for axis, value in values.items()}


def matrix_to_euler_xyz(matrix: FloatArray) -> FloatArray:
    """Return roll, pitch, yaw `[3]` about the fixed axes x, then y, then z; yaw is 0 where pitch is a right angle."""
    cosine = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    pitch = np.arctan2(-matrix[2, 0], cosine)
    if cosine < 1e-9:
        return np.array([np.arctan2(-matrix[1, 2], matrix[1, 1]), pitch, 0.0])
    return np.array([np.arctan2(matrix[2, 1], matrix[2, 2]), pitch, np.arctan2(matrix[1, 0], matrix[0, 0])])

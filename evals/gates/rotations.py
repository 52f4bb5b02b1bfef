"""Rotations in the format that a space declares."""

from __future__ import annotations

import numpy as np

from evals.errors import ContractError
from evals.rotations import axis_angle_to_matrix, euler_xyz_to_matrix, quat_wxyz_to_xyzw, quat_xyzw_to_matrix
from evals.spaces import RotationFormat
from evals.types import FloatArray


def declared_matrix(rotation: FloatArray, rotation_format: RotationFormat) -> FloatArray:
    """Return the rotation matrix `[3, 3]` of numbers in a declared format (radians; `euler_xyz` about fixed axes).

    Raises:
        ContractError: the numbers are not as many as the format needs.
    """
    needed = 4 if rotation_format.startswith("quat") else 3
    if len(rotation) != needed:
        raise ContractError(f"A rotation as {rotation_format} needs {needed} numbers, got {len(rotation)}.")
    if rotation_format == "euler_xyz":
        return euler_xyz_to_matrix(rotation)
    if rotation_format == "axis_angle":
        return axis_angle_to_matrix(rotation)
    quat_xyzw = rotation if rotation_format == "quat_xyzw" else quat_wxyz_to_xyzw(rotation)
    return quat_xyzw_to_matrix(quat_xyzw / np.linalg.norm(quat_xyzw))


def degrees_between(a: FloatArray, b: FloatArray) -> float:
    """Return the angle between two vectors `[3]`; 180 if one of them is zero."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.degrees(np.arccos(np.clip(a @ b / lengths, -1.0, 1.0)))) if lengths > 0 else 180.0

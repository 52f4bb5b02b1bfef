"""Rotations in every format that a space can declare, as matrices."""

from __future__ import annotations

import numpy as np

from evals.errors import ContractError
from evals.types import FloatArray, RotationFormat


def matrix(rotation: FloatArray, rotation_format: RotationFormat) -> FloatArray:
    """Return the rotation matrix `[3, 3]` of numbers in a declared format (radians; `euler_xyz` about fixed axes).

    Raises:
        ContractError: the numbers are not as many as the format needs.
    """
    needed = 4 if rotation_format.startswith("quat") else 3
    if len(rotation) != needed:
        raise ContractError(f"A rotation as {rotation_format} needs {needed} numbers, got {len(rotation)}.")
    if rotation_format == "euler_xyz":
        x, y, z = (_exp(angle * axis) for angle, axis in zip(rotation, np.eye(3), strict=True))
        return z @ y @ x
    if rotation_format == "axis_angle":
        return _exp(rotation)
    quat_wxyz = rotation if rotation_format == "quat_wxyz" else np.roll(rotation, 1)
    return _matrix_from_quat_wxyz(quat_wxyz / np.linalg.norm(quat_wxyz))


def axis_angle(R: FloatArray) -> FloatArray:
    """Return the axis times the angle `[3]` (radians, at most pi) of a rotation matrix `[3, 3]`."""
    skew = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    sine, cosine = float(np.linalg.norm(skew)) / 2, (float(np.trace(R)) - 1) / 2
    angle = np.arctan2(sine, cosine)
    result: FloatArray = skew / 2 if sine < 1e-9 else skew / (2 * sine) * angle
    return result


def degrees_between(a: FloatArray, b: FloatArray) -> float:
    """Return the angle between two vectors `[3]`; 180 if one of them is zero."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.degrees(np.arccos(np.clip(a @ b / lengths, -1.0, 1.0)))) if lengths > 0 else 180.0


def nearest_rotation(M: FloatArray) -> FloatArray:
    """Return the proper rotation `[3, 3]` nearest to a matrix."""
    U, _, Vt = np.linalg.svd(M)
    result: FloatArray = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
    return result


def _exp(rotation_vector: FloatArray) -> FloatArray:
    angle = float(np.linalg.norm(rotation_vector))
    x, y, z = rotation_vector / angle if angle > 0 else np.zeros(3)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    result: FloatArray = np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K
    return result


def _matrix_from_quat_wxyz(quat_wxyz: FloatArray) -> FloatArray:
    w, x, y, z = quat_wxyz
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )

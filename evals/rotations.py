"""Rotations between formats. Every name says the order of its numbers; angles are radians, all arrays float64."""

from __future__ import annotations

import numpy as np

from evals.types import FloatArray


def quat_wxyz_to_xyzw(quat_wxyz: FloatArray) -> FloatArray:
    """Move the real part of quaternions `[..., 4]` from first to last (MuJoCo, SAPIEN -> robosuite, SciPy)."""
    return np.roll(quat_wxyz, -1, axis=-1)


def quat_xyzw_to_wxyz(quat_xyzw: FloatArray) -> FloatArray:
    """Move the real part of quaternions `[..., 4]` from last to first (robosuite, SciPy -> MuJoCo, SAPIEN)."""
    return np.roll(quat_xyzw, 1, axis=-1)


def quat_xyzw_to_axis_angle(quat_xyzw: FloatArray) -> FloatArray:
    """Return axis times angle `[3]` of a unit quaternion `[4]`, the shorter way round: angle in [0, pi]."""
    flipped = np.negative(quat_xyzw) if quat_xyzw[3] < 0 else np.asarray(quat_xyzw, np.float64)
    sine = float(np.linalg.norm(flipped[:3]))
    # angle / sin(angle / 2) -> 2 as the angle goes to 0.
    scale = 2.0 if sine < 1e-12 else 2.0 * np.arctan2(sine, flipped[3]) / sine
    return np.asarray(flipped[:3] * scale)


def axis_angle_to_quat_xyzw(axis_angle: FloatArray) -> FloatArray:
    """Return the unit quaternion `[4]` of a rotation `[3]` given as axis times angle."""
    angle = float(np.linalg.norm(axis_angle))
    scale = 0.5 if angle < 1e-12 else np.sin(angle / 2) / angle
    return np.append(np.asarray(axis_angle) * scale, np.cos(angle / 2))


def quat_xyzw_to_matrix(quat_xyzw: FloatArray) -> FloatArray:
    """Return the rotation matrix `[3, 3]` of a unit quaternion `[4]`."""
    x, y, z, w = quat_xyzw
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def matrix_to_quat_xyzw(matrix: FloatArray) -> FloatArray:
    """Return the unit quaternion `[4]` with w >= 0 of a rotation matrix `[3, 3]` (Bar-Itzhack's eigenvector)."""
    r = np.asarray(matrix, np.float64)
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    quat_xyzw: FloatArray = np.linalg.eigh(k)[1][:, -1]
    return -quat_xyzw if quat_xyzw[3] < 0 else quat_xyzw


def axis_angle_to_matrix(axis_angle: FloatArray) -> FloatArray:
    """Return the rotation matrix `[3, 3]` of a rotation `[3]` given as axis times angle."""
    return quat_xyzw_to_matrix(axis_angle_to_quat_xyzw(axis_angle))


def matrix_to_axis_angle(matrix: FloatArray) -> FloatArray:
    """Return axis times angle `[3]` of a rotation matrix `[3, 3]`, angle in [0, pi]."""
    return quat_xyzw_to_axis_angle(matrix_to_quat_xyzw(matrix))


def euler_xyz_to_matrix(euler_xyz: FloatArray) -> FloatArray:
    """Return the rotation matrix `[3, 3]` of roll, pitch, yaw `[3]` about the fixed axes x, then y, then z."""
    roll, pitch, yaw = (axis_angle_to_matrix(axis * angle) for axis, angle in zip(np.eye(3), euler_xyz, strict=True))
    product: FloatArray = yaw @ pitch @ roll
    return product


def nearest_rotation(matrix: FloatArray) -> FloatArray:
    """Return the proper rotation `[3, 3]` nearest to a matrix."""
    u, _, vt = np.linalg.svd(matrix)
    nearest: FloatArray = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return nearest

"""Rotations of a gripper: where it points and which way its fingers open.

Recorded demonstrations depend on the last bit of these formulas, so `evals.rotations` does not replace them.
"""

from __future__ import annotations

import numpy as np

from evals.types import FloatArray

POINTING_DOWN: FloatArray = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""`R_world_grip` of a Panda gripper that points straight down with its fingers opening along the world's y."""


def about_z(angle: float) -> FloatArray:
    """Return the rotation `[3, 3]` by an angle in radians about z."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def down(yaw: float) -> FloatArray:
    """Return `R_world_grip` `[3, 3]` of a gripper that points down, turned by `yaw` radians about the vertical."""
    return about_z(yaw) @ POINTING_DOWN


def turned(rotation: FloatArray) -> float:
    """Return the yaw in radians of the gripper that points down and is nearest to `R_world_grip` `[3, 3]`."""
    return float(np.arctan2(rotation[1, 1], rotation[0, 1]))


def rotation_vector(rotation: FloatArray) -> FloatArray:
    """Return the axis-angle vector `[3]`, radians, of a rotation `[3, 3]`; its angle lies in [0, pi]."""
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    if angle < 1e-6:
        return 0.5 * skew
    if np.pi - angle < 1e-3:  # the skew part vanishes: the axis is the eigenvector of eigenvalue 1
        return np.array(np.linalg.eigh((rotation + rotation.T) / 2)[1][:, -1] * angle)
    return np.array(skew / (2 * np.sin(angle)) * angle)


def facing(approach: FloatArray, across: FloatArray, current: FloatArray) -> FloatArray:
    """Return the `R_world_grip` `[3, 3]` that points along `approach` with its fingers opening along `across`.

    There are two such rotations, half a turn apart; the one that is nearer to `current` is returned.

    Args:
        approach: unit vector `[3]`.
        across: vector `[3]`, not parallel to `approach`; its part along `approach` is ignored.
        current: current `R_world_grip` `[3, 3]`.
    """
    finger = across - (across @ approach) * approach
    finger /= np.linalg.norm(finger)
    turned = [np.column_stack([f, np.cross(approach, f), approach]) for f in (finger, -finger)]
    return min(turned, key=lambda rotation: float(np.linalg.norm(rotation_vector(rotation @ current.T))))


def about(axis: FloatArray, angle: float) -> FloatArray:
    """Return the rotation `[3, 3]` by an angle in radians about a unit vector `[3]`."""
    x, y, z = axis
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.array(np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew)

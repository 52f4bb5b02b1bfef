"""Where to grasp an object from above with a parallel gripper, without touching other objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from envs.libero.expert.geometry import about_z
from envs.libero.expert.scene import TIP, Scene
from evals.errors import UsageError
from evals.types import FloatArray

_WIDEST = 0.076  # metres that fit between the open fingers
_HOLLOW = ("bowl", "ramekin", "mug", "plate")  # too wide for the fingers, so they are grasped by the rim
_ARM = 0.70  # metres from a Panda's shoulder to its wrist with the arm stretched
# Weights of the terms of a grasp's score.
_CLEARANCE_WEIGHT = 8.0  # score per metre of clearance, up to `GraspPreference.enough`
_AWKWARDNESS_WEIGHT = 0.3  # score lost per unit of `Grasp.cost`
_REPETITION_COST = 0.06  # score lost for each earlier attempt at the same place that failed


@dataclass(frozen=True)
class GraspPreference:
    """Which of several possible grasps is best: weights of a score.

    Attributes:
        enough: clearance around the hand, in metres, beyond which more clearance has the smaller weight `room`.
        room: score per metre of clearance.
        stretch: share of the arm's length up to which stretching the arm costs nothing.
        strain: score lost when the arm is stretched by its whole length further than `stretch`.
        turned: score lost per radian of yaw, besides what `Grasp.cost` counts.
        left: score lost by any yaw to the left.
        near: score lost by grasping the near side of a rim (-y in the hand's frame).
    """

    enough: float = 0.01
    room: float = 0.5
    stretch: float = 0.90
    strain: float = 1.5
    turned: float = 0.0
    left: float = 0.0
    near: float = 0.0


MOST_CLEARANCE = GraspPreference()
"""Chooses the grasp with the most clearance; it changes sides if the neighbours of an object move a little."""

CONSISTENT = GraspPreference(enough=0.018, room=0.0, stretch=0.99, strain=3.0, turned=0.019, left=0.02, near=0.005)
"""Chooses the same side in nearly all scenes of a task, with sufficient clearance, so that a learner sees one way."""


class Grasp(NamedTuple):
    """A grasp from above.

    Attributes:
        position: grip point `[3]`, metres, world frame.
        yaw: radians.
        cost: how awkward the grasp is by itself; smaller is better.
        near: whether the grasp holds the near side of a rim (-y in the hand's frame).
    """

    position: FloatArray
    yaw: float
    cost: float
    near: bool = False


def best_grasp(
    scene: Scene,
    name: str,
    tried: Sequence[Grasp] = (),
    move: FloatArray | None = None,
    preference: GraspPreference = MOST_CLEARANCE,
) -> Grasp:
    """Return the best grasp of an object: clear of other objects, within reach, and not tried before.

    Args:
        scene: the scene.
        name: name of the object.
        tried: grasps that failed.
        move: displacement `[3]`, metres, to where the object will be put; there, too, the hand must touch nothing else.
        preference: which of several possible grasps is best.

    Raises:
        UsageError: no part of the object fits between the fingers.
    """
    points = scene.points(name)
    bottom = points[:, 2].min() + 0.004  # what the object stands on is no obstacle
    others = scene.obstacles((name,))
    others_then = others - (np.zeros(3) if move is None else move)
    near = [others[others[:, 2] > bottom], others_then[others_then[:, 2] > bottom]]
    grasps = list(_span_grasps(points)) if not any(word in name for word in _HOLLOW) else []
    grasps = grasps or list(_rim_grasps(points, scene.position(name)))
    if not grasps:
        raise UsageError(f"The LIBERO expert finds no grasp for {name!r}: it is wider than {_WIDEST} m all over.")
    return max(grasps, key=lambda grasp: _score(scene, grasp, near, tried, preference))


def _rim_grasps(points: FloatArray, centre: FloatArray) -> Iterator[Grasp]:
    """Yield grasps with one finger inside and one outside of the rim of a bowl."""
    top = points[:, 2].max()
    rim = points[points[:, 2] > top - 0.015]
    height = max(top - 0.018, points[:, 2].min() + TIP)
    radius = np.percentile(np.linalg.norm(rim[:, :2] - centre[:2], axis=1), 90) - 0.005
    for yaw in np.deg2rad([0, -30, 30, -60, 60, -90, 90]):
        across = about_z(yaw)[:2, 1]
        for side in (-1, 1):
            x, y = centre[:2] + side * across * radius
            yield Grasp(np.array([x, y, height]), float(yaw), 0.01 * abs(yaw) + (0.002 if side > 0 else 0.0), side < 0)


def _span_grasps(points: FloatArray) -> Iterator[Grasp]:
    """Yield grasps whose fingers close on two sides of a convex object."""
    centre = (points.min(0) + points.max(0)) / 2
    height = max(points[:, 2].max() - 0.024, points[:, 2].min() + TIP + 0.003)
    slice_ = points[np.abs(points[:, 2] - height) < 0.015]
    slice_ = slice_ if len(slice_) >= 4 else points
    for yaw in np.deg2rad(np.arange(-90, 91, 10)):
        across = about_z(yaw)[:2, 1]
        along = slice_[:, :2] @ across
        width = along.max() - along.min()
        if width <= _WIDEST:
            x, y = centre[:2] + across * ((along.max() + along.min()) / 2 - centre[:2] @ across)
            yield Grasp(np.array([x, y, height]), float(yaw), float(width + 0.012 * abs(yaw)))


def _score(
    scene: Scene, grasp: Grasp, near: Sequence[FloatArray], tried: Sequence[Grasp], preference: GraspPreference
) -> float:
    gap = min(_clearance(grasp, others) for others in near)
    repeated = sum(
        abs(grasp.yaw - other.yaw) < 0.1 and np.linalg.norm(grasp.position[:2] - other.position[:2]) < 0.04
        for other in tried
    )
    strain = max(0.0, stretch(scene.base, grasp.position) - preference.stretch)
    score = (
        _CLEARANCE_WEIGHT * min(gap, preference.enough)
        + preference.room * gap
        - _AWKWARDNESS_WEIGHT * grasp.cost
        - preference.strain * strain
        - _REPETITION_COST * repeated
    )
    return score - preference.turned * abs(grasp.yaw) - preference.left * (grasp.yaw > 0) - preference.near * grasp.near


def stretch(base: FloatArray, position: FloatArray) -> float:
    """Return how far a Panda stretches to grasp at `position` `[3]` from above; 1 is completely stretched."""
    wrist_ahead = np.linalg.norm(position[:2] - base[:2]) - 0.088
    wrist_above = position[2] + 0.204 - base[2] - 0.333
    return float(np.hypot(wrist_ahead, wrist_above) / _ARM)


def _clearance(grasp: Grasp, others: FloatArray) -> float:
    """Return the smallest gap, metres, between an open hand at a grasp and points `[N, 3]`; not positive is contact."""
    if not len(others):
        return 0.05
    points = (others - grasp.position) @ about_z(grasp.yaw)  # hand frame: fingers along y, z up
    finger = 0.051
    gaps = [_gap(points, (0, side * finger, 0.02), (0.012, 0.012, 0.032)) for side in (-1, 1)]
    palm = _gap(points, (0, 0, 0.08), (0.033, 0.105, 0.05))
    return min(*gaps, palm, 0.05)


def _gap(points: FloatArray, centre: Sequence[float], half: Sequence[float]) -> float:
    """Return the distance from a box to the nearest of `points` `[N, 3]`, negative inside."""
    beyond = np.abs(points - np.asarray(centre)) - np.asarray(half)
    distances = np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(1), 0)
    return float(distances.min())

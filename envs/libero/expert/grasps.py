"""Where to take hold of a thing from above, with a parallel gripper, among other things."""

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
_HOLLOW = ("bowl", "ramekin", "mug", "plate")  # too wide to span, held by the rim
_ARM = 0.70  # metres from a Panda's shoulder to its wrist with the arm stretched


@dataclass(frozen=True)
class GraspPreference:
    """What makes one of several sound grasps the better one, in metres of room that it is worth.

    Attributes:
        enough: room around the hand, metres, beyond which more of it hardly counts.
        room: worth of a metre of room beyond that.
        stretch: share of the arm's length up to which stretching costs nothing.
        strain: price of stretching by the arm's whole length further.
        turned: price of a radian of yaw, besides the grasp's own cost.
        left: price of turning to the left at all.
        near: price of the near side of a rim (-y in the hand's frame).
    """

    enough: float = 0.01
    room: float = 0.5
    stretch: float = 0.90
    strain: float = 1.5
    turned: float = 0.0
    left: float = 0.0
    near: float = 0.0


ROOMIEST = GraspPreference()
"""As much room as there is: another side of the same bowl whenever its neighbours stand a little otherwise."""

STEADY = GraspPreference(enough=0.018, room=0.0, stretch=0.99, strain=3.0, turned=0.019, left=0.02, near=0.005)
"""The same side in nearly all scenes of a task, so that a learner is shown one way; room enough, not the most."""


class Grasp(NamedTuple):
    """A grasp from above.

    Attributes:
        position: grip point `[3]`, metres, world frame.
        yaw: radians.
        cost: how awkward it is in itself.
        near: whether it holds a rim by its near side (-y in the hand's frame).
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
    preference: GraspPreference = ROOMIEST,
) -> Grasp:
    """Return the grasp of a thing that keeps clear of the others, is within reach and was not tried before.

    Args:
        scene: the scene.
        name: the thing.
        tried: grasps that did not hold.
        move: displacement `[3]`, metres, to where the thing will be put; there, too, the hand must not touch anything.
        preference: which of several sound grasps is the best.

    Raises:
        UsageError: nothing of the thing fits between the fingers.
    """
    points = scene.points(name)
    bottom = points[:, 2].min() + 0.004  # whatever it stands on does not count
    others = scene.obstacles((name,))
    others_then = others - (np.zeros(3) if move is None else move)
    near = [others[others[:, 2] > bottom], others_then[others_then[:, 2] > bottom]]
    grasps = list(_span_grasps(points)) if not any(word in name for word in _HOLLOW) else []
    grasps = grasps or list(_rim_grasps(points, scene.position(name)))
    if not grasps:
        raise UsageError(f"The LIBERO expert finds no grasp for {name!r}: it is wider than {_WIDEST} m all over.")
    return max(grasps, key=lambda grasp: _score(scene, grasp, near, tried, preference))


def _rim_grasps(points: FloatArray, centre: FloatArray) -> Iterator[Grasp]:
    """Yield grasps whose fingers straddle the rim of a bowl."""
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
    """Yield grasps whose fingers close on the two sides of a convex thing."""
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
        8 * min(gap, preference.enough)
        + preference.room * gap
        - 0.3 * grasp.cost
        - preference.strain * strain
        - 0.06 * repeated
    )
    return score - preference.turned * abs(grasp.yaw) - preference.left * (grasp.yaw > 0) - preference.near * grasp.near


def stretch(base: FloatArray, position: FloatArray) -> float:
    """Return how far a Panda stretches to hold `position` `[3]` from above, 1 being all it can."""
    wrist_ahead = np.linalg.norm(position[:2] - base[:2]) - 0.088
    wrist_above = position[2] + 0.204 - base[2] - 0.333
    return float(np.hypot(wrist_ahead, wrist_above) / _ARM)


def _clearance(grasp: Grasp, others: FloatArray) -> float:
    """Return the smallest gap, metres, between an open hand at a grasp and points `[N, 3]`; 0 or less is contact."""
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

"""The skills that put objects into drawers."""

from __future__ import annotations

import numpy as np

from envs.libero.expert.articulation import DRAWER_TRAVEL, opening_direction, pull
from envs.libero.expert.hand import Commands, Hand
from envs.libero.expert.pick_place import Spot, height_above_bottom, pick_and_place
from envs.libero.expert.scene import Scene
from evals.types import FloatArray

_ENOUGH = 0.09  # metres that a drawer must be open to lower a bowl into it
_MARGIN = 0.01


def put_in_drawer(hand: Hand, thing: str, drawer: str) -> Commands:
    """Put an object into a drawer, which is opened first if it is not open enough."""
    if -hand.scene.region_joint(drawer).position < _ENOUGH - _MARGIN:
        yield from pull(hand, drawer, _opening(hand.scene, thing, drawer))
    yield from pick_and_place(hand, thing, in_drawer(drawer))


def in_drawer(drawer: str) -> Spot:
    """Return the spot on a drawer's floor, in the middle of the part that the cabinet does not cover."""

    def spot(scene: Scene, thing: str) -> FloatArray:
        joint = scene.region_joint(drawer)
        outwards = opening_direction(joint)
        middle = scene.region_position(drawer)
        points = scene.body_points(joint.body)
        floor = points[np.linalg.norm(points[:, :2] - middle[:2], axis=1) < 0.05][:, 2].max()
        covered = DRAWER_TRAVEL + joint.position
        x, y, _ = middle + outwards * covered / 2
        return np.array([x, y, floor + 0.008 + height_above_bottom(scene, thing)])

    return spot


def _opening(scene: Scene, thing: str, drawer: str) -> float:
    """Return the distance to open a drawer, metres: completely, unless the drawer would then stand over the object."""
    joint = scene.region_joint(drawer)
    outwards = opening_direction(joint)
    sideways = np.cross(outwards, [0.0, 0.0, 1.0])
    box, points = scene.body_points(joint.body), scene.points(thing)
    beside = (points @ sideways).min() > (box @ sideways).max() or (points @ sideways).max() < (box @ sideways).min()
    if beside:
        return DRAWER_TRAVEL
    front = box[np.abs((box - scene.region_position(drawer)) @ sideways) > 0.08]
    room = (points @ outwards).min() - (front @ outwards).max() - _MARGIN
    return float(np.clip(room, _ENOUGH, DRAWER_TRAVEL))

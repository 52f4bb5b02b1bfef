"""The skill that puts a book into a narrow compartment."""

from __future__ import annotations

import numpy as np

from envs.libero.expert.geometry import about_z
from envs.libero.expert.hand import Commands, Hand
from envs.libero.expert.pick_place import Spot, height_above_bottom, pick, place
from envs.libero.expert.scene import Scene
from evals.types import FloatArray

_OVER_FLOOR = 0.01


def put_in_compartment(hand: Hand, thing: str, region: str) -> Commands:
    """Grasp a flat object that stands upright, turn it parallel to a compartment, and lower it into the compartment."""
    scene = hand.scene
    for _ in range(2):
        held = yield from pick(hand, thing, _where_it_is)  # it is turned before it is put down, so any grasp will do
        if not held:
            return
        hand.rotation = about_z(_turn(scene, thing, region)) @ hand.rotation
        if (yield from place(hand, thing, in_compartment(region))):
            return


def in_compartment(region: str) -> Spot:
    """Return the spot on the floor of a compartment at which the object's outline is centred."""

    def spot(scene: Scene, thing: str) -> FloatArray:
        points = scene.points(thing)
        middle = scene.region_position(region)
        bottom = middle[2] - scene.region_size(region)[2] + _OVER_FLOOR
        x, y, _ = scene.position(thing) + middle - (points.min(0) + points.max(0)) / 2
        return np.array([x, y, bottom + height_above_bottom(scene, thing)])

    return spot


def _where_it_is(scene: Scene, thing: str) -> FloatArray:
    return scene.position(thing)


def _turn(scene: Scene, thing: str, region: str) -> float:
    """Return the angle in radians, at most a quarter turn, that makes an object parallel to a compartment."""
    outline = scene.points(thing)[:, :2]
    length = np.linalg.eigh(np.cov(outline.T))[1][:, -1]
    width, depth, _ = scene.region_size(region)
    wanted = np.pi / 2 if depth >= width else 0.0
    return float((wanted - np.arctan2(length[1], length[0]) + np.pi / 2) % np.pi - np.pi / 2)

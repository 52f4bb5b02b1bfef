"""The skills that move an object: grasp it, carry it, put it down."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np

from envs.libero.expert.geometry import down, turned
from envs.libero.expert.grasps import Grasp, best_grasp
from envs.libero.expert.hand import Commands, Hand, HandCommand
from envs.libero.expert.scene import Scene
from evals.types import FloatArray

Spot = Callable[[Scene, str], FloatArray]
"""(scene, object) -> position `[3]` at which the object should be released, metres."""

_SIDE_BY_SIDE = 0.012  # metres between objects that share a region
_BLOCKED = 0.02  # metres; a hand that stops further from its grasp was blocked by something
_SLIPPED = 0.03  # metres; an object that moved further in the hand is not held
_LIFT = np.array([0.0, 0.0, 0.08])


def pick(hand: Hand, thing: str, spot: Spot, attempts: int = 4) -> Generator[HandCommand, None, bool]:
    """Grasp an object in a way that lets it be put on a spot, and lift it; return whether the object was lifted."""
    scene = hand.scene
    if hand.held_at_start == thing and scene.grasps(thing) and (yield from _lift_held(hand, thing)):
        return True
    tried: list[Grasp] = []
    for _ in range(attempts):
        grasp = best_grasp(scene, thing, tried, spot(scene, thing) - scene.position(thing), hand.preference)
        tried.append(grasp)
        hand.rotation = down(grasp.yaw)
        hand.closed = False
        x, y, z = grasp.position
        above = max(z + 0.07, scene.points(thing)[:, 2].max() + 0.05)
        yield from hand.travel(np.array([x, y, above]), ignoring=(thing,))
        yield from hand.goto(grasp.position, tolerance=0.005, cap=0.7, steps=40)
        if hand.distance(grasp.position)[0] > _BLOCKED:
            continue
        yield from hand.close(grasp.position)
        height = scene.position(thing)[2]
        lifted = scene.grip_position + _LIFT
        yield from hand.goto(lifted, tolerance=0.02, steps=20)
        if scene.position(thing)[2] > height + 0.03:
            return True
        yield from hand.open()
    return False


def _lift_held(hand: Hand, thing: str) -> Generator[HandCommand, None, bool]:
    """Take over an object that somebody else grasped: hold it, point down as the hand is turned, and lift it."""
    scene = hand.scene
    hand.held_at_start = None
    hand.closed = True
    hand.rotation = down(turned(scene.grip_rotation))
    yield from hand.close(scene.grip_position)
    hanging = scene.position(thing) - scene.grip_position
    yield from hand.goto(scene.grip_position + _LIFT, tolerance=0.02, steps=20)
    if np.linalg.norm(scene.position(thing) - scene.grip_position - hanging) < _SLIPPED:
        return True
    yield from hand.open()
    return False


def place(hand: Hand, thing: str, spot: Spot) -> Generator[HandCommand, None, bool]:
    """Carry the grasped object to a spot and release it; return whether it was still held on arrival."""
    scene = hand.scene
    hanging = float(scene.grip_position[2] - scene.points(thing)[:, 2].min())
    above = spot(scene, thing) + scene.grip_position - scene.position(thing) + [0, 0, 0.05]
    yield from hand.travel(above, hanging, ignoring=(thing,), tolerance=0.012)
    if scene.position(thing)[2] < scene.grip_position[2] - hanging - 0.05:
        return False
    target = spot(scene, thing) + scene.grip_position - scene.position(thing)
    yield from hand.goto(target, tolerance=0.006, cap=0.5, steps=40)
    yield from hand.open()
    yield from hand.shift(_LIFT)
    return True


def pick_and_place(hand: Hand, thing: str, spot: Spot) -> Commands:
    """Put an object on a spot, with a second attempt if it is dropped on the way."""
    for _ in range(2):
        held = yield from pick(hand, thing, spot)
        if not held or (yield from place(hand, thing, spot)):
            return


def on_thing(support: str) -> Spot:
    """Return the spot in the middle of the upper side of another object."""

    def spot(scene: Scene, thing: str) -> FloatArray:
        middle = scene.position(support)
        top = middle[2] + 0.003 if support.startswith("plate") else scene.points(support)[:, 2].max()
        return np.array([middle[0], middle[1], top + 0.005 + height_above_bottom(scene, thing)])

    return spot


def on_region(region: str, place: int = 0, places: int = 1) -> Spot:
    """Return a spot on the surface under a region: its middle, or one of several places side by side.

    Args:
        region: name of the region.
        place: number of the place, from 0 at the positive end of the world's x axis.
        places: number of places in the region.
    """

    def spot(scene: Scene, thing: str) -> FloatArray:
        x, y, height = scene.region_position(region)
        parent = scene.region_parent(region)
        if parent is not None:
            points = scene.points(parent)
            near = points[np.linalg.norm(points[:, :2] - [x, y], axis=1) < 0.05]
            height = near[:, 2].max() if len(near) else height
        aside = ((places - 1) / 2 - place) * (np.ptp(scene.points(thing)[:, 0]) + _SIDE_BY_SIDE)
        return np.array([x + aside, y, height + 0.008 + height_above_bottom(scene, thing)])

    return spot


def inside(container: str) -> Spot:
    """Return the spot in an open container, 10 cm below its edge or 3 cm above its bottom."""

    def spot(scene: Scene, thing: str) -> FloatArray:
        x, y, _ = scene.position(container)
        heights = scene.points(container)[:, 2]
        bottom = max(heights.max() - 0.10, heights.min() + 0.03)
        return np.array([x, y, bottom + height_above_bottom(scene, thing)])

    return spot


def height_above_bottom(scene: Scene, thing: str) -> float:
    """Return the height of an object's position above its lowest point, metres."""
    return max(0.0, float(scene.position(thing)[2] - scene.points(thing)[:, 2].min()))

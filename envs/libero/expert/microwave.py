"""The skills for a microwave: put a mug into it, which is held by the handle, and close the door."""

from __future__ import annotations

import numpy as np

from envs.libero.expert.geometry import about, down, facing
from envs.libero.expert.hand import Commands, Hand, HandCommand
from envs.libero.expert.scene import Scene
from evals.types import FloatArray

_UP = np.array([0.0, 0.0, 1.0])
_PALM = 0.05  # metres; the grip point stays so far before the opening, because the hand does not fit through it
_OVER_FLOOR = 0.012  # metres
_DOOR_LEAD = 0.35  # radians by which the hand's target is ahead of the door
_BESIDE_DOOR = 0.035  # metres from a door's middle to the grip point of closed fingers that touch it


def put_in_microwave(hand: Hand, mug: str, region: str) -> Commands:
    """Grasp a mug by its handle, which points out of the microwave, and slide it in as far as the hand can go."""
    scene = hand.scene
    grip, outwards = _handle(scene, mug)
    hand.rotation = facing(-(outwards + _UP) / np.sqrt(2), np.cross(outwards, _UP), scene.grip_rotation)
    hand.closed = False
    yield from hand.travel(grip + 0.05 * (outwards + _UP), ignoring=(mug,), tolerance=0.015)
    yield from hand.goto(grip, tolerance=0.006, cap=0.6, steps=40)
    yield from hand.close(grip)
    middle, size = scene.region_position(region), scene.region_size(region)
    floor = middle[2] - size[2] + _OVER_FLOOR
    raised = scene.grip_position + _UP * (floor - scene.points(mug)[:, 2].min())
    yield from hand.goto(raised + 0.02 * _UP, tolerance=0.01, steps=40)
    opening = middle + outwards * (size @ np.abs(outwards))
    inside = opening - outwards * (0.02 - _PALM)
    aside = (middle - scene.position(mug)) * (1 - np.abs(outwards))
    target = scene.grip_position + aside
    target[2] = raised[2] + 0.01
    before = target + outwards * max(0.0, float((inside + 0.12 * outwards - target) @ outwards))
    yield from hand.goto(before, tolerance=0.012, steps=60)
    target += outwards * float((inside - target) @ outwards)
    yield from hand.goto(target, tolerance=0.008, cap=0.6, steps=60)
    yield from hand.open()
    yield from hand.shift(0.15 * outwards + 0.05 * _UP, tolerance=0.03, steps=40)


def _handle(scene: Scene, mug: str) -> tuple[FloatArray, FloatArray]:
    """Return the grip point `[3]` on a mug's handle and the horizontal unit vector `[3]` along which it points."""
    points = scene.points(mug)
    middle = points.mean(0)  # of the cup: a handle has few points
    reach = np.linalg.norm((points - middle)[:, :2], axis=1)
    bar = points[reach > reach.max() - 0.012]
    outwards = (bar.mean(0) - middle) * [1, 1, 0]
    return bar.mean(0), outwards / np.linalg.norm(outwards)


def swing_shut(hand: Hand, thing: str) -> Commands:
    """Push a door from its outer side with closed fingers, around its hinge, until it is shut."""
    scene = hand.scene
    joint = scene.object_joint(thing)
    panel = max(scene.parts(joint.body), key=lambda points: float(np.prod(np.ptp(points, axis=0) + 0.01)))
    arm = (panel.mean(0) - joint.anchor) * [1, 1, 0]
    sense = -np.sign(joint.position)
    outer = -sense * np.cross(joint.axis, arm / np.linalg.norm(arm))
    touch = joint.anchor + 1.4 * arm + _BESIDE_DOOR * outer
    touch[2] = panel[:, 2].max() - 0.018
    hand.rotation = down(0.0)
    hand.closed = True
    start = touch + 0.05 * outer
    yield from hand.travel(start + 0.06 * _UP, ignoring=(thing,), tolerance=0.02)
    yield from hand.goto(start, tolerance=0.012, cap=0.7, steps=40)
    for _ in range(140):
        turned = scene.object_joint(thing).position - joint.position
        lead = about(joint.axis, turned + sense * _DOOR_LEAD)
        yield HandCommand(joint.anchor + lead @ (touch - joint.anchor), hand.rotation, closed=True)

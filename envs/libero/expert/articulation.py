"""The skills that move drawers and knobs: pull a drawer open, push it shut, turn a knob."""

from __future__ import annotations

import numpy as np

from envs.libero.expert.geometry import about, down, facing
from envs.libero.expert.hand import Commands, Hand, HandCommand
from envs.libero.expert.scene import Joint, Scene
from evals.types import FloatArray

DRAWER_TRAVEL = 0.16
"""Distance that LIBERO's drawers open, metres."""

_UP = np.array([0.0, 0.0, 1.0])
_AHEAD = 0.12  # metres before a handle where the hand lines up
_LEVER_DEPTH = 0.015  # metres under a knob's top where it is held
_LEAD = 0.5  # radians by which the hand leads the knob that it turns


def pull(hand: Hand, drawer: str, distance: float = DRAWER_TRAVEL) -> Commands:
    """Pull a drawer open by its handle.

    Args:
        hand: the hand.
        drawer: name of the region in the drawer.
        distance: distance to open the drawer, metres.
    """
    scene = hand.scene
    joint = scene.region_joint(drawer)
    outwards = opening_direction(joint)
    hand.rotation = facing(-outwards, _UP, scene.grip_rotation)
    hand.closed = False
    handle = _handle(scene, joint, outwards)
    cabinet = scene.region_parent(drawer) or ""
    yield from hand.travel(handle + _AHEAD * outwards, ignoring=(cabinet,), tolerance=0.02)
    yield from hand.goto(handle, tolerance=0.012, cap=0.7, steps=40)
    yield from hand.close(handle)
    target = scene.grip_position + (distance + joint.position + 0.01) * outwards
    for command in hand.goto(target, tolerance=0.005, steps=60):
        if scene.region_joint(drawer).position < 0.01 - distance:
            break
        yield command
    yield from hand.open()
    yield from hand.shift(0.08 * outwards, tolerance=0.03)


def push_shut(hand: Hand, drawer: str) -> Commands:
    """Push a drawer shut with closed fingers, which press on its handle at a slant from above."""
    scene = hand.scene
    joint = scene.region_joint(drawer)
    outwards = opening_direction(joint)
    leaning = -(outwards + _UP) / np.sqrt(2)
    hand.rotation = facing(leaning, np.cross(outwards, _UP), scene.grip_rotation)
    hand.closed = True
    start = _handle(scene, joint, outwards) + 0.05 * outwards
    yield from hand.travel(start + 0.06 * outwards + 0.06 * _UP, tolerance=0.02)
    yield from hand.goto(start, tolerance=0.012, cap=0.7, steps=40)
    yield from hand.goto(start - (0.08 - joint.position) * outwards, cap=0.8, steps=60)
    yield from hand.shift(0.10 * outwards, tolerance=0.03)


def opening_direction(joint: Joint) -> FloatArray:
    """Return the unit vector `[3]` along which a drawer opens: LIBERO's drawers open to negative joint positions."""
    return -joint.axis


def _handle(scene: Scene, joint: Joint, outwards: FloatArray) -> FloatArray:
    """Return the middle of the part of a drawer that sticks out furthest, `[3]` metres."""
    bar = max(scene.parts(joint.body), key=lambda points: (points @ outwards).max())
    return np.array((bar.min(0) + bar.max(0)) / 2)


def turn(hand: Hand, thing: str, angle: float) -> Commands:
    """Take hold of a knob's lever from above and turn it.

    Args:
        hand: the hand.
        thing: name of the object that the knob belongs to.
        angle: joint position to reach, radians; positive turns are counterclockwise seen from above.
    """
    scene = hand.scene
    joint = scene.object_joint(thing)
    middle, along = _lever(scene, joint)
    hand.rotation = down(along)
    hand.closed = False
    yield from hand.travel(middle + 0.08 * _UP, tolerance=0.015)
    yield from hand.goto(middle, tolerance=0.006, cap=0.7, steps=40)
    yield from hand.close(middle)
    for _ in range(60):
        turned = scene.object_joint(thing).position - joint.position
        if abs(turned) > abs(angle - joint.position):
            break
        lead = turned + np.sign(angle - joint.position) * _LEAD
        hand.rotation = down(along + lead)
        yield HandCommand(joint.anchor + about(joint.axis, lead) @ (middle - joint.anchor), hand.rotation, closed=True)
    yield from hand.open()
    yield from hand.shift(0.10 * _UP)


def _lever(scene: Scene, joint: Joint) -> tuple[FloatArray, float]:
    """Return the grip point `[3]` on a knob's lever, and the yaw (radians) with which the fingers straddle it."""
    points = scene.body_points(joint.body)
    top = points[:, 2].max()
    raised = points[points[:, 2] > top - 0.015][:, :2]
    lengthwise = np.linalg.eigh(np.cov(raised.T))[1][:, -1]
    yaw = float(np.arctan2(lengthwise[1], lengthwise[0]))
    yaw = (yaw + np.pi / 2) % np.pi - np.pi / 2
    return np.array([*raised.mean(0), top - _LEVER_DEPTH]), yaw

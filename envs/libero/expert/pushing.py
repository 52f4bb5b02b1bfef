"""The skill that pushes flat objects along the table."""

from __future__ import annotations

import itertools

import numpy as np

from envs.libero.expert.geometry import down
from envs.libero.expert.grasps import best_grasp, stretch
from envs.libero.expert.hand import Commands, Hand
from envs.libero.expert.scene import Scene
from evals.types import FloatArray

_LIFT = np.array([0.0, 0.0, 0.08])
_OVER_TABLE = 0.004  # metres; keeps the finger tips from rubbing on the table
_BERTH = 0.015  # metres of wanted distance to obstacles
_FAR = 0.9  # share of the arm's length; an arm that is stretched further cannot push
_DETOUR_PER_FAULT = 20.0  # metres of detour that cost as much as one metre too near, or one arm's length too far


def push(hand: Hand, thing: str, region: str) -> Commands:
    """Grasp a flat object by its rim and push it along the table into a region, around obstacles.

    The fingers hold the rim while they push. So the object cannot roll away sideways, as it does from a closed hand,
    and the hand needs no free space behind the object.
    """
    scene = hand.scene
    route = _route(scene, thing, region)
    start = scene.position(thing)
    grasp = best_grasp(scene, thing, move=np.array([*(route[-1] - start[:2]), 0.0]), preference=hand.preference)
    hand.rotation = down(grasp.yaw)
    hand.closed = False
    yield from hand.travel(grasp.position + _LIFT, ignoring=(thing,))
    yield from hand.goto(grasp.position, tolerance=0.006, cap=0.7, steps=40)
    yield from hand.close(grasp.position)
    height = scene.grip_position[2] + _OVER_TABLE
    for stop in route:
        x, y = stop + (scene.grip_position - scene.position(thing))[:2]
        yield from hand.goto(np.array([x, y, height]), tolerance=0.01, cap=0.7, steps=80)
    yield from hand.open()
    yield from hand.shift(_LIFT)


def _route(scene: Scene, thing: str, region: str) -> list[FloatArray]:
    """Return the one or two points `[2]` through which the middle of an object is pushed into a region."""
    points = scene.points(thing)
    start, middle = scene.position(thing)[:2], scene.region_position(region)[:2]
    height = scene.position(thing)[2]
    radius = np.linalg.norm(points[:, :2] - start, axis=1).max()
    others = scene.obstacles((thing,))
    others = others[others[:, 2] < points[:, 2].max() + 0.02][:, :2]
    shares = (0.0, -0.7, 0.7)
    ends = [middle + scene.region_size(region)[:2] * share for share in itertools.product(shares, shares)]
    corners = np.array([start, *ends])
    low, high = corners.min(0) - 0.08, corners.max(0) + 0.08
    vias = [low + (high - low) * share for share in itertools.product(np.linspace(0, 1, 7), repeat=2)]
    routes = [[end] for end in ends] + [[via, end] for end in ends for via in vias]

    def cost(route: list[FloatArray]) -> float:
        legs = list(itertools.pairwise([start, *route]))
        length = sum(float(np.linalg.norm(b - a)) for a, b in legs) + float(np.linalg.norm(route[-1] - middle))
        cramped = sum(max(0.0, radius + _BERTH - _distance(others, a, b)) for a, b in legs)
        strained = sum(max(0.0, stretch(scene.base, np.array([*stop, height])) - _FAR) for stop in route)
        return float(length + _DETOUR_PER_FAULT * (cramped + strained))

    return min(routes, key=cost)


def _distance(points: FloatArray, start: FloatArray, end: FloatArray) -> float:
    """Return the distance from the nearest of `points` `[N, 2]` to a line segment."""
    way = end - start
    along = np.clip((points - start) @ way / max(float(way @ way), 1e-12), 0, 1)
    return float(np.linalg.norm(points - start - along[:, None] * way, axis=1).min(initial=np.inf))

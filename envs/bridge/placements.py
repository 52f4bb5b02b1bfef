"""Where the objects of a Bridge task start: official grids and seeded placements. World frame, metres, radians."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np

from evals.types import FloatArray

XY = tuple[float, float]

TABLE_CENTER: XY = (-0.16, 0.0)
SETTLED = Path(__file__).parent / "data" / "settled.json"


@dataclass(frozen=True)
class Placement:
    """Where source and target object are dropped: world xy and yaw about z; the target is never turned."""

    source_xy: XY
    target_xy: XY
    source_yaw: float


@dataclass(frozen=True)
class Start:
    """How an episode starts.

    Attributes:
        placement: where the objects are dropped.
        rest: `[2, 7]` where source and target lie instead (position, quaternion wxyz), or None to let them fall.
    """

    placement: Placement
    rest: FloatArray | None = None


@dataclass(frozen=True)
class Region:
    """From what the placements beyond the official ones are drawn, uniformly.

    Attributes:
        source_low: smallest xy of the source object.
        source_high: largest.
        target_low: smallest xy of the target object.
        target_high: largest.
        yaw: smallest and largest yaw of the source object.
        separation: smallest distance between the two, the official placements' smallest.
    """

    source_low: XY
    source_high: XY
    target_low: XY
    target_high: XY
    yaw: tuple[float, float]
    separation: float

    def draw(self, rng: np.random.Generator) -> Placement:
        """Return a random placement."""
        while True:
            source = rng.uniform(self.source_low, self.source_high)
            target = rng.uniform(self.target_low, self.target_high)
            if np.linalg.norm(source - target) >= self.separation:
                xy_source, xy_target = (float(source[0]), float(source[1])), (float(target[0]), float(target[1]))
                return Placement(xy_source, xy_target, float(rng.uniform(*self.yaw)))


@lru_cache(maxsize=8)
def original_rest(task: str) -> FloatArray:
    """Return `[24, 2, 7]`: where SAPIEN 2.2.2 lets source and target come to rest in a task's official episodes."""
    poses: FloatArray = np.array(json.loads(SETTLED.read_text())["poses"][task])
    return poses


def corner_pairs(half_edge: float, yaws: tuple[float, ...]) -> tuple[Placement, ...]:
    """Return every ordered pair of different corners of a square on the table, each with every yaw."""
    x, y = TABLE_CENTER
    corners = [(x + i * half_edge, y + j * half_edge) for i, j in product((-1, 1), repeat=2)]
    pairs = [(source, target) for source, target in product(corners, repeat=2) if source != target]
    return tuple(Placement(source, target, yaw) for source, target in pairs for yaw in yaws)


def square_region(half_edge: float, yaw: tuple[float, float], separation: float) -> Region:
    """Return the region in which both objects lie anywhere in a square on the table."""
    x, y = TABLE_CENTER
    low, high = (x - half_edge, y - half_edge), (x + half_edge, y + half_edge)
    return Region(low, high, low, high, yaw, separation)


SINK_TARGET: XY = (-0.125, 0.025)
SINK_PLACEMENTS = tuple(
    Placement(xy, SINK_TARGET, yaw)
    for xy in product((-0.115, -0.095), (0.191, 0.201, 0.211, 0.221))
    for yaw in (0.0, math.pi / 4, -math.pi / 4)
)
SINK_REGION = Region(
    source_low=(-0.115, 0.191),
    source_high=(-0.095, 0.221),
    target_low=SINK_TARGET,
    target_high=SINK_TARGET,
    yaw=(-math.pi / 4, math.pi / 4),
    separation=0.0,
)

"""The gripper as skills use it.

A skill is a generator of commands. A command says where the hand should be. `envs.libero.expert.expert` derives from it
both the action that is sent to the controller and the motion sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from envs.libero.expert.geometry import down, rotation_vector
from envs.libero.expert.grasps import MOST_CLEARANCE, GraspPreference
from envs.libero.expert.scene import TIP, Scene
from evals.types import FloatArray
from vla.motion.language import GripperEvent

_STALL_STEPS = 10  # a hand that came no closer for so many steps will not arrive
_GRADUAL = 8e-4  # metres per step; fingers that move less count as closed


@dataclass(frozen=True)
class HandCommand:
    """What the hand should do in one step.

    Attributes:
        position: where the grip point should be, `[3]` metres, world frame.
        rotation: `R_world_grip`, `[3, 3]`.
        closed: whether the fingers should be closed.
        cap: largest share of the controller's range that the hand may use to get there.
        tolerance: distance in metres at which the hand has arrived.
        event: whether the fingers are opening or closing, or None if they do not move.
    """

    position: FloatArray
    rotation: FloatArray
    closed: bool
    cap: float = 1.0
    tolerance: float = 0.01
    event: GripperEvent | None = None


Commands = Iterator[HandCommand]


class Hand:
    """A gripper that keeps its orientation and opening until a skill changes them.

    Attributes:
        scene: the scene in which the gripper is.
        preference: which of several possible grasps is chosen.
        rotation: `R_world_grip` `[3, 3]` to which the gripper turns while it moves.
        closed: whether the fingers should be closed.
        held_at_start: name of the object that was between the fingers when the skills began, or None.
    """

    def __init__(self, scene: Scene, preference: GraspPreference = MOST_CLEARANCE) -> None:
        self.scene = scene
        self.preference = preference
        self.rotation = down(0.0)
        self.closed = False
        self.held_at_start = scene.grasped()

    def distance(self, position: FloatArray) -> tuple[float, float]:
        """Return the distance to a position (metres) and the angle to the wanted orientation (radians)."""
        turn = rotation_vector(self.rotation @ self.scene.grip_rotation.T)
        return float(np.linalg.norm(position - self.scene.grip_position)), float(np.linalg.norm(turn))

    def goto(
        self, position: FloatArray, tolerance: float = 0.01, cap: float = 1.0, steps: int = 60, turned: float = 0.06
    ) -> Commands:
        """Move in a straight line until the hand has arrived, or comes no closer.

        Args:
            position: `[3]` metres, world frame.
            tolerance: distance in metres at which the hand has arrived.
            cap: largest share of the controller's range to use.
            steps: largest number of control steps.
            turned: angle in radians at which the hand has its orientation.
        """
        best, stalled = np.inf, 0
        for _ in range(steps):
            far, angle = self.distance(position)
            if far < tolerance and angle < turned:
                return
            gained = best - (far + 0.1 * angle)
            best, stalled = (far + 0.1 * angle, 0) if gained > 5e-4 else (best, stalled + 1)
            if stalled > _STALL_STEPS:
                return
            yield HandCommand(position, self.rotation, self.closed, cap, tolerance)

    def shift(self, offset: FloatArray, tolerance: float = 0.02, cap: float = 1.0, steps: int = 20) -> Commands:
        """Move by `offset` `[3]` metres."""
        yield from self.goto(self.scene.grip_position + offset, tolerance, cap, steps)

    def close(self, position: FloatArray, steps: int = 18) -> Commands:
        """Close the fingers at `position` `[3]` until they stop moving."""
        self.closed = True
        openings = [self.scene.opening]
        for step in range(steps):
            yield HandCommand(position, self.rotation, closed=True, event="close")
            openings.append(self.scene.opening)
            if step > 4 and abs(openings[-1] - openings[-3]) < _GRADUAL:
                return

    def open(self, steps: int = 7) -> Commands:
        """Open the fingers where the hand is."""
        self.closed = False
        position = self.scene.grip_position
        for _ in range(steps):
            yield HandCommand(position, self.rotation, closed=False, event="open")

    def travel(
        self, target: FloatArray, hanging: float = TIP, ignoring: Collection[str] = (), tolerance: float = 0.015
    ) -> Commands:
        """Move up, sideways and down to `target`, above everything that stands near the path.

        Args:
            target: `[3]` metres, world frame.
            hanging: distance that the hand, or what it carries, reaches below the grip point, metres.
            ignoring: names of objects that are not obstacles.
            tolerance: distance in metres at which the hand has arrived.
        """
        start = self.scene.grip_position
        height = max(target[2], self._clear_height(start, target, ignoring) + hanging + 0.03)
        if height > start[2] + 0.02:
            yield from self.goto(np.array([start[0], start[1], height]), 0.02, steps=40, turned=9.0)
        if height > target[2] + 0.03 or height < start[2] - 0.05:
            yield from self.goto(np.array([target[0], target[1], height]), 0.025, steps=80)
        yield from self.goto(target, tolerance)

    def _clear_height(self, start: FloatArray, target: FloatArray, ignoring: Collection[str]) -> float:
        """Return the height of the highest point near the straight path, or -inf if there is none."""
        points = self.scene.obstacles(ignoring)
        way = target[:2] - start[:2]
        length = max(float(np.linalg.norm(way)), 1e-6)
        along = np.clip((points[:, :2] - start[:2]) @ way / length, 0, length)
        nearest = start[:2] + along[:, None] * way / length
        near = points[np.linalg.norm(points[:, :2] - nearest, axis=1) < 0.13]
        return float(near[:, 2].max()) if len(near) else -np.inf

"""The scripted, privileged expert for `simpler_bridge`: it reads object poses, grasps from above, and puts down.

The expert sends the same actions as a policy, so it also proves that the official controller can solve the tasks.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from envs.bridge.env import BridgeEnv
from evals.contract import Env
from evals.errors import UsageError
from evals.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from evals.spaces import ActionSpace, StateSpace
from evals.types import ActionChunk, Episode, FloatArray, Observation, Suite
from vla.motion.language import GripperEvent, describe, motion_towards

# The gripper link's x axis points along the fingers, its y axis from finger to finger; columns in the world frame.
R_WORLD_DOWN = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
TURN_PER_STEP = 0.20  # radians
TURN_TOLERANCE = 0.03  # radians
TURN_IN_SENTENCE = 0.1  # radians; a smaller rotation is not part of the motion sentence
LIFTED = 0.02  # metres; an object that rose less was not grasped
LOWERING_SPEED = 0.015  # metres per step
CLOSING_STEPS, OPENING_STEPS = 4, 3


@dataclass(frozen=True)
class Grip:
    """How the object of one task is grasped and put down. Lengths are in metres; heights are those of the gripper link.

    Attributes:
        along: grasp point, along the object's x axis from its origin.
        above: height of the gripper above the grasp point.
        lowest: lowest height of the gripper in the world.
        cruise: height of the gripper in the world while it carries the object.
        put: height of the object's origin above the target's origin at release.
        lowest_release: lowest height of the gripper in the world at release.
        symmetry: angle about z, in radians, after which a grasp of the object is the same.
        speed: distance per control step.
    """

    along: float
    above: float
    lowest: float
    cruise: float
    put: float
    lowest_release: float = 0.0
    symmetry: float = math.pi
    speed: float = 0.025


GRIPS = {
    "widowx_spoon_on_towel": Grip(along=0.028, above=0.004, lowest=0.8865, cruise=0.965, put=0.026),
    "widowx_carrot_on_plate": Grip(along=0.0, above=0.0, lowest=0.8885, cruise=0.975, put=0.030),
    "widowx_stack_cube": Grip(
        along=0.0, above=0.004, lowest=0.8865, cruise=0.975, put=0.0325, symmetry=math.pi / 2, speed=0.02
    ),
    "widowx_put_eggplant_in_basket": Grip(
        along=0.0, above=0.002, lowest=0.936, cruise=1.085, put=0.060, lowest_release=1.0
    ),
}


@dataclass(frozen=True)
class HandCommand:
    """What the hand should do in one step.

    Attributes:
        position: position of the gripper link, `[3]` metres, world frame.
        yaw: radians, world frame.
        closed: whether the fingers should be closed.
        speed: metres per control step.
        tolerance: distance in metres at which the hand has arrived.
        event: whether the fingers are opening or closing, or None if they do not move.
    """

    position: FloatArray
    yaw: float
    closed: bool
    speed: float
    tolerance: float
    event: GripperEvent | None = None


class BridgeExpert:
    """Solves the four Bridge tasks from the simulator's state; every action has a motion sentence that says its intent.

    Args:
        suite: the suite `simpler_bridge`.
        noise: standard deviation, in metres, of the noise on every commanded displacement; 0 is deterministic.
        speed: factor on the speed of the gripper, 0.5 to 1.5.
        consistent_grasp: has no effect, since this expert always grasps an object in the same way.
    """

    name = "expert"
    state_space: StateSpace | None = None
    cameras: tuple[str, ...] = ()
    replan_every = 1

    def __init__(self, suite: Suite, *, noise: float = 0.0, speed: float = 1.0, consistent_grasp: bool = False) -> None:
        if not noise >= 0:
            raise UsageError(f"The expert's noise is {noise}; metres, 0 or more, are expected.")
        if not 0.5 <= speed <= 1.5:
            raise UsageError(f"The expert's speed is {speed}; a factor from 0.5 to 1.5 is expected.")
        self.action_space: ActionSpace = suite.action_space
        self._noise = noise
        self._speed = speed
        self._env: BridgeEnv | None = None
        self._run: _SkillRun | None = None

    def attach(self, env: Env) -> None:
        """Keep the env whose simulator the expert reads.

        Raises:
            UsageError: the env is not one of `simpler_bridge`.
        """
        if not isinstance(env, BridgeEnv):
            raise UsageError(f"The expert of simpler_bridge cannot act in {type(env).__name__}.")
        self._env = env
        self._run = None

    def begin(self, episode: Episode) -> None:
        """Forget the last episode; the scene is read at the first step, after the env's reset."""
        self._run = None

    def end(self, episode: Episode) -> None:
        """Forget the episode."""
        self._run = None

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Return one action, with its motion sentence, for one observation.

        Raises:
            UsageError: more than one observation, or no env attached.
        """
        if self._env is None or len(observations) != 1:
            raise UsageError(
                "The expert of simpler_bridge reads one simulator: attach(env), then act on one observation."
            )
        if self._run is None:
            self._run = _SkillRun(_Sight(self._env), self._speed, self._noise, observations[0].episode.rng("expert"))
        return [self._run.next()]


class _Sight:
    """Reads poses from the simulator: positions `[3]` and rotations `[3, 3]`, in the world unless the name says it."""

    def __init__(self, env: BridgeEnv) -> None:
        self._scene = env.scene_now
        self.grip = GRIPS[self._scene.task.name]
        base = self._scene.robot.articulation.pose.to_transformation_matrix().astype(np.float64)
        self.R_world_base, self._base = base[:3, :3], base[:3, 3]

    @property
    def gripper(self) -> FloatArray:
        """Position of the gripper link."""
        position: FloatArray = self._scene.robot.gripper_link.entity.pose.p.astype(np.float64)
        return position

    @property
    def source(self) -> tuple[FloatArray, FloatArray]:
        """Position and orientation of the object to move."""
        matrix = self._scene.source.entity.pose.to_transformation_matrix().astype(np.float64)
        return matrix[:3, 3], matrix[:3, :3]

    @property
    def target(self) -> FloatArray:
        """Position of the object on which the source is put."""
        position: FloatArray = self._scene.target.entity.pose.p.astype(np.float64)
        return position

    @property
    def goal_in_base(self) -> tuple[FloatArray, FloatArray]:
        """Target position and orientation of the controller, in the robot's base frame."""
        matrix = self._scene.robot.target_in_base.to_transformation_matrix().astype(np.float64)
        return matrix[:3, 3], matrix[:3, :3]

    def to_base(self, position: FloatArray) -> FloatArray:
        """Return a world position in the robot's base frame."""
        in_base: FloatArray = self.R_world_base.T @ (position - self._base)
        return in_base

    def turn_left(self, yaw: float) -> FloatArray:
        """Return the rotation `[3]` (axis-angle, base frame) from the controller's target to a gripper at this yaw."""
        wanted = self.R_world_base.T @ axis_angle_to_matrix(np.array([0.0, 0.0, yaw])) @ R_WORLD_DOWN
        return matrix_to_axis_angle(wanted @ self.goal_in_base[1].T)

    def grasp(self) -> tuple[FloatArray, float]:
        """Return gripper position and yaw for a grasp across the object's x axis, with as little yaw as possible."""
        position, R_world_source = self.source
        point = position + R_world_source @ np.array([self.grip.along, 0.0, 0.0])
        point[2] = max(point[2] + self.grip.above, self.grip.lowest)
        yaw = math.atan2(R_world_source[1, 0], R_world_source[0, 0])
        half = self.grip.symmetry / 2
        return point, (yaw + half) % self.grip.symmetry - half


class _SkillRun:
    """One episode: turns the plan's commands into actions and sentences."""

    def __init__(self, sight: _Sight, speed: float, noise: float, rng: np.random.Generator) -> None:
        self._sight = sight
        self._speed = speed
        self._noise = noise
        self._rng = rng
        self._plan = _plan(sight)

    def next(self) -> ActionChunk:
        """Return the next action `[1, 7]` with its motion sentence."""
        command = next(self._plan)
        sight = self._sight
        held, _ = sight.goal_in_base
        here = sight.to_base(sight.gripper)
        turn = _at_most(sight.turn_left(command.yaw), TURN_PER_STEP * self._speed)
        wanted = held + _at_most(sight.to_base(command.position) - held, command.speed * self._speed)
        # The controller turns its target about the gripper's present position, which also moves it.
        move = wanted - here - axis_angle_to_matrix(turn) @ (held - here)
        if self._noise:
            move = move + self._rng.normal(0.0, self._noise, 3)
        action = np.array([[*move, *turn, -1.0 if command.closed else 1.0]])
        return ActionChunk(action, motion=self._intent(command, here))

    def _intent(self, command: HandCommand, here: FloatArray) -> str:
        """Return the sentence for the movement that is left; noise and speed limits do not change it."""
        offset = self._sight.to_base(command.position) - here
        turn = self._sight.turn_left(command.yaw)
        tolerance = command.tolerance / math.sqrt(3)
        return describe(motion_towards(offset, tolerance, turn, TURN_IN_SENTENCE, command.event))


def _plan(sight: _Sight) -> Iterator[HandCommand]:
    """Grasp the object, put it down, and stay above it for the rest of the episode."""
    speed = sight.grip.speed
    yaw = yield from _take(sight)
    offset = sight.source[0] - sight.gripper
    over = np.array([*(sight.target - offset)[:2], sight.grip.cruise])
    yield from _go(sight, HandCommand(over, yaw, True, speed, tolerance=0.004), steps=40)
    offset = sight.source[0] - sight.gripper
    height = max(sight.target[2] + sight.grip.put - offset[2], sight.grip.lowest_release)
    release = np.array([*(sight.target - offset)[:2], height])
    yield from _go(sight, HandCommand(release, yaw, True, LOWERING_SPEED, tolerance=0.003), steps=10)
    here = sight.gripper  # it may rest on something above the release point
    for _ in range(OPENING_STEPS):
        yield HandCommand(here, yaw, False, speed, tolerance=0.003, event="open")
    away = np.array([*here[:2], max(sight.grip.cruise, here[2] + 0.06)])
    while True:
        yield HandCommand(away, yaw, False, speed, tolerance=0.01)


def _take(sight: _Sight) -> Generator[HandCommand, None, float]:
    """Grasp and lift the object, as often as necessary, and return the yaw of the grasp."""
    speed = sight.grip.speed
    while True:
        point, yaw = sight.grasp()
        above = np.array([*point[:2], point[2] + max(0.06, min(sight.grip.cruise - point[2], 0.10))])
        yield from _go(sight, HandCommand(above, yaw, False, speed, tolerance=0.008), steps=18)
        yield from _go(sight, HandCommand(point, yaw, False, speed, tolerance=0.004), steps=14)
        height = sight.source[0][2]
        for _ in range(CLOSING_STEPS):
            yield HandCommand(point, yaw, True, speed, tolerance=0.004, event="close")
        up = np.array([*point[:2], sight.grip.cruise])
        yield from _go(sight, HandCommand(up, yaw, True, speed, tolerance=0.012), steps=20)
        if sight.source[0][2] - height > LIFTED:
            return yaw


def _go(sight: _Sight, command: HandCommand, steps: int) -> Iterator[HandCommand]:
    """Repeat a command until the gripper has arrived and turned, or the steps are used up."""
    for _ in range(steps):
        near = np.linalg.norm(sight.gripper - command.position) < command.tolerance
        if near and np.linalg.norm(sight.turn_left(command.yaw)) < TURN_TOLERANCE:
            return
        yield command


def _at_most(vector: FloatArray, length: float) -> FloatArray:
    """Return the vector, shortened to a length if it is longer."""
    norm = float(np.linalg.norm(vector))
    return vector if norm <= length else vector * (length / norm)

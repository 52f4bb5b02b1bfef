"""A toy suite: a point reaches for a ball. Pure NumPy, milliseconds an episode, and the shortest example of a suite.

It has what a real suite has (settle steps, drawn images, a gripper, an orientation, fixtures that differ by
seed), so that runner, gates and conformance tests can be tried on it before they are tried on a simulator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evals.contract import Env
from evals.errors import ContractError
from evals.spaces import ActionSpace, StateSpace
from evals.types import ActionChunk, Camera, Episode, FloatArray, Image, Observation, Protocol, Step, Suite, Task
from vla.motion.language import describe, motion_towards

ACTION_SPACE = ActionSpace(
    frame="world", metres_per_unit=0.02, radians_per_unit=0.1, gripper_open=-1.0, gripper_closed=1.0
)
STATE_SPACE = StateSpace(
    names=("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_left", "finger_right"),
    source="pose of the point itself",
)
BALL_XY = {"left": (-0.2, 0.0), "right": (0.2, 0.0), "near": (0.0, -0.2), "far": (0.0, 0.2)}
BALL_RADIUS = 0.03
MAX_STEPS = 40
OPEN_FINGER = 0.04
CAMERA = Camera("agentview", 64, 64)


def suite() -> Suite:
    """Return the suite `reach`."""
    tasks = tuple(
        Task(i, f"reach_{where}", f"reach the ball on the {where} side", MAX_STEPS) for i, where in enumerate(BALL_XY)
    )
    protocol = Protocol(
        source="none: a toy",
        simulator="envs.reach 1",
        settle_steps=5,
        settle_action=tuple(ACTION_SPACE.idle().tolist()),
        success="first",
        initial_states=10,
        cameras=(CAMERA,),
        image_transform="none",
        max_steps=(MAX_STEPS,) * len(tasks),
    )
    return Suite(
        name="reach",
        tasks=tasks,
        protocol=protocol,
        action_space=ACTION_SPACE,
        state_space=STATE_SPACE,
        env="envs.reach:ReachEnv",
        expert="envs.reach:ReachExpert",
        reference="data/reach_reference.json",
        extra_states=True,
    )


@dataclass(frozen=True)
class _World:
    """Everything that moves: metres, world frame with z up; `quat_wxyz_world_point` is the orientation."""

    position: FloatArray
    velocity: FloatArray
    quat_wxyz_world_point: FloatArray
    finger: float
    ball: FloatArray

    def after(self, action: FloatArray, table_height: float) -> _World:
        """Return the world one control step later: a lagging velocity, an exact rotation, a ball that falls."""
        clipped = np.clip(action, ACTION_SPACE.low, ACTION_SPACE.high)
        velocity = 0.5 * self.velocity + 0.5 * ACTION_SPACE.metres_per_unit * clipped[:3]
        turn = _quat_wxyz_from_axis_angle(ACTION_SPACE.radians_per_unit * clipped[3:6])
        wanted_finger = OPEN_FINGER if clipped[6] < 0 else 0.0
        resting = table_height + BALL_RADIUS
        return _World(
            position=self.position + velocity,
            velocity=velocity,
            quat_wxyz_world_point=_quat_wxyz_product(turn, self.quat_wxyz_world_point),
            finger=self.finger + float(np.clip(wanted_finger - self.finger, -0.01, 0.01)),
            ball=np.array([*self.ball[:2], max(resting, self.ball[2] - 0.02)]),
        )

    def reached(self) -> bool:
        return bool(np.linalg.norm(self.position - self.ball) < BALL_RADIUS)

    def sim_state(self) -> FloatArray:
        parts = (self.position, self.velocity, self.quat_wxyz_world_point, [self.finger], self.ball)
        return np.concatenate(parts)

    def state(self) -> FloatArray:
        axis_angle = _axis_angle_from_quat_wxyz(self.quat_wxyz_world_point)
        return np.concatenate([self.position, axis_angle, [self.finger, -self.finger]])


class ReachEnv:
    """A point, a ball and a table whose height differs by seed."""

    def __init__(self, suite: Suite, task: Task, cameras: tuple[str, ...]) -> None:
        self._suite = suite
        self._task = task
        self._cameras = cameras

    def reset(self, episode: Episode, render: bool) -> Step:
        """Place point and ball by initial state and the table by seed, then run the settle steps."""
        self._episode = episode
        rng = np.random.default_rng([episode.task, episode.initial_state])
        self._table_height = float(episode.rng("table height").uniform(0.0, 0.02))
        ball_xy = np.array(list(BALL_XY.values())[episode.task]) + rng.uniform(-0.03, 0.03, 2)
        self.world = _World(
            position=np.array([*rng.uniform(-0.03, 0.03, 2), rng.uniform(0.25, 0.3)]),
            velocity=np.zeros(3),
            quat_wxyz_world_point=_quat_wxyz_from_axis_angle(np.array([2.0, 0.3, rng.uniform(-0.2, 0.2)])),
            finger=OPEN_FINGER / 2,
            ball=np.array([*ball_xy, 0.1]),
        )
        for _ in range(self._suite.protocol.settle_steps):
            self.world = self.world.after(np.array(self._suite.protocol.settle_action), self._table_height)
        self._steps = 0
        return self._result(render)

    def step(self, action: FloatArray, render: bool) -> Step:
        """Run one control step."""
        if np.shape(action) != (ActionSpace.dim,):
            raise ContractError(f"reach got an action of shape {np.shape(action)}, expected ({ActionSpace.dim},).")
        self.world = self.world.after(action, self._table_height)
        self._steps += 1
        return self._result(render)

    def static_state(self) -> FloatArray:
        """Return the table's height, `[1]`."""
        return np.array([self._table_height])

    def objects(self) -> Mapping[str, FloatArray]:
        """Return the ball's centre."""
        return {"ball": self.world.ball}

    def renderer(self) -> str:
        """Return what draws."""
        return "NumPy"

    def close(self) -> None:
        """Free nothing."""

    def _result(self, render: bool) -> Step:
        observation = self._observation() if render else None
        return Step(self.world.reached(), observation, self.world.sim_state())

    def _observation(self) -> Observation:
        images = {
            name: _draw(self.world, self._table_height, self._suite.protocol.cameras[0]) for name in self._cameras
        }
        return Observation(self._episode, self._steps, self._task.instruction, images, self.world.state())


class ReachExpert:
    """Flies straight to the ball, four steps a chunk."""

    name = "expert"
    action_space = ACTION_SPACE
    state_space: StateSpace | None = None
    cameras: tuple[str, ...] = ()
    replan_every = 4

    def __init__(self, suite: Suite, noise: float = 0.0, speed: float = 1.0, consistent_grasp: bool = False) -> None:
        """Take what every expert takes: metres of noise on the path, a factor on the speed, and a wish for one way."""
        self._noise, self._speed = noise, speed

    def attach(self, env: Env) -> None:
        """Keep the env, to read where the ball is."""
        if not isinstance(env, ReachEnv):
            raise ContractError(f"The expert of reach cannot act in {type(env).__name__}.")
        self._env = env

    def begin(self, episode: Episode) -> None:
        """Keep nothing."""

    def end(self, episode: Episode) -> None:
        """Keep nothing."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer with a quarter of the way, four times."""
        return [self._answer(observation) for observation in observations]

    def _answer(self, observation: Observation) -> ActionChunk:
        rng = observation.episode.rng(f"expert, step {observation.step}")
        way = self._env.world.ball - self._env.world.position + rng.normal(0.0, self._noise, 3)
        action = ACTION_SPACE.idle()
        action[:3] = np.clip(way / self.replan_every / ACTION_SPACE.metres_per_unit, -self._speed, self._speed)
        motion = describe(motion_towards(way, BALL_RADIUS / 2))
        return ActionChunk(np.tile(action, (self.replan_every, 1)), motion=motion)


def _draw(world: _World, table_height: float, camera: Camera) -> Image:
    """Return the scene seen along +y, `[height, width, 3]`: bright wall, dark table, red ball, blue point."""
    columns = np.linspace(-0.3, 0.3, camera.width)[None, :]
    heights = np.linspace(0.5, -0.1, camera.height)[:, None]
    image = np.full((camera.height, camera.width, 3), 220, dtype=np.uint8)
    image[np.broadcast_to(heights < table_height, image.shape[:2])] = (90, 70, 50)
    for centre, radius, colour in ((world.ball, BALL_RADIUS, (200, 30, 30)), (world.position, 0.02, (30, 30, 200))):
        nearness = 1.0 - 0.5 * centre[1]
        image[(columns - centre[0]) ** 2 + (heights - centre[2]) ** 2 < (radius * nearness) ** 2] = colour
    return image


# These differ from evals.rotations in the last bit, on which recorded trajectories and states depend.
def _quat_wxyz_from_axis_angle(axis_angle: FloatArray) -> FloatArray:
    angle = float(np.linalg.norm(axis_angle))
    # sin(angle / 2) / angle, which is finite at zero.
    return np.concatenate([[np.cos(angle / 2)], axis_angle * (0.5 * np.sinc(angle / (2 * np.pi)))])


def _axis_angle_from_quat_wxyz(quat_wxyz: FloatArray) -> FloatArray:
    nearer = quat_wxyz if quat_wxyz[0] >= 0 else -quat_wxyz  # both are the same rotation; this one turns less than pi
    angle = 2.0 * np.arctan2(np.linalg.norm(nearer[1:]), nearer[0])
    axis_angle: FloatArray = nearer[1:] / (0.5 * np.sinc(angle / (2 * np.pi)))
    return axis_angle


def _quat_wxyz_product(a: FloatArray, b: FloatArray) -> FloatArray:
    vector = a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])
    return np.array([a[0] * b[0] - a[1:] @ b[1:], *vector])

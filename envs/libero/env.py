"""LIBERO as an `Env`: the OpenVLA protocol on the real simulator, reproducible episode by episode.

What it keeps of the reference loop, bit for bit: states, images, the 2 ms by which both lag the end of a control step,
the settle steps. What it changes: fixture poses are seeded from the episode, and nothing carries over from an earlier
one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np

from envs.libero import opengl
from envs.libero import package as libero_package
from envs.libero.control import ControlLoop
from envs.libero.images import rotate_180
from envs.libero.package import Upstream
from evals.errors import SimulatorError, UnknownNameError
from evals.rotations import quat_wxyz_to_xyzw
from evals.types import Camera, Episode, FloatArray, Image, Observation, Step, Suite, Task

# Our camera names -> MuJoCo's.
CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}


def make(suite: Suite, task: Task, cameras: tuple[str, ...]) -> LiberoEnv:
    """Build the env of one task (seconds; gigabytes with rendering).

    Args:
        suite: a suite of `envs.libero.tasks`.
        task: one of its tasks.
        cameras: names of the cameras to draw; none means that no OpenGL library is needed.

    Raises:
        SimulatorError: LIBERO is missing or cannot build the scene.
        RendererError: images are to be drawn and OpenGL does not work here.
        UnknownNameError: the suite has no camera of that name.
    """
    known = {camera.name: camera for camera in suite.protocol.cameras}
    for name in cameras:
        if name not in known:
            raise UnknownNameError("camera", name, known)
    return LiberoEnv(suite, task, tuple(known[name] for name in cameras))


class LiberoEnv:
    """One LIBERO task in one process.

    Two rendered scenes in a process corrupt each other's images, so a second one is refused until the first is closed.

    Attributes:
        simulator: LIBERO's `ControlEnv` (`.sim`, `.env`, ...). Privileged: for experts and gates, read only. Its
            observables are not updated; read `sim.data`.
    """

    _rendered: LiberoEnv | None = None

    def __init__(self, suite: Suite, task: Task, cameras: tuple[Camera, ...]) -> None:
        if cameras and LiberoEnv._rendered is not None:
            raise SimulatorError(
                "This process already holds a rendered LIBERO scene, and two would corrupt each other's images: "
                "close it first, or use another process."
            )
        self._suite = suite
        self._task = task
        self._cameras = cameras
        self.simulator: Upstream = libero_package.build(suite, task, renders=bool(cameras))
        if cameras:
            LiberoEnv._rendered = self
        self._states = libero_package.initial_states(suite, task)
        self._env = self.simulator.env
        # The reference resets by loading the scene again, and every load appends the samplers of drawer and knob
        # positions again; they draw from the generator that places the fixtures.
        self._env.object_property_initializers *= 2
        self._unplaced = _fixture_poses(self._env)
        self._hand = self._env.sim.model.body_name2id(self._env.robots[0].robot_model.eef_name)
        self._loop = ControlLoop(self._env, self._sample)
        self._episode: Episode | None = None
        self._steps = 0
        self._state = np.zeros(len(suite.state_space.names))
        self._images: Mapping[str, Image] = {}
        self._render_seconds = 0.0

    def reset(self, episode: Episode, render: bool) -> Step:
        """Begin an episode; see `evals.contract.Env.reset`.

        Initial states from 50 on are new placements, drawn by the task's own samplers.

        Raises:
            SimulatorError: the episode is of another task, or LIBERO finds no valid placement.
        """
        if (episode.suite, episode.task) != (self._suite.name, self._task.id):
            raise SimulatorError(
                f"This scene is {self._suite.name} task {self._task.id}, the episode is of {episode.suite} task "
                f"{episode.task}: build another env for it."
            )
        self._place(episode)
        self._episode = episode
        settle = self._suite.protocol.settle_steps
        action = np.array(self._suite.protocol.settle_action)
        for i in range(settle):
            self._advance(action, render and i == settle - 1)
        self._steps = 0
        return self._result(render)

    def step(self, action: FloatArray, render: bool) -> Step:
        """Run one control step; see `evals.contract.Env.step`."""
        self._advance(action, render)
        self._steps += 1
        return self._result(render)

    def static_state(self) -> FloatArray:
        """Return position and quaternion (w, x, y, z) of every body in its parent (fixtures too), `[7 nbody]`."""
        model = self._env.sim.model._model
        return np.concatenate([model.body_pos.ravel(), model.body_quat.ravel()])

    def objects(self) -> Mapping[str, FloatArray]:
        """Return the world position `[3]` in metres of every object and fixture, and of the gripper's grip site."""
        data = self._env.sim.data._data
        positions = {name: data.xpos[body].copy() for name, body in self._env.obj_body_id.items()}
        return positions | {"gripper": data.site_xpos[self._env.robots[0].eef_site_id].copy()}

    def renderer(self) -> str:
        """Return what draws the images: the OpenGL driver's own words, or "none"."""
        return opengl.renderer_string() if self._cameras else "none"

    def close(self) -> None:
        """Free the scene and its OpenGL context."""
        self.simulator.close()
        if LiberoEnv._rendered is self:
            LiberoEnv._rendered = None

    def _place(self, episode: Episode) -> None:
        """Put every part of the scene into the state that a new process would reach for this episode."""
        sim = self._env.sim
        # LIBERO draws from the global generator. What was drawn from it before, by anyone, does not matter.
        np.random.seed(episode.rng_seed("scene"))  # noqa: NPY002
        for body, (position, quat_wxyz) in self._unplaced.items():
            sim.model.body_pos[body] = position
            sim.model.body_quat[body] = quat_wxyz
        gripper = self._env.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)
        libero_package.reset(self.simulator)
        if episode.initial_state < len(self._states):
            sim.set_state_from_flattened(self._states[episode.initial_state])
        sim.forward()
        self.simulator.check_success()
        self._env._post_process()
        self._loop.begin()

    def _advance(self, action: FloatArray, render: bool) -> None:
        self._render_seconds = 0.0
        self._loop.step(np.asarray(action, np.float64), render)
        # Switches the stove's glow, which the next control step's image shows.
        self._env._post_process()

    def _sample(self) -> None:
        """Read state and images at the instant at which the reference does."""
        data = self._env.sim.data._data
        robot = self._env.robots[0]
        quat_wxyz = data.xquat[self._hand]
        self._state = np.concatenate(
            [
                data.site_xpos[robot.eef_site_id],
                quat_xyzw_to_axis_angle_as_robosuite(quat_wxyz_to_xyzw(quat_wxyz)),
                data.qpos[robot._ref_gripper_joint_pos_indexes],
            ]
        )
        started = time.perf_counter()
        self._images = {camera.name: self._draw(camera) for camera in self._cameras}
        self._render_seconds = time.perf_counter() - started

    def _draw(self, camera: Camera) -> Image:
        image = self._env.sim.render(camera_name=CAMERAS[camera.name], height=camera.height, width=camera.width)
        return rotate_180(image)

    def _result(self, render: bool) -> Step:
        observation = None
        if render and self._episode is not None:
            observation = Observation(self._episode, self._steps, self._task.instruction, self._images, self._state)
        return Step(
            success=bool(self.simulator.check_success()),
            observation=observation,
            sim_state=self._loop.state(),
            render_seconds=self._render_seconds,
        )


def _fixture_poses(env: Upstream) -> dict[int, tuple[FloatArray, FloatArray]]:
    """Return body id -> (position, quaternion wxyz) of fixtures before LIBERO places them, as the scene file has them.

    Objects that stand in a fixture are placed relative to it before the fixture itself is.
    """
    poses = {}
    for fixture in env.fixtures_dict.values():
        element = fixture.get_obj()
        position = np.array(element.get("pos", "0 0 0").split(), np.float64)
        quat_wxyz = np.array(element.get("quat", "1 0 0 0").split(), np.float64)
        poses[env.sim.model.body_name2id(fixture.root_body)] = position, quat_wxyz
    return poses


def quat_xyzw_to_axis_angle_as_robosuite(quat_xyzw: FloatArray) -> FloatArray:
    """Return axis times angle `[3]` of a unit quaternion `[4]`, by robosuite 1.4's `quat2axisangle`, bit for bit.

    The angle is in [0, 2 pi]: a quaternion with w < 0 is not flipped to the shorter way round, so q and -q give
    different answers. Policies trained on LIBERO have seen these numbers; a formula that flips costs tens of points.
    """
    w = min(max(float(quat_xyzw[3]), -1.0), 1.0)
    sine = np.sqrt(1.0 - w * w)
    if sine == 0.0:
        return np.zeros(3)
    axis_angle: FloatArray = (quat_xyzw[:3] * 2.0 * math.acos(w)) / sine
    return axis_angle

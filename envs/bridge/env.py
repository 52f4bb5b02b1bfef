"""SimplerEnv's four WidowX tasks behind the `Env` contract, on CPU or GPU, without Docker.

SAPIEN is used directly (docs/decisions/0007): stock ManiSkill3 departs from the original protocol in many places.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from envs.bridge.assets import Pack, find_pack
from envs.bridge.tasks import CAMERA, bridge_task, start_of
from envs.bridge.vulkan import start_renderer
from evals.errors import ContractError, SimulatorError, UnknownNameError
from evals.spaces import ActionSpace
from evals.types import Episode, FloatArray, Observation, Step, Suite, Task

if TYPE_CHECKING:
    from envs.bridge.camera import PhotoCamera
    from envs.bridge.progress import Progress
    from envs.bridge.scene import BridgeScene


def make(suite: Suite, task: Task, cameras: tuple[str, ...]) -> BridgeEnv:
    """Build the env of one task.

    Args:
        suite: the suite `simpler_bridge`.
        task: one of its tasks.
        cameras: cameras to draw; without any, no renderer and no Vulkan driver is needed.

    Raises:
        MissingAssetsError: the asset pack is not on this machine, or is not it.
        UnknownNameError: there is no such task or camera.
        RendererError: nothing can draw.
    """
    return BridgeEnv(task, cameras, find_pack(), suite)


class BridgeEnv:
    """One Bridge task. Every reset builds a new scene, since a PhysX scene's past changes how objects settle."""

    def __init__(self, task: Task, cameras: tuple[str, ...], pack: Pack, suite: Suite) -> None:
        for camera in cameras:
            if camera != CAMERA.name:
                raise UnknownNameError(f"camera of suite {suite.name!r}", camera, [CAMERA.name])
        self._task = task
        self._bridge = bridge_task(task.name)
        self._cameras = cameras
        self._pack = pack
        self._renderer = start_renderer().name if cameras else "nothing is drawn"
        self._scene: BridgeScene | None = None
        self._progress: Progress | None = None
        self._photo_camera: PhotoCamera | None = None
        self._steps = 0

    @property
    def scene_now(self) -> BridgeScene:
        """The simulator of the running episode, for privileged policies.

        Raises:
            ContractError: `reset` was not called.
        """
        if self._scene is None:
            raise ContractError("simpler_bridge: reset the env before it is stepped or looked at.")
        return self._scene

    def reset(self, episode: Episode, render: bool) -> Step:
        """Build the scene anew, drop the objects where the episode says, and put the robot in its place."""
        from envs.bridge.progress import Progress
        from envs.bridge.scene import BridgeScene

        if episode.task != self._task.id:
            raise ContractError(f"This env was built for task {self._task.id}, not for task {episode.task}.")
        start = start_of(self._bridge, episode)
        self._episode = episode
        self._steps = 0
        self._photo_camera = self._scene = self._progress = None
        try:
            self._scene = BridgeScene(self._bridge, self._pack.root, renders=bool(self._cameras))
        except RuntimeError as error:
            raise SimulatorError(f"SAPIEN could not build the scene of {self._task.name!r}: {error}.") from error
        self._scene.place(start)
        self._progress = Progress(self._scene)
        if self._cameras:
            from envs.bridge.camera import PhotoCamera

            self._photo_camera = PhotoCamera(self._scene, self._pack.root)
        return self._result(render)

    def step(self, action: FloatArray, render: bool) -> Step:
        """Run one control step: 100 physics steps."""
        if np.shape(action) != (ActionSpace.dim,):
            raise ContractError(
                f"simpler_bridge got an action of shape {np.shape(action)}, expected ({ActionSpace.dim},)."
            )
        self.scene_now.step(action)
        self._steps += 1
        step = self._result(render)
        return replace(step, partial=self._progress.count(step.success)) if self._progress else step

    def static_state(self) -> FloatArray:
        """Return `[13]`: the robot base's pose (position, quaternion wxyz) and the boxes of the success rule."""
        base = self.scene_now.robot.articulation.pose
        return np.array([*base.p, *base.q, *self.scene_now.extents()], dtype=np.float64)

    def objects(self) -> Mapping[str, FloatArray]:
        """Return the positions of source, target and sink."""
        return {name: body.entity.pose.p.astype(np.float64) for name, body in self.scene_now.objects.items()}

    def renderer(self) -> str:
        """Return what draws, and which asset pack is drawn and simulated."""
        return f"{self._renderer}; assets {self._pack.describe()}"

    def close(self) -> None:
        """Free the scene."""
        self._photo_camera = self._scene = self._progress = None

    def _result(self, render: bool) -> Step:
        scene = self.scene_now
        start = time.perf_counter()
        images = (
            {camera: self._photo_camera.draw() for camera in self._cameras} if render and self._photo_camera else {}
        )
        seconds = time.perf_counter() - start if images else 0.0
        observation = None
        if render:
            observation = Observation(self._episode, self._steps, self._task.instruction, images, scene.robot.state())
        return Step(scene.success(), observation, scene.sim_state(), seconds)

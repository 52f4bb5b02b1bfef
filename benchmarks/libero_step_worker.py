"""One process of `libero_step.py`: holds one scene, and measures a batch of steps each time it is asked for one.

Requests and answers are lines of JSON on standard input and output; times are milliseconds, of CPU and of wall time.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from envs.libero import opengl
from envs.libero import package as libero_package
from envs.libero import tasks as libero_tasks
from envs.libero.env import make
from evals.types import Episode, FloatArray, Suite, Task

IDLE = [0, 0, 0, 0, 0, 0, -1]
PHYSICS = ("mj_step", "mj_step1", "mj_step2", "mj_forward", "mj_forwardSkip", "mj_jacSite", "mj_fullM")
UPSTREAM_CAMERAS = ("agentview", "robot0_eye_in_hand")


class Reference:
    """OpenVLA's loop: plain calls of the upstream package, two cameras drawn in every step."""

    def __init__(self, suite: Suite, task: Task) -> None:
        from libero.libero.envs import OffScreenRenderEnv

        bddl = libero_package.file("bddl_files", suite, f"{task.name}.bddl")
        with contextlib.redirect_stdout(io.StringIO()):
            self._env = OffScreenRenderEnv(bddl_file_name=str(bddl), camera_heights=256, camera_widths=256)
        self._states = libero_package.initial_states(suite, task)

    def reset(self, initial_state: int) -> None:
        """Load the scene again, set the stored state and settle."""
        self._env.seed(0)
        self._env.reset()
        self._env.set_init_state(self._states[initial_state])
        for _ in range(10):
            self._env.step(IDLE)

    def step(self, action: FloatArray, render: bool) -> None:
        """Run one control step; the reference always looks."""
        self._env.step(action)


class Ours:
    """This project's env."""

    def __init__(self, suite: Suite, task: Task, cameras: tuple[str, ...]) -> None:
        self._episode = Episode(suite.name, task.id, 0, 0, suite.protocol.hash)
        self.env = make(suite, task, cameras)

    def reset(self, initial_state: int) -> None:
        """Reset to an initial state and settle, looking at the end."""
        self.env.reset(Episode(self._episode.suite, self._episode.task, initial_state, 0, ""), render=True)

    def step(self, action: FloatArray, render: bool) -> None:
        """Run one control step."""
        self.env.step(action, render)


class Meter:
    """Adds up the CPU milliseconds that MuJoCo's physics functions and rendering take, while it is on."""

    def __init__(self) -> None:
        import mujoco
        from robosuite.utils.binding_utils import MjSim

        self.on = False
        self.spent = {"physics": 0.0, "render": 0.0}
        for name in PHYSICS:
            setattr(mujoco, name, self._metered(getattr(mujoco, name), "physics"))
        MjSim.render = self._metered(MjSim.render, "render")

    def _metered(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(*arguments: object, **options: object) -> object:
            if not self.on:
                return function(*arguments, **options)
            started = time.process_time()
            result = function(*arguments, **options)
            self.spent[kind] += 1000 * (time.process_time() - started)
            return result

        return call


def timed(function: Callable[[], object]) -> FloatArray:
    """Call a function and return its milliseconds of CPU and of wall time, `[2]`."""
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    return 1000 * np.array([time.process_time() - cpu, time.perf_counter() - wall])


def play(loop: Reference | Ours, meter: Meter, request: dict[str, int]) -> dict[str, Any]:
    """Run one episode and return the milliseconds of its reset and, on average, of its steps and their parts."""
    reset = timed(lambda: loop.reset(request["state"]))
    actions = np.random.default_rng(request["state"]).uniform(-1, 1, (request["steps"], 7))
    meter.spent = dict.fromkeys(meter.spent, 0.0)
    meter.on = bool(request["apart"])
    total = np.zeros(2)
    for i, action in enumerate(actions):
        render = (i + 1) % request["every"] == 0
        total += timed(lambda action=action, render=render: loop.step(action, render))
    meter.on = False
    parts = {kind: spent / len(actions) for kind, spent in meter.spent.items()}
    return {"reset": reset.tolist(), "step": (total / len(actions)).tolist(), **parts}


def raw(suite: Suite, task: Task) -> Callable[[dict[str, int]], dict[str, Any]]:
    """Return a function that measures 25 `mj_step`, and drawing each camera, of the same model by MuJoCo alone."""
    import mujoco

    loop = Ours(suite, task, ())
    loop.reset(0)
    model, data = loop.env.simulator.sim.model._model, loop.env.simulator.sim.data._data
    renderer = mujoco.Renderer(model, 256, 256)
    visible = mujoco.MjvOption()
    visible.geomgroup[0] = 0  # collision shapes, which LIBERO does not draw either

    def draw(camera: str) -> None:
        renderer.update_scene(data, camera, visible)
        renderer.render()

    def answer(request: dict[str, int]) -> dict[str, Any]:
        loop.reset(request["state"])
        loop.step(np.zeros(7), render=False)
        physics = timed(lambda: [mujoco.mj_step(model, data) for _ in range(25 * request["steps"])]) / request["steps"]
        drawn = {camera: timed(lambda camera=camera: draw(camera)).tolist() for camera in UPSTREAM_CAMERAS}
        return {"physics": physics.tolist(), **drawn, "renderer": opengl.renderer_string()}

    draw(UPSTREAM_CAMERAS[0])
    return answer


def main() -> None:
    """Build the scene, say what that cost, and answer requests until standard input ends."""
    kind, suite_name, task_id, *cameras = sys.argv[1:]
    libero_package.load(renders=True)
    suite = getattr(libero_tasks, suite_name)()
    task = suite.tasks[int(task_id)]
    started = time.process_time()
    if kind == "raw":
        answer = raw(suite, task)
    else:
        loop = Reference(suite, task) if kind == "reference" else Ours(suite, task, tuple(cameras))
        built = 1000 * (time.process_time() - started)
        meter = Meter()
        loop.reset(0)  # compiles robosuite's numba functions and fills caches
        loop.step(np.zeros(7), render=True)

        def answer(request: dict[str, int]) -> dict[str, Any]:
            return {"build": built, **play(loop, meter, request)}

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

"""A small suite: a puck on a line has to come to rest on a mark."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evals.spaces import ActionSpace, StateSpace
from evals.types import Camera, Episode, FloatArray, Observation, Protocol, Step, Suite, Task

ACTION_SPACE = ActionSpace(rotation="none", frame="world", metres_per_unit=0.05)
STATE_SPACE = StateSpace(names=("x",), rotation="none", source="the puck itself")
MARKS = (-0.3, 0.3)


def suite() -> Suite:
    """Return the suite `example_slide`."""
    return Suite(
        name="example_slide",
        tasks=tuple(Task(i, f"slide_{i}", f"slide to {mark} m", 20) for i, mark in enumerate(MARKS)),
        protocol=Protocol(
            source="none: an example",
            simulator="vla_eval_example 0.1.0",
            settle_steps=0,
            settle_action=tuple(ACTION_SPACE.idle().tolist()),
            success="first",
            initial_states=4,
            cameras=(Camera("top", 8, 32),),
            image_transform="none",
            max_steps=(20,) * len(MARKS),
        ),
        action_space=ACTION_SPACE,
        state_space=STATE_SPACE,
        env="vla_eval_example.slide:SlideEnv",
    )


class SlideEnv:
    """A puck that moves as it is told."""

    def __init__(self, suite: Suite, task: Task, cameras: tuple[str, ...]) -> None:
        self._task = task
        self._cameras = cameras

    def reset(self, episode: Episode, render: bool) -> Step:
        """Put the puck near the middle."""
        self.episode = episode
        self._steps = 0
        self.x = float(np.random.default_rng([episode.task, episode.initial_state]).uniform(-0.1, 0.1))
        return self._result(render)

    def step(self, action: FloatArray, render: bool) -> Step:
        """Move the puck."""
        self._steps += 1
        self.x += ACTION_SPACE.metres_per_unit * float(np.clip(action[0], -1.0, 1.0))
        return self._result(render)

    def static_state(self) -> FloatArray:
        """Return nothing: the simulator's state holds everything."""
        return np.empty(0)

    def objects(self) -> Mapping[str, FloatArray]:
        """Return the puck's position."""
        return {"puck": np.array([self.x, 0.0, 0.0])}

    def renderer(self) -> str:
        """Return what draws."""
        return "NumPy"

    def close(self) -> None:
        """Free nothing."""

    def _result(self, render: bool) -> Step:
        reached = abs(self.x - MARKS[self._task.id]) < 0.02
        return Step(reached, self._observation() if render else None, np.array([self.x]))

    def _observation(self) -> Observation:
        image = np.zeros((8, 32, 3), dtype=np.uint8)
        image[:, int(np.clip((self.x + 0.5) * 32, 0, 31))] = 255
        images = dict.fromkeys(self._cameras, image)
        return Observation(self.episode, self._steps, self._task.instruction, images, np.array([self.x]))

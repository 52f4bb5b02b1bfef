"""A suite of one file: a puck on a line has to come to rest on a mark.

python examples/own_suite.py
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import evals
from evals.conformance import check_suite

SPACE = evals.ActionSpace(rotation="none", frame="world", metres_per_unit=0.05)
STATE = evals.StateSpace(names=("x",), rotation="none", source="the puck itself")
MARKS = (-0.3, 0.3)  # metres, one a task
STEPS = 20


def suite() -> evals.Suite:
    """Return the suite as data; its simulator is built in a worker, from `env`."""
    return evals.Suite(
        name="slide",
        tasks=tuple(evals.Task(i, f"slide_{i}", f"slide to {mark} m", STEPS) for i, mark in enumerate(MARKS)),
        protocol=evals.Protocol(
            source="none: an example",
            simulator="examples/own_suite.py 1",
            settle_steps=0,
            settle_action=tuple(SPACE.idle().tolist()),
            success="first",
            initial_states=4,
            cameras=(evals.Camera("top", height=8, width=32),),
            image_transform="none",
            max_steps=(STEPS,) * len(MARKS),
        ),
        action_space=SPACE,
        state_space=STATE,
        env=f"{__name__}:SlideEnv",
    )


class SlideEnv:
    """A puck that moves as it is told."""

    def __init__(self, suite: evals.Suite, task: evals.Task, cameras: tuple[str, ...]) -> None:
        self._task, self._cameras = task, cameras

    def reset(self, episode: evals.Episode, render: bool) -> evals.Step:
        """Put the puck near the middle; everything random comes from the episode's identity."""
        self._episode, self._steps = episode, 0
        self._x = float(episode.rng("start").uniform(-0.1, 0.1))
        return self._result(render)

    def step(self, action: np.ndarray, render: bool) -> evals.Step:
        """Move the puck by up to 5 cm."""
        self._steps += 1
        self._x += SPACE.metres_per_unit * float(np.clip(action[0], SPACE.low, SPACE.high))
        return self._result(render)

    def static_state(self) -> np.ndarray:
        """Return nothing: the simulator's state holds everything."""
        return np.empty(0)

    def objects(self) -> Mapping[str, np.ndarray]:
        """Return the puck's position, metres."""
        return {"puck": np.array([self._x, 0.0, 0.0])}

    def renderer(self) -> str:
        """Return what draws."""
        return "NumPy"

    def close(self) -> None:
        """Free nothing."""

    def _result(self, render: bool) -> evals.Step:
        on_mark = abs(self._x - MARKS[self._task.id]) < 0.02
        return evals.Step(on_mark, self._observation() if render else None, np.array([self._x]))

    def _observation(self) -> evals.Observation:
        image = np.zeros((8, 32, 3), dtype=np.uint8)
        image[:, int(np.clip((self._x + 0.5) * 32, 0, 31))] = 255
        images = dict.fromkeys(self._cameras, image)
        return evals.Observation(self._episode, self._steps, self._task.instruction, images, np.array([self._x]))


def slide(observation: evals.Observation) -> np.ndarray:
    """Return `[7]`: straight to the mark that the instruction names."""
    action = SPACE.idle()
    way = float(observation.instruction.split()[2]) - observation.state[0]
    action[0] = np.clip(way / SPACE.metres_per_unit, -1, 1)
    return action


if __name__ == "__main__":
    check_suite(suite())
    print("keeps the contract")
    policy = evals.policy(slide, action_space=SPACE, state_space=STATE)
    summary = evals.evaluate(policy, suite(), out="results/runs/own_suite")
    print(f"{summary.total('successes'):.0f} of {summary.total('planned'):.0f} episodes succeed")

"""A policy in thirty lines: read the mark from the instruction and the puck from the state, and go there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evals.spaces import StateSpace
from evals.types import ActionChunk, Episode, Observation, Suite
from vla_eval_example.slide import ACTION_SPACE, STATE_SPACE


class Chase:
    """Moves towards the mark, two steps a chunk."""

    name = "example_chase"
    action_space = ACTION_SPACE
    state_space: StateSpace | None = STATE_SPACE
    cameras: tuple[str, ...] = ("top",)
    replan_every = 2

    def __init__(self, speed: float) -> None:
        self._speed = speed

    def begin(self, episode: Episode) -> None:
        """Keep nothing."""

    def end(self, episode: Episode) -> None:
        """Keep nothing."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer each observation on its own."""
        return [self._answer(observation) for observation in observations]

    def _answer(self, observation: Observation) -> ActionChunk:
        mark = float(observation.instruction.split()[2])
        way = (mark - observation.state[0]) / self.replan_every
        action = ACTION_SPACE.idle()
        action[0] = np.clip(way / ACTION_SPACE.metres_per_unit, -self._speed, self._speed)
        return ActionChunk(np.tile(action, (self.replan_every, 1)))


def policy(suite: Suite, speed: float = 1.0) -> Chase:
    """Return the policy `example_chase`; `--policy-args speed=0.5` makes it slower."""
    return Chase(speed)

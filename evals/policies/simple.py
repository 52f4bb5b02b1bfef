"""Policies that know nothing: the floor under every score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evals.types import ActionChunk, ActionSpace, Episode, Observation, StateSpace, Suite


class _Blind:
    """A policy that looks at no camera and reads no state."""

    name = ""
    state_space: StateSpace | None = None
    cameras: tuple[str, ...] = ()
    replan_every = 1

    def __init__(self, suite: Suite) -> None:
        self.action_space: ActionSpace = suite.action_space

    def begin(self, episode: Episode) -> None:
        """Keep nothing."""

    def end(self, episode: Episode) -> None:
        """Keep nothing."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer each observation on its own."""
        return [self._answer(observation) for observation in observations]

    def _answer(self, observation: Observation) -> ActionChunk:
        raise NotImplementedError


class Noop(_Blind):
    """Moves nothing and keeps the gripper open. A suite where it succeeds gives points away."""

    name = "noop"

    def _answer(self, observation: Observation) -> ActionChunk:
        return ActionChunk(self.action_space.idle()[None], motion="stop")


class Random(_Blind):
    """Uniform actions over the suite's range, a new gripper command each step; seeded by episode and step."""

    name = "random"

    def _answer(self, observation: Observation) -> ActionChunk:
        space = self.action_space
        rng = observation.episode.rng(f"random policy, step {observation.step}")
        action = np.append(
            rng.uniform(space.low, space.high, space.dim - 1),
            rng.choice([space.gripper_open, space.gripper_closed]),
        )
        return ActionChunk(action[None])


def noop(suite: Suite) -> Noop:
    """Return the policy that does nothing."""
    return Noop(suite)


def random(suite: Suite) -> Random:
    """Return the policy that does anything."""
    return Random(suite)

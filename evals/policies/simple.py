"""Policies without any knowledge; every other policy should score better."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from evals.contract import one_at_a_time
from evals.spaces import StateSpace
from evals.types import ActionChunk, Episode, Observation, Suite


class Blind:
    """A policy that uses no camera and no state, and answers by a fixed rule."""

    state_space: StateSpace | None = None
    cameras: tuple[str, ...] = ()
    replan_every = 1

    def __init__(self, name: str, suite: Suite, rule: Callable[[Observation], ActionChunk]) -> None:
        self.name = name
        self.action_space = suite.action_space
        self._act = one_at_a_time(rule)

    def begin(self, episode: Episode) -> None:
        """Keep nothing."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Return the chunk of the rule for each observation."""
        return self._act(observations)

    def end(self, episode: Episode) -> None:
        """Keep nothing."""


def noop(suite: Suite) -> Blind:
    """Return the policy that does not move; a suite in which it succeeds has a wrong success rule."""
    chunk = ActionChunk(suite.action_space.idle()[None], motion="stop")
    return Blind("noop", suite, lambda observation: chunk)


def random(suite: Suite) -> Blind:
    """Return the policy of uniformly random actions in the suite's range, seeded by episode and step."""
    space = suite.action_space

    def rule(observation: Observation) -> ActionChunk:
        rng = observation.episode.rng(f"random policy, step {observation.step}")
        motion = rng.uniform(space.low, space.high, space.dim - 1)
        return ActionChunk(np.append(motion, rng.choice([space.gripper_open, space.gripper_closed]))[None])

    return Blind("random", suite, rule)

"""The policy plugin `demonstrator`: a suite's expert, widened so that a learner sees more than one way and comes back.

Each episode has its own speed; and now and then the arm is pushed off its path for a few steps, from which the expert
recovers (after DART, Laskey et al. 2017, which perturbs the demonstrator so that the data covers recoveries). A pushed
step carries no intent: it is not to be imitated, and readers of demonstrations leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.contract import Env, PrivilegedPolicy
from evals.errors import UsageError
from evals.policies.expert import expert
from evals.spaces import StateSpace
from evals.types import ActionChunk, Episode, FloatArray, Observation, Suite

PUSH_STEPS = (3, 8)  # shortest and longest push, in control steps
PUSH_METRES = 0.02  # a step, at most, along each axis


@dataclass(frozen=True)
class Perturbation:
    """How far demonstrations stray from the expert's one way.

    Attributes:
        noise: standard deviation in metres of the noise on its path.
        slowest: smallest factor on its speed; an episode's factor is uniform.
        fastest: largest factor on its speed.
        push_fraction: expected part of the steps in which it is pushed.
        consistent_grasp: whether it takes the same of several sound grasps in nearly all scenes of a task.
    """

    noise: float
    slowest: float
    fastest: float
    push_fraction: float
    consistent_grasp: bool

    def __post_init__(self) -> None:
        """Reject what no demonstration can have."""
        if not 0 < self.slowest <= self.fastest:
            raise UsageError(f"Speeds from {self.slowest} to {self.fastest}: 0 < slowest <= fastest is expected.")
        if not 0 <= self.push_fraction < 1:
            raise UsageError(f"The pushed part is {self.push_fraction}; at least 0 and less than 1 is expected.")


class Demonstrator:
    """An expert built anew for each episode, with a speed of its own, and pushed now and then."""

    name = "demonstrator"
    state_space: StateSpace | None = None
    cameras: tuple[str, ...] = ()
    replan_every = 1

    def __init__(self, suite: Suite, perturbation: Perturbation) -> None:
        self.action_space = suite.action_space
        self._suite = suite
        self._widening = perturbation

    def attach(self, env: Env) -> None:
        """Keep the env for the expert of the next episode."""
        self._env = env

    def begin(self, episode: Episode) -> None:
        """Draw the episode's speed and build its expert."""
        wide = self._widening
        self._rng = episode.rng("demonstrator")
        speed = round(float(self._rng.uniform(wide.slowest, wide.fastest)), 3)
        built = expert(self._suite, noise=wide.noise, speed=speed, consistent_grasp=wide.consistent_grasp)
        assert isinstance(built, PrivilegedPolicy)
        self._expert = built
        self._expert.attach(self._env)
        self._expert.begin(episode)
        self._pushed_steps = 0

    def end(self, episode: Episode) -> None:
        """Let the expert go."""
        self._expert.end(episode)

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer as the expert does, or with a push and no intent."""
        return [self._answer(observation) for observation in observations]

    def _answer(self, observation: Observation) -> ActionChunk:
        [chunk] = self._expert.act([observation])
        if not chunk.motion:
            raise UsageError(
                f"The expert of {self._suite.name} says no intent; demonstrations need ActionChunk.motion."
            )
        if not self._pushed_steps and self._rng.random() < self._widening.push_fraction / np.mean(PUSH_STEPS):
            self._pushed_steps = int(self._rng.integers(*PUSH_STEPS, endpoint=True))
            self._push = self._rng.uniform(-PUSH_METRES, PUSH_METRES, 3) / self.action_space.metres_per_unit
        if not self._pushed_steps:
            return ActionChunk(chunk.actions[:1], chunk.motion)
        self._pushed_steps -= 1
        pushed: FloatArray = chunk.actions[:1].copy()
        pushed[0, :3] = np.clip(pushed[0, :3] + self._push, self.action_space.low, self.action_space.high)
        return ActionChunk(pushed, "")


def demonstrator(
    suite: Suite,
    *,
    noise: float = 0.0,
    slowest: float = 1.0,
    fastest: float = 1.0,
    push_fraction: float = 0.0,
    consistent_grasp: bool = False,
) -> Demonstrator:
    """Build a suite's expert for demonstrations; the options are those of `Perturbation`."""
    return Demonstrator(suite, Perturbation(noise, slowest, fastest, push_fraction, consistent_grasp))

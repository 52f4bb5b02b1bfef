"""The policy plugin `demonstrator`: a suite's expert with perturbations, so that its demonstrations vary.

Each episode has its own speed. At random times the arm is pushed off its path for a few steps, and the expert recovers
(after DART, Laskey et al. 2017, which perturbs the demonstrator so that the data covers recoveries). A pushed step has
no motion sentence: it must not be imitated, and readers of demonstrations leave it out.
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
PUSH_METRES = 0.02  # largest displacement by a push, per step and axis


@dataclass(frozen=True)
class Perturbation:
    """How much demonstrations differ from the unperturbed expert.

    Attributes:
        noise: standard deviation, in metres, of the noise that is added to the expert's movements.
        slowest: smallest factor on the expert's speed; the factor of an episode is drawn uniformly.
        fastest: largest factor on the expert's speed.
        push_fraction: expected fraction of the steps in which the arm is pushed.
        consistent_grasp: whether the expert grasps an object in the same way in nearly all scenes of a task.
    """

    noise: float
    slowest: float
    fastest: float
    push_fraction: float
    consistent_grasp: bool

    def __post_init__(self) -> None:
        """Reject speeds that are not positive or out of order, and fractions outside of [0, 1)."""
        if not 0 < self.slowest <= self.fastest:
            raise UsageError(f"Speeds from {self.slowest} to {self.fastest}: 0 < slowest <= fastest is expected.")
        if not 0 <= self.push_fraction < 1:
            raise UsageError(f"push_fraction is {self.push_fraction}; at least 0 and less than 1 is expected.")


class Demonstrator:
    """Builds the expert anew for each episode, with the episode's own speed, and pushes the arm at random times."""

    name = "demonstrator"
    state_space: StateSpace | None = None
    cameras: tuple[str, ...] = ()
    replan_every = 1

    def __init__(self, suite: Suite, perturbation: Perturbation) -> None:
        self.action_space = suite.action_space
        self._suite = suite
        self._perturbation = perturbation

    def attach(self, env: Env) -> None:
        """Keep the env for the expert of the next episode."""
        self._env = env

    def begin(self, episode: Episode) -> None:
        """Draw the episode's speed and build its expert."""
        how = self._perturbation
        self._rng = episode.rng("demonstrator")
        speed = round(float(self._rng.uniform(how.slowest, how.fastest)), 3)
        built = expert(self._suite, noise=how.noise, speed=speed, consistent_grasp=how.consistent_grasp)
        assert isinstance(built, PrivilegedPolicy)
        self._expert = built
        self._expert.attach(self._env)
        self._expert.begin(episode)
        self._pushed_steps = 0

    def end(self, episode: Episode) -> None:
        """End the episode of the expert."""
        self._expert.end(episode)

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Return the expert's first action with its motion sentence, or a pushed action without one."""
        return [self._answer(observation) for observation in observations]

    def _answer(self, observation: Observation) -> ActionChunk:
        [chunk] = self._expert.act([observation])
        if not chunk.motion:
            raise UsageError(
                f"The expert of {self._suite.name} gives no ActionChunk.motion, which demonstrations need."
            )
        if not self._pushed_steps and self._rng.random() < self._perturbation.push_fraction / np.mean(PUSH_STEPS):
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

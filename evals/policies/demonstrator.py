"""The policy plugin `demonstrator`: a suite's expert with perturbations, so that its demonstrations vary.

Each episode has its own speed. At random times the arm is pushed off its path for a few steps, and the expert recovers
(after DART, Laskey et al. 2017, which perturbs the demonstrator so that the data covers recoveries). A pushed step has
no motion sentence: it must not be imitated, and readers of demonstrations leave it out.

A takeover shows what to do where a learnt policy goes by itself: that policy acts for a while, its steps have no motion
sentence either, and the expert finishes (DAgger's idea, Ross et al. 2011, with one change of hands an episode).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.config import key_values
from evals.contract import Env, Policy, PrivilegedPolicy
from evals.errors import SpaceMismatchError, UsageError
from evals.gates import space_differences
from evals.policies.expert import expert
from evals.registry import load_policy
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
        takeover_steps: largest number of steps that a policy acts for before the expert takes over.
    """

    noise: float
    slowest: float
    fastest: float
    push_fraction: float
    consistent_grasp: bool
    takeover_steps: int = 0

    def __post_init__(self) -> None:
        """Reject speeds that are not positive or out of order, fractions outside of [0, 1), and negative steps."""
        if self.takeover_steps < 0:
            raise UsageError(f"takeover_steps is {self.takeover_steps}; at least 0 is expected.")
        if not 0 < self.slowest <= self.fastest:
            raise UsageError(f"Speeds from {self.slowest} to {self.fastest}: 0 < slowest <= fastest is expected.")
        if not 0 <= self.push_fraction < 1:
            raise UsageError(f"push_fraction is {self.push_fraction}; at least 0 and less than 1 is expected.")


class Takeover:
    """A policy that acts at the beginning of each episode, for a number of steps that the episode draws.

    Args:
        policy: the policy; actions of its chunks are run as its own evaluation runs them.
        longest: largest number of steps.
    """

    def __init__(self, policy: Policy, longest: int) -> None:
        self.policy = policy
        self._longest = longest

    def begin(self, episode: Episode, env: Env) -> None:
        """Draw the number of steps and begin the policy's episode."""
        self._left = int(episode.rng("takeover").integers(1, self._longest, endpoint=True))
        self._pending: list[FloatArray] = []
        if isinstance(self.policy, PrivilegedPolicy):
            self.policy.attach(env)
        self.policy.begin(episode)

    def act(self, observation: Observation) -> ActionChunk | None:
        """Return the policy's next action, without a motion sentence, or None when the expert's turn has come."""
        if not self._left:
            return None
        if not self._pending:
            [chunk] = self.policy.act([observation])
            self._pending = list(chunk.actions[: self.policy.replan_every])
        self._left -= 1
        return ActionChunk(np.asarray(self._pending.pop(0), float)[None], "")


class Demonstrator:
    """Builds the expert anew for each episode, with the episode's own speed, and pushes the arm at random times.

    With a takeover, a policy acts first, and the expert goes on from wherever that has led.
    """

    name = "demonstrator"
    state_space: StateSpace | None = None
    replan_every = 1

    def __init__(self, suite: Suite, perturbation: Perturbation, takeover: Takeover | None = None) -> None:
        self.action_space = suite.action_space
        self.cameras = takeover.policy.cameras if takeover else ()
        self.checkpoint = getattr(takeover.policy, "checkpoint", None) if takeover else None
        self._takeover = takeover
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
        if self._takeover:
            self._takeover.begin(episode, self._env)

    def end(self, episode: Episode) -> None:
        """End the episode of the expert, and of the policy before it."""
        self._expert.end(episode)
        if self._takeover:
            self._takeover.policy.end(episode)

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Return the expert's first action with its motion sentence, or a pushed action without one."""
        return [self._answer(observation) for observation in observations]

    def _answer(self, observation: Observation) -> ActionChunk:
        if self._takeover and (taken := self._takeover.act(observation)):
            return taken
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
    takeover: str = "",
    takeover_steps: int = 0,
) -> Demonstrator:
    """Build a suite's expert for demonstrations; the options are those of `Perturbation`.

    `takeover` names the policy that acts first, as POLICY or POLICY:option=value,option=value; "" is none.

    Raises:
        UsageError: one of `takeover` and `takeover_steps` is given without the other, or there is no such policy.
        SpaceMismatchError: that policy does not fit the suite.
    """
    how = Perturbation(noise, slowest, fastest, push_fraction, consistent_grasp, takeover_steps)
    if bool(takeover) != bool(takeover_steps):
        raise UsageError("A takeover needs --takeover, the policy, and --takeover-steps, how long it acts at most.")
    if not takeover:
        return Demonstrator(suite, how)
    name, _, options = takeover.partition(":")
    policy = load_policy(name, suite, key_values("--takeover", tuple(filter(None, options.split(",")))))
    if unlike := space_differences(suite, policy):
        raise SpaceMismatchError(name, suite.name, unlike)
    return Demonstrator(suite, how, Takeover(policy, takeover_steps))

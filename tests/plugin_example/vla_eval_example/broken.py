"""Suites and policies that break the contract, each in one way. Suites misbehave on initial state 1 only."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evals.types import ActionChunk, Episode, FloatArray, Observation, Step, Suite
from vla_eval_example.chase import Chase
from vla_eval_example.slide import SlideEnv, suite

BROKEN_STATE = 1


def _broken(name: str, env: type[SlideEnv]) -> Suite:
    return replace(suite(), name=name, env=f"{__name__}:{env.__name__}")


class DyingOnceEnv(SlideEnv):
    """Its process is gone in the middle of an episode, as after a segmentation fault, but only once.

    It lives when the file named by EXAMPLE_DIED exists, which its first death makes.
    """

    def step(self, action: FloatArray, render: bool) -> Step:
        """Die at the third step, the first time."""
        died = Path(os.environ["EXAMPLE_DIED"])
        if self.episode.initial_state == BROKEN_STATE and self._steps == 2 and not died.exists():
            died.touch()
            os._exit(139)
        return super().step(action, render)


class HangingEnv(SlideEnv):
    """Never comes back from a reset."""

    def reset(self, episode: Episode, render: bool) -> Step:
        """Sleep for an hour."""
        if episode.initial_state == BROKEN_STATE:
            time.sleep(3600)
        return super().reset(episode, render)


class RaisingEnv(SlideEnv):
    """Raises an error of its own."""

    def step(self, action: FloatArray, render: bool) -> Step:
        """Raise."""
        if self.episode.initial_state == BROKEN_STATE:
            raise ZeroDivisionError("the example's simulator diverged")
        return super().step(action, render)


class WrongImageEnv(SlideEnv):
    """Draws in another size than its protocol says."""

    def _observation(self) -> Observation:
        seen = super()._observation()
        return replace(seen, images={name: image[:4] for name, image in seen.images.items()})


class ForgetfulEnv(SlideEnv):
    """A reset that depends on what ran before."""

    x = 0.0

    def reset(self, episode: Episode, render: bool) -> Step:
        """Leave the puck a little towards where it was."""
        before = self.x
        super().reset(episode, render)
        self.x += 0.1 * before
        return self._result(render)


def dies_once() -> Suite:
    """Return a suite whose worker dies once."""
    return _broken("example_dies_once", DyingOnceEnv)


def hangs() -> Suite:
    """Return a suite that hangs in reset."""
    return _broken("example_hangs", HangingEnv)


def raises() -> Suite:
    """Return a suite that raises."""
    return _broken("example_raises", RaisingEnv)


def wrong_image() -> Suite:
    """Return a suite whose images have the wrong size."""
    return _broken("example_wrong_image", WrongImageEnv)


def forgetful() -> Suite:
    """Return a suite whose episodes depend on their order."""
    return _broken("example_forgetful", ForgetfulEnv)


class _BrokenPolicy(Chase):
    def __init__(self, name: str, suite: Suite) -> None:
        super().__init__(speed=1.0)
        self.name = name
        self.action_space = suite.action_space
        self.state_space = None
        self.cameras = ()


class NanPolicy(_BrokenPolicy):
    """Diverged."""

    def _answer(self, observation: Observation) -> ActionChunk:
        return ActionChunk(np.full((2, 7), np.nan))


class WrongShapePolicy(_BrokenPolicy):
    """Leaves the gripper out."""

    def _answer(self, observation: Observation) -> ActionChunk:
        return ActionChunk(np.zeros((2, 6)))


class WrongDtypePolicy(_BrokenPolicy):
    """Answers in half precision."""

    def _answer(self, observation: Observation) -> ActionChunk:
        return ActionChunk(np.zeros((2, 7), dtype=np.float16))


class RaisingPolicy(_BrokenPolicy):
    """Raises an error of its own."""

    def _answer(self, observation: Observation) -> ActionChunk:
        raise IndexError("the example's policy read past the end")


class LeakyPolicy(_BrokenPolicy):
    """Its answer depends on how many observations came with it."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer with the batch's size."""
        return [ActionChunk(np.full((2, 7), 0.1 * len(observations))) for _ in observations]


def nan_policy(suite: Suite) -> NanPolicy:
    """Return a policy whose actions are not numbers."""
    return NanPolicy("example_nan", suite)


def wrong_shape_policy(suite: Suite) -> WrongShapePolicy:
    """Return a policy with six numbers an action."""
    return WrongShapePolicy("example_wrong_shape", suite)


def wrong_dtype_policy(suite: Suite) -> WrongDtypePolicy:
    """Return a policy with half-precision actions."""
    return WrongDtypePolicy("example_wrong_dtype", suite)


def raising_policy(suite: Suite) -> RaisingPolicy:
    """Return a policy that raises."""
    return RaisingPolicy("example_raising", suite)


def leaky_policy(suite: Suite) -> LeakyPolicy:
    """Return a policy whose answers depend on the batch."""
    return LeakyPolicy("example_leaky", suite)

"""One episode inside a worker: the only loop that steps an env."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from evals.contract import Env
from evals.errors import EnvOutputError, PolicyOutputError
from evals.types import ActionChunk, Episode, FloatArray, Image, Observation, Seconds, Step, Suite, digest

Ask = Callable[[Observation], ActionChunk]


@dataclass(frozen=True)
class Conduct:
    """How episodes of a run are conducted.

    Attributes:
        replan_every: actions of a chunk that are run before the policy is asked again.
        film: camera whose image is kept at every step, or "".
    """

    replan_every: int = 1
    film: str = ""


@dataclass
class Trace:
    """What happened, step by step: index t is control step t; `physics` has the reset before it, and one entry more.

    `states[i]` is what the policy could read at control step `asked[i]`.
    """

    actions: list[FloatArray] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    states: list[FloatArray] = field(default_factory=list)
    success: list[bool] = field(default_factory=list)
    physics: list[FloatArray] = field(default_factory=list)
    frames: list[Image] = field(default_factory=list)


@dataclass(frozen=True)
class Rollout:
    """An episode that ran to its end."""

    success_first: int | None
    success_ever: bool
    success_last: bool
    success_at_reset: bool
    steps: int
    seconds: Seconds
    trajectory_hash: str
    scene_hash: str
    partial: Mapping[str, bool]
    trace: Trace


def rollout(
    env: Env, suite: Suite, episode: Episode, ask: Ask, conduct: Conduct, beat: Callable[[str], None]
) -> Rollout:
    """Run one episode to the step limit, or to the first success where the protocol ends there.

    Args:
        env: the simulator, built for the episode's task.
        suite: the suite, for its protocol and step limits.
        episode: identity of the episode.
        ask: the policy's answer to an observation.
        conduct: replanning interval and filming.
        beat: called with a phase name whenever progress was made, so that a hang can be told from slow work.

    Raises:
        EnvOutputError: the env broke its contract.
        PolicyOutputError: the policy broke its contract.
    """
    trace = Trace()
    clock = _Clock()
    with clock.reset:
        step = env.reset(episode, look=True)
    clock.drawn(step)
    _keep(trace, step, conduct)
    at_reset, scene_hash = step.success, digest(env.scene().tolist())
    limit = suite.tasks[episode.task].max_steps
    ends_at_success = suite.protocol.success == "first"
    pending: list[FloatArray] = []
    said = ""
    while len(trace.actions) < limit:
        if not pending:
            seen = _look(step, episode)
            trace.asked.append(len(trace.actions))
            trace.states.append(seen.state)
            with clock.policy:
                chunk = ask(seen)
            actions = checked_actions(chunk, conduct.replan_every, suite)
            pending, said = list(actions), chunk.motion or ""
        action = pending.pop(0)
        beat("step")
        last = len(trace.actions) + 1 == limit
        with clock.physics:
            step = env.step(action, look=bool(conduct.film) or (not pending and not last))
        clock.drawn(step)
        trace.actions.append(action)
        trace.said.append(said)
        trace.success.append(step.success)
        _keep(trace, step, conduct)
        if step.success and ends_at_success:
            break
    return _finish(trace, clock, at_reset, scene_hash, step)


class _Stopwatch:
    """Accumulates wall seconds over `with` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.perf_counter() - self._start


class _Clock:
    """Splits an episode's wall time; drawing happens inside reset and step and is taken out of the latter."""

    def __init__(self) -> None:
        self.reset, self.policy, self.physics = _Stopwatch(), _Stopwatch(), _Stopwatch()
        self.render = 0.0

    def drawn(self, step: Step) -> None:
        self.render += step.render_seconds

    def split(self) -> Seconds:
        stepping = max(0.0, self.physics.seconds - self.render)
        return Seconds(stepping, self.render, self.policy.seconds, self.reset.seconds)


def _look(step: Step, episode: Episode) -> Observation:
    if step.observation is None:
        raise EnvOutputError(f"The env of suite {episode.suite!r} returned no observation although look was True.")
    return step.observation


def _keep(trace: Trace, step: Step, conduct: Conduct) -> None:
    if not np.all(np.isfinite(step.physics)):
        raise EnvOutputError(f"The simulator's state is not finite after step {len(trace.actions)}.")
    trace.physics.append(step.physics)
    if conduct.film and step.observation is not None:
        trace.frames.append(step.observation.images[conduct.film])


def checked_actions(chunk: object, replan_every: int, suite: Suite) -> FloatArray:
    """Return the actions of a chunk that will be run, `[replan_every, 7]`, or raise what is wrong with it."""
    if not isinstance(chunk, ActionChunk):
        raise PolicyOutputError(f"The policy returned {type(chunk).__name__}, expected evals.types.ActionChunk.")
    actions, dim = chunk.actions, suite.action_space.dim
    if not isinstance(actions, np.ndarray) or actions.dtype != np.float64:
        got = getattr(actions, "dtype", type(actions).__name__)
        raise PolicyOutputError(f"ActionChunk.actions has dtype {got}, expected a float64 array: use .astype(float).")
    if actions.ndim != 2 or actions.shape[1] != dim or not len(actions):
        raise PolicyOutputError(f"ActionChunk.actions has shape {actions.shape}, expected [K >= 1, {dim}].")
    if len(actions) < replan_every:
        raise PolicyOutputError(
            f"The policy returned a chunk of {len(actions)} actions, but replan_every is {replan_every}: "
            "lower --replan-every or return longer chunks."
        )
    if not np.all(np.isfinite(actions)):
        row, column = np.argwhere(~np.isfinite(actions))[0]
        raise PolicyOutputError(f"ActionChunk.actions[{row}, {column}] is {actions[row, column]}; it must be finite.")
    return actions[:replan_every]


def _finish(trace: Trace, clock: _Clock, at_reset: bool, scene_hash: str, last: Step) -> Rollout:
    sha = hashlib.sha256(trace.physics[0].tobytes())
    for action, physics in zip(trace.actions, trace.physics[1:], strict=True):
        sha.update(action.tobytes())
        sha.update(physics.tobytes())
    first = trace.success.index(True) + 1 if any(trace.success) else None
    return Rollout(
        success_first=first,
        success_ever=first is not None,
        success_last=bool(trace.success and trace.success[-1]),
        success_at_reset=at_reset,
        steps=len(trace.actions),
        seconds=clock.split(),
        trajectory_hash=sha.hexdigest()[:16],
        scene_hash=scene_hash,
        partial={name: bool(holds) for name, holds in last.partial.items()},
        trace=trace,
    )

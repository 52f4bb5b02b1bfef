"""One episode inside a worker: the only loop that steps an env."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter  # by name: a plugin that patches the module must not reach it

import numpy as np

from evals.checks import check_step, check_vector, checked_chunk
from evals.contract import Env
from evals.types import ActionChunk, Episode, FloatArray, Image, Observation, Outcome, Seconds, Step, Suite, digest

AskPolicy = Callable[[Observation], ActionChunk]


@dataclass(frozen=True)
class RolloutConfig:
    """How episodes of a run are conducted.

    Attributes:
        replan_every: actions of a chunk that are run before the policy is asked again.
        video_camera: camera whose image is kept at every step, or "".
        cameras: cameras that the env was built with; None takes whatever it returns.
    """

    replan_every: int = 1
    video_camera: str = ""
    cameras: tuple[str, ...] | None = None


@dataclass
class Trace:
    """What happened, step by step: index t is control step t; `sim_state` has the reset before it, and one entry more.

    `states[i]` is what the policy could read at control step `query_step[i]`.
    """

    actions: list[FloatArray] = field(default_factory=list)
    motion: list[str] = field(default_factory=list)
    query_step: list[int] = field(default_factory=list)
    states: list[FloatArray] = field(default_factory=list)
    success: list[bool] = field(default_factory=list)
    sim_state: list[FloatArray] = field(default_factory=list)
    frames: list[Image] = field(default_factory=list)


@dataclass(frozen=True)
class Rollout:
    """An episode that ran to its end."""

    outcome: Outcome
    trace: Trace


def rollout(
    env: Env, suite: Suite, episode: Episode, ask: AskPolicy, rollout_config: RolloutConfig, beat: Callable[[str], None]
) -> Rollout:
    """Run one episode to the step limit, or to the first success where the protocol ends there.

    Args:
        env: the simulator, built for the episode's task.
        suite: the suite, for its protocol and step limits.
        episode: identity of the episode.
        ask: the policy's answer to an observation.
        rollout_config: replanning interval and filming.
        beat: called with a phase name whenever progress was made, so that a hang can be told from slow work.

    Raises:
        EnvOutputError: the env broke its contract.
        PolicyOutputError: the policy broke its contract.
    """
    trace = Trace()
    clock = _Clock()
    with clock.reset:
        step = env.reset(episode, render=True)
    border = partial(check_step, suite=suite, episode=episode, cameras=rollout_config.cameras)
    border(step, rendered=True, at=0)
    clock.drawn(step)
    _keep(trace, step, rollout_config)
    at_reset, scene_hash = step.success, _scene_hash(env, suite)
    limit = suite.tasks[episode.task].max_steps
    beat("step")
    pending, said = list[FloatArray](), ""
    while len(trace.actions) < limit:
        if not pending:
            seen = _plain(step.observation, suite, episode, at=len(trace.actions))
            trace.query_step.append(len(trace.actions))
            trace.states.append(seen.state)
            with clock.policy:
                chunk = checked_chunk(ask(seen), rollout_config.replan_every, suite)
            pending, said = list(chunk.actions), chunk.motion or ""
        action = pending.pop(0)
        beat("step")
        at = len(trace.actions) + 1
        render = bool(rollout_config.video_camera) or (not pending and at < limit)
        with clock.physics:
            step = env.step(action.copy(), render)
        border(step, rendered=render, at=at)
        clock.drawn(step)
        _add(trace, action, said, step)
        _keep(trace, step, rollout_config)
        if step.success and suite.protocol.success == "first":
            break
    return _finish(trace, clock, at_reset, scene_hash, step)


class _Stopwatch:
    """Accumulates wall seconds over `with` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = perf_counter()

    def __exit__(self, *exception: object) -> None:
        self.seconds += perf_counter() - self._start


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


def _plain(seen: Observation | None, suite: Suite, episode: Episode, at: int) -> Observation:
    """Return an observation that was checked as plain data, whatever classes the env built it from."""
    assert seen is not None  # its border was told that it was looked
    images = {name: np.asarray(image) for name, image in seen.images.items()}
    return Observation(episode, at, suite.tasks[episode.task].instruction, images, np.array(seen.state))


def _scene_hash(env: Env, suite: Suite) -> str:
    scene = env.static_state()
    check_vector(f"The env of suite {suite.name!r}: static_state()", scene)
    return digest(scene.tolist())


def _add(trace: Trace, action: FloatArray, said: str, step: Step) -> None:
    trace.actions.append(action)
    trace.motion.append(said)
    trace.success.append(step.success)


def _keep(trace: Trace, step: Step, rollout_config: RolloutConfig) -> None:
    """Keep copies: an env that writes into arrays that it has returned must not change what is hashed."""
    trace.sim_state.append(np.array(step.sim_state))
    if rollout_config.video_camera and step.observation is not None:
        trace.frames.append(np.array(step.observation.images[rollout_config.video_camera]))


def _finish(trace: Trace, clock: _Clock, at_reset: bool, scene_hash: str, last: Step) -> Rollout:
    sha = hashlib.sha256(trace.sim_state[0].tobytes())
    for action, sim_state in zip(trace.actions, trace.sim_state[1:], strict=True):
        sha.update(action.tobytes())
        sha.update(sim_state.tobytes())
    first = trace.success.index(True) + 1 if any(trace.success) else None
    outcome = Outcome(
        success_first=first,
        success_ever=first is not None,
        success_last=bool(trace.success and trace.success[-1]),
        success_at_reset=at_reset,
        steps=len(trace.actions),
        seconds=clock.split(),
        trajectory_hash=sha.hexdigest()[:16],
        scene_hash=scene_hash,
        partial={name: bool(holds) for name, holds in last.partial.items()},
    )
    return Rollout(outcome, trace)

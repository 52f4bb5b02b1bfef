"""A worker process: it holds one env at a time and runs the episodes that the driver assigns."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from time import monotonic  # by name: a plugin that patches the module must not reach it
from typing import Any

from evals.batching import fresh
from evals.caller import PolicyFailedError
from evals.checks import paired
from evals.contract import Env, Policy, PrivilegedPolicy
from evals.engine.messages import Answer, Ask, Assignment, Beat, Built, Message, Phase, Report, WorkerSpec
from evals.errors import EnvOutputError, PolicyOutputError
from evals.record import save_trace
from evals.registry import load_policy, make_env
from evals.rollout import Rollout, rollout
from evals.types import ActionChunk, Episode, Observation, Status
from evals.video import save_video

BEAT_SECONDS = 1.0


def serve(connection: Connection, spec: WorkerSpec) -> None:
    """Run assignments until the driver closes the connection (or is gone)."""
    driver = _Driver(connection)
    worker = _Worker(driver, spec)
    with contextlib.suppress(_DriverGoneError):
        while True:
            driver.send(worker.run(driver.receive()))
    worker.close()


class _DriverGoneError(Exception):
    """The other end of the connection is closed; a simulator's own EOFError is something else."""


class _Driver:
    """The worker's end of the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: Message) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise _DriverGoneError from error

    def receive(self) -> Any:  # noqa: ANN401 - an Assignment or an Answer, by what was said before
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise _DriverGoneError from error


class _Worker:
    """One env, rebuilt when the task changes: two rendered envs in one process corrupt each other's images."""

    def __init__(self, driver: _Driver, spec: WorkerSpec) -> None:
        self._driver = driver
        self._spec = spec
        self._env: Env | None = None
        self._task = -1
        self._policy: PrivilegedPolicy | None = None
        self._last_beat = 0.0
        self._phase: Phase | None = None

    def run(self, assignment: Assignment) -> Report:
        """Run one episode. This is a process border: whatever is raised becomes the report of an unscored episode."""
        episode = assignment.episode
        try:
            env = self._env_for(episode)
            self._beat("reset")
            done = self._roll(env, episode)
            self._write(episode, done)
        except (PolicyFailedError, PolicyOutputError) as error:
            return Report(Status.POLICY_ERROR, str(error))
        except _DriverGoneError:
            raise
        except BaseException:  # noqa: BLE001 - the border between a simulator, its sys.exit included, and the record
            self.close()
            return Report(Status.SIM_ERROR, traceback.format_exc(limit=-8))
        status = Status.SUCCESS if done.outcome.succeeded(self._spec.suite.protocol.success) else Status.FAILURE
        return Report(status, outcome=done.outcome)

    def close(self) -> None:
        """Free the env."""
        if self._env is not None:
            with contextlib.suppress(BaseException):  # it is being thrown away; a second error would hide the first
                self._env.close()
        self._env, self._task = None, -1

    def _env_for(self, episode: Episode) -> Env:
        if self._env is None or self._task != episode.task:
            self.close()
            self._beat("build")
            suite = self._spec.suite
            self._env = make_env(suite, suite.tasks[episode.task], self._spec.cameras)
            self._task = episode.task
            self._driver.send(Built(self._renderer(self._env)))
        return self._env

    def _renderer(self, env: Env) -> str:
        name = env.renderer()
        if not isinstance(name, str):
            got = type(name).__name__
            raise EnvOutputError(f"The env of suite {self._spec.suite.name!r}: renderer() is {got}, expected text.")
        return str.__str__(name)

    def _roll(self, env: Env, episode: Episode) -> Rollout:
        policy = self._privileged()
        if policy is None:
            return rollout(env, self._spec.suite, episode, self._ask_driver, self._spec.rollout_config, self._progress)
        with _policy_errors():
            policy.attach(env)
            policy.begin(replace(episode))

        def ask(observation: Observation) -> ActionChunk:
            with _policy_errors():
                [chunk] = paired(policy.act([fresh(observation)]), 1)
                return chunk

        try:
            done = rollout(env, self._spec.suite, episode, ask, self._spec.rollout_config, self._progress)
        except BaseException:
            with contextlib.suppress(BaseException):  # what went wrong first is what is recorded
                policy.end(replace(episode))
            raise
        with _policy_errors():
            policy.end(replace(episode))
        return done

    def _privileged(self) -> PrivilegedPolicy | None:
        if self._spec.privileged is not None and self._policy is None:
            name, options = self._spec.privileged
            with _policy_errors():
                policy: Policy = load_policy(name, self._spec.suite, dict(options))
            assert isinstance(policy, PrivilegedPolicy)
            self._policy = policy
        return self._policy

    def _ask_driver(self, observation: Observation) -> ActionChunk:
        self._driver.send(Ask(observation))
        answer: Answer = self._driver.receive()
        if answer.chunk is None:
            raise PolicyFailedError(answer.error)
        return answer.chunk

    def _progress(self, phase: str) -> None:
        self._beat("step", at_most_every=BEAT_SECONDS)

    def _beat(self, phase: Phase, at_most_every: float = 0.0) -> None:
        """Send a sign of life; always where the phase changes, since each phase has a deadline of its own."""
        now = monotonic()
        if phase != self._phase or now - self._last_beat >= at_most_every:
            self._phase, self._last_beat = phase, now
            self._driver.send(Beat(phase))

    def _write(self, episode: Episode, done: Rollout) -> None:
        spec = self._spec
        if spec.traces:
            save_trace(spec.folder / "traces" / f"{episode.id}.npz", done.trace)
        if spec.videos == "all" or (
            spec.videos == "failures" and not done.outcome.succeeded(spec.suite.protocol.success)
        ):
            hz = spec.suite.action_space.control_hz
            save_video(spec.folder / "videos" / f"{episode.id}.mp4", done.trace.frames, hz)


@contextlib.contextmanager
def _policy_errors() -> Iterator[None]:
    """Tell what a policy raises inside the worker, `sys.exit` included, from what the simulator raises."""
    try:
        yield
    except PolicyOutputError:
        raise
    except BaseException as error:
        raise PolicyFailedError.of(error) from error

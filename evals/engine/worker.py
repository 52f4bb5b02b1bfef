"""A worker process: it holds one env at a time and runs the episodes that the driver assigns."""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
from multiprocessing.connection import Connection

from evals.contract import Env, Policy, PrivilegedPolicy
from evals.engine.messages import Answer, Ask, Assignment, Beat, Built, Phase, Report, WorkerSpec
from evals.errors import PolicyOutputError
from evals.record import save_trace
from evals.registry import load_policy, make_env
from evals.rollout import Rollout, rollout
from evals.types import ActionChunk, Episode, Observation, Status
from evals.video import save_video

BEAT_SECONDS = 1.0


def serve(connection: Connection, spec: WorkerSpec) -> None:
    """Run assignments until the driver closes the connection (or is gone)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    worker = _Worker(connection, spec)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            assignment = connection.recv()
            connection.send(worker.run(assignment))
    worker.close()


class _PolicyFailedError(Exception):
    """The policy, wherever it runs, raised or broke its contract; the text is its traceback."""


class _Worker:
    """One env, rebuilt when the task changes: two rendered envs in one process corrupt each other's images."""

    def __init__(self, connection: Connection, spec: WorkerSpec) -> None:
        self._connection = connection
        self._spec = spec
        self._env: Env | None = None
        self._task = -1
        self._policy: PrivilegedPolicy | None = None
        self._last_beat = 0.0

    def run(self, assignment: Assignment) -> Report:
        """Run one episode. This is a process border: whatever is raised becomes the report of an unscored episode."""
        episode = assignment.episode
        try:
            env = self._env_for(episode)
            self._beat("reset")
            done = self._roll(env, episode)
            self._write(episode, done)
        except (_PolicyFailedError, PolicyOutputError) as error:
            return Report(Status.POLICY_ERROR, str(error))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception:  # noqa: BLE001 - the border between a simulator and the record
            self.close()
            return Report(Status.SIM_ERROR, traceback.format_exc(limit=-8))
        return Report(
            status=Status.SUCCESS if _succeeded(done, self._spec.suite.protocol.success) else Status.FAILURE,
            success_first=done.success_first,
            success_ever=done.success_ever,
            success_last=done.success_last,
            success_at_reset=done.success_at_reset,
            steps=done.steps,
            seconds=done.seconds,
            trajectory_hash=done.trajectory_hash,
            scene_hash=done.scene_hash,
            partial=done.partial,
        )

    def close(self) -> None:
        """Free the env."""
        if self._env is not None:
            with contextlib.suppress(Exception):  # it is being thrown away; a second error would hide the first
                self._env.close()
        self._env, self._task = None, -1

    def _env_for(self, episode: Episode) -> Env:
        if self._env is None or self._task != episode.task:
            self.close()
            self._beat("build")
            suite = self._spec.suite
            self._env = make_env(suite, suite.tasks[episode.task], self._spec.cameras)
            self._task = episode.task
            self._connection.send(Built(self._env.renderer()))
        return self._env

    def _roll(self, env: Env, episode: Episode) -> Rollout:
        policy = self._privileged()
        if policy is None:
            return rollout(env, self._spec.suite, episode, self._ask_driver, self._spec.conduct, self._progress)
        with _policy_errors():
            policy.attach(env)
            policy.begin(episode)

        def ask(observation: Observation) -> ActionChunk:
            with _policy_errors():
                return policy.act([observation])[0]

        try:
            return rollout(env, self._spec.suite, episode, ask, self._spec.conduct, self._progress)
        finally:
            with _policy_errors():
                policy.end(episode)

    def _privileged(self) -> PrivilegedPolicy | None:
        if self._spec.privileged is not None and self._policy is None:
            name, options = self._spec.privileged
            policy: Policy = load_policy(name, self._spec.suite, dict(options))
            assert isinstance(policy, PrivilegedPolicy)
            self._policy = policy
        return self._policy

    def _ask_driver(self, observation: Observation) -> ActionChunk:
        self._connection.send(Ask(observation))
        answer: Answer = self._connection.recv()
        if answer.chunk is None:
            raise _PolicyFailedError(answer.error)
        return answer.chunk

    def _progress(self, phase: str) -> None:
        self._beat("step", at_most_every=BEAT_SECONDS)

    def _beat(self, phase: Phase, at_most_every: float = 0.0) -> None:
        now = time.monotonic()
        if now - self._last_beat >= at_most_every:
            self._last_beat = now
            self._connection.send(Beat(phase))

    def _write(self, episode: Episode, done: Rollout) -> None:
        spec = self._spec
        if spec.traces:
            save_trace(spec.folder / "traces" / f"{episode.id}.npz", done.trace)
        succeeded = _succeeded(done, spec.suite.protocol.success)
        if spec.videos == "all" or (spec.videos == "failures" and not succeeded):
            hz = spec.suite.action_space.control_hz
            save_video(spec.folder / "videos" / f"{episode.id}.mp4", done.trace.frames, hz)


def _succeeded(done: Rollout, rule: str) -> bool:
    return done.success_last if rule == "last" else done.success_ever


class _policy_errors(contextlib.AbstractContextManager["_policy_errors"]):  # noqa: N801 - reads as a function
    """Tell what a policy raises inside the worker from what the simulator raises."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            raise _PolicyFailedError("".join(traceback.format_exception(error, limit=-8))) from error

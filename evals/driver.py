"""The main loop of a run: assign episodes to workers, ask the policy, retry, and record."""

from __future__ import annotations

import faulthandler
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import monotonic  # by name: a plugin that patches the module must not reach it
from typing import Protocol

from evals.batching import Batcher
from evals.caller import Caller, PolicyFailedError
from evals.checks import checked_chunk
from evals.contract import PrivilegedPolicy
from evals.engine.messages import Answer, Ask, Assignment, Built, Event, Lost, Report
from evals.errors import RunIncompleteError
from evals.gates.answers import Answers
from evals.record import Recorder
from evals.schedule import Schedule
from evals.setup import Setup
from evals.types import ActionChunk, Episode, EpisodeResult, Status, Suite

RETRIES = 3
STDERR = 2  # a descriptor: the stream may be closed by then
MAX_CONSECUTIVE_ERRORS = 3  # episodes in a row without a score after which a run stops: all of them will fail
POLL_SECONDS = 0.5
# A policy that hangs in native code with Python's lock held stops this loop too; past its deadline and this, only the
# interpreter's own watchdog still runs.
LOCKED_SECONDS = 15.0


class Progress(Protocol):
    """Shows the user how a run proceeds."""

    def start(self, suite: Suite, episodes: list[Episode], done: list[EpisodeResult]) -> None:
        """Receive the planned episodes, and the results that an earlier start of the run recorded."""
        ...

    def say(self, text: str) -> None:
        """Receive a message of one line."""
        ...

    def finished(self, result: EpisodeResult) -> None:
        """Receive a result that was just recorded."""
        ...


class Engine(Protocol):
    """Runs the workers, on this machine or on a Ray cluster. `poll` replaces a lost worker before it returns."""

    @property
    def workers(self) -> list[int]:
        """Numbers of the workers."""
        ...

    def assign(self, worker: int, assignment: Assignment) -> None:
        """Send an idle worker its next episode."""
        ...

    def answer(self, worker: int, answer: Answer) -> None:
        """Send the policy's answer to a worker that asked for it."""
        ...

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """Wait for at most so many seconds, and return what happened, as (worker, event)."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


class Driver:
    """The loop between engine, policy and recorder.

    Args:
        setup: the run.
        engine: runs the workers.
        recorder: records every attempt.
        progress: shows every attempt to the user.
    """

    def __init__(self, setup: Setup, engine: Engine, recorder: Recorder, progress: Progress) -> None:
        self._setup, self._engine, self._recorder, self._progress = setup, engine, recorder, progress
        self._caller = setup.caller or Caller(setup.config.policy, setup.config.deadlines.policy_seconds)
        check = partial(checked_chunk, replan_every=setup.replan_every, suite=setup.suite)
        self._batcher = Batcher(setup.policy, setup.config.exact, check, self._caller)
        self._policy = None if isinstance(setup.policy, PrivilegedPolicy) else setup.policy  # the others are in workers
        self._watched = 0.0
        self._running: dict[int, Assignment] = {}
        self._attempts: Counter[str] = Counter()
        self._consecutive_errors = 0
        self._first_answers, self._remarks = Answers(setup.suite.action_space), list[str]()

    def drive(self, episodes: list[Episode]) -> None:
        """Run episodes; return when each has a score or has used up its attempts.

        Raises:
            RunIncompleteError: too many episodes in a row have no score, or the policy hangs; what was recorded stays.
            RecordError: the record cannot be written.
        """
        try:
            self._drive(episodes)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _drive(self, episodes: list[Episode]) -> None:
        self._schedule = Schedule(episodes)
        for worker in self._engine.workers:
            self._assign(worker)
        while self._running:
            self._watch()
            self._handle(self._engine.poll(POLL_SECONDS))

    def _watch(self) -> None:
        """Restart the watchdog once a second; it prints the traceback of every thread and ends this process."""
        now = monotonic()
        if now - self._watched > 1.0:
            self._watched = now
            limit = self._setup.config.deadlines.policy_seconds + LOCKED_SECONDS
            faulthandler.dump_traceback_later(limit, exit=True, file=STDERR)

    def _handle(self, events: list[tuple[int, Event]]) -> None:
        asking: list[tuple[int, Ask]] = []
        for worker, event in events:
            if isinstance(event, Ask):
                asking.append((worker, event))
            elif isinstance(event, Built):
                self._recorder.amend_session({"renderer": event.renderer})
            elif worker in self._running:
                self._finish(worker, event)
                self._assign(worker)
        answers = self._batcher.answer([ask.observation for _, ask in asking])
        for (worker, _), answer in zip(asking, answers, strict=True):
            self._engine.answer(worker, answer)
            self._look_at(answer)

    def _look_at(self, answer: Answer) -> None:
        """Show and record remarks about the policy's first answers; workers refuse answers that are invalid."""
        if isinstance(answer.chunk, ActionChunk):
            for text in self._first_answers.see(answer.chunk, self._setup.replan_every):
                self._remarks.append(text)
                self._progress.say(f"warning: policy {self._setup.config.policy}: {text}")
                self._recorder.amend_session({"remarks": list(self._remarks)})

    def _assign(self, worker: int) -> None:
        while (episode := self._schedule.next(worker)) is not None:
            self._attempts[episode.id] += 1
            assignment = Assignment(episode, self._attempts[episode.id])
            self._running[worker] = assignment
            error = self._notify("begin()", self._policy.begin, episode) if self._policy else ""
            if not error:
                self._engine.assign(worker, assignment)
                return
            self._finish(worker, Report(Status.POLICY_ERROR, error))

    def _finish(self, worker: int, event: Report | Lost) -> None:
        """Record an attempt, and put the episode back if simulator or server failed and attempts are left."""
        assignment = self._running.pop(worker)
        error = self._notify("end()", self._policy.end, assignment.episode) if self._policy else ""
        if error and isinstance(event, Report) and event.status.scored:
            event = Report(Status.POLICY_ERROR, error)
        result = self._result(worker, assignment, event)
        self._recorder.append(result)
        self._progress.finished(result)
        if result.status.scored:
            self._consecutive_errors = 0
        elif self._may_pass(result.status) and assignment.attempt <= RETRIES:
            self._schedule.put_back(assignment.episode)
        else:
            self._consecutive_errors += 1
            if self._consecutive_errors >= MAX_CONSECUTIVE_ERRORS:
                error = textwrap.indent(result.error or "", "  ")
                raise RunIncompleteError(
                    f"{MAX_CONSECUTIVE_ERRORS} episodes in a row ended without a score; the run was stopped. The last "
                    f"one said:\n{error}\nWhat was recorded stays in {self._recorder.path}; the same command continues."
                )

    def _may_pass(self, status: Status) -> bool:
        """Return whether an episode without a score may get one if it runs again."""
        return status is not Status.POLICY_ERROR or bool(getattr(self._policy, "retry_errors", False))

    def _notify(self, doing: str, function: Callable[[Episode], None], episode: Episode) -> str:
        """Call the policy's `begin` or `end` with a copy of an episode; return the traceback if it raises, else ""."""
        try:
            self._caller.call(doing, function, replace(episode))
        except PolicyFailedError as error:
            return str(error)
        return ""

    def _result(self, worker: int, assignment: Assignment, event: Report | Lost) -> EpisodeResult:
        episode = assignment.episode
        report = event if isinstance(event, Report) else Report(event.status, event.error)
        return EpisodeResult(
            suite=episode.suite,
            task=episode.task,
            initial_state=episode.initial_state,
            seed=episode.seed,
            episode_id=episode.id,
            protocol_hash=episode.protocol_hash,
            official=episode.initial_state < self._setup.suite.protocol.initial_states,
            worker=worker,
            attempt=assignment.attempt,
            status=report.status,
            error=report.error,
            **vars(report.outcome),
        )

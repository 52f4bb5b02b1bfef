"""A pool of workers on any machine: which of them are busy, silent, or lost."""

from __future__ import annotations

import pickle
import selectors
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic  # by name: a plugin that patches the module must not reach it
from typing import Protocol

from evals.engine.channel import Channel
from evals.engine.messages import Answer, Ask, Assignment, Beat, Deadlines, Event, Lost, Message, Phase, Report
from evals.types import Status

GRACE_SECONDS = 5.0


class Remote(Protocol):
    """A started worker: the driver's end of its connection, and a way to end it."""

    connection: Connection

    def end(self, grace: float) -> str:
        """Wait up to `grace` seconds for the process to end by itself, then kill it; return how it ended, in words."""
        ...


@dataclass
class _Worker:
    remote: Remote
    channel: Channel
    phase: Phase | None = None  # None: idle, or waiting for the policy
    since: float = 0.0


class WorkerPool:
    """Turns the messages of workers into events, with the worker's number; a dead or hung worker is replaced.

    The pool never waits for a single worker, so deadlines also hold for a worker that stops in the middle of a message.

    Args:
        launch: starts one worker.
        workers: number of workers.
        deadlines: seconds of silence after which a worker counts as hung.
    """

    def __init__(self, launch: Callable[[], Remote], workers: int, deadlines: Deadlines) -> None:
        self._launch = launch
        self._deadlines = deadlines
        self._selector = selectors.PollSelector()
        self._workers: dict[int, _Worker] = {}
        try:
            for number in range(workers):
                self._start(number)
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> list[int]:
        """Numbers of the workers."""
        return list(self._workers)

    def assign(self, worker: int, assignment: Assignment) -> None:
        """Send an idle worker its next episode."""
        self._send(worker, assignment, "build")

    def answer(self, worker: int, answer: Answer) -> None:
        """Send the policy's answer to a worker that asked for it."""
        self._send(worker, answer, "step")

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """Wait up to `seconds` and return what happened. A lost worker has been replaced when this returns.

        Raises:
            SimulatorError: a lost worker cannot be replaced.
        """
        events: list[tuple[int, Event]] = []
        for key, mask in self._selector.select(timeout=seconds):
            events += self._hear(key.data, mask)
        return events + [(number, self._kill(number)) for number in self._hung()]

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.channel.close()
        end = monotonic() + GRACE_SECONDS
        for worker in self._workers.values():
            worker.remote.end(max(0.0, end - monotonic()))
        self._selector.close()

    def _hear(self, number: int, mask: int) -> list[tuple[int, Event]]:
        channel = self._workers[number].channel
        if mask & selectors.EVENT_WRITE:
            channel.flush()
            self._listen(number)
        if not mask & selectors.EVENT_READ:
            return []
        try:
            messages = channel.take()
        except (EOFError, OSError):
            return [(number, self._reap(number))]
        self._workers[number].since = monotonic()  # half a message is a sign of life too
        events: list[tuple[int, Event]] = []
        for pickled in messages:
            try:
                message: Message = pickle.loads(pickled)
            except Exception:  # noqa: BLE001 - the border to a worker, in which a suite's code runs; recorded
                error = f"The worker sent something that does not unpickle:\n{traceback.format_exc(limit=-3)}"
                self._replace(number, 0.0)
                return [*events, (number, Lost(Status.SIM_ERROR, error))]
            event = self._note(number, message)
            if event is not None:
                events.append((number, event))
        return events

    def _start(self, number: int) -> None:
        remote = self._launch()
        self._workers[number] = _Worker(remote, Channel(remote.connection))
        self._selector.register(self._workers[number].channel, selectors.EVENT_READ, number)

    def _send(self, number: int, message: Assignment | Answer, phase: Phase) -> None:
        worker = self._workers[number]
        worker.phase, worker.since = phase, monotonic()
        worker.channel.send(message)
        if worker.channel.full:
            self._listen(number)

    def _listen(self, number: int) -> None:
        channel = self._workers[number].channel
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.full else 0)
        self._selector.modify(channel, wanted, number)

    def _note(self, number: int, message: Message) -> Event | None:
        worker = self._workers[number]
        if isinstance(message, Beat):
            worker.phase = message.phase
            return None
        if isinstance(message, Ask | Report):
            worker.phase = None
        return message

    def _hung(self) -> Iterator[int]:
        now = monotonic()
        for number, worker in list(self._workers.items()):
            if worker.phase is not None and now - worker.since > getattr(self._deadlines, worker.phase):
                yield number

    def _kill(self, number: int) -> Lost:
        phase = self._workers[number].phase
        limit = getattr(self._deadlines, str(phase))
        self._replace(number, 0.0)
        return Lost(Status.TIMEOUT, f"No sign of life in phase {phase!r} for {limit:g} s; the worker was killed.")

    def _reap(self, number: int) -> Lost:
        phase = self._workers[number].phase or "idle"
        cause = self._replace(number, GRACE_SECONDS)
        return Lost(Status.SIM_ERROR, f"The worker process died in phase {phase!r} with {cause}.")

    def _replace(self, number: int, grace: float) -> str:
        worker = self._workers[number]
        self._selector.unregister(worker.channel)
        cause = worker.remote.end(grace)
        worker.channel.close()
        self._start(number)
        return cause

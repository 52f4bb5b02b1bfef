"""Workers, wherever they live: who is busy, who is silent, who is gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Protocol

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
    phase: Phase | None = None  # None: idle, or waiting for the policy
    since: float = 0.0


class WorkerPool:
    """Turns what workers say into events, keyed by worker number; a dead or hung one is killed and replaced.

    Args:
        launch: starts one worker.
        workers: how many.
        deadlines: seconds of silence after which a worker counts as hung.
    """

    def __init__(self, launch: Callable[[], Remote], workers: int, deadlines: Deadlines) -> None:
        self._launch = launch
        self._deadlines = deadlines
        self._workers = {number: _Worker(launch()) for number in range(workers)}

    @property
    def workers(self) -> list[int]:
        """Numbers of the workers."""
        return list(self._workers)

    def assign(self, worker: int, assignment: Assignment) -> None:
        """Give an idle worker its next episode."""
        self._send(worker, assignment, "build")

    def answer(self, worker: int, answer: Answer) -> None:
        """Give a worker that asked the policy's answer."""
        self._send(worker, answer, "step")

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """Wait up to `seconds` and return what happened. A lost worker has been replaced when this returns."""
        by_connection = {worker.remote.connection: number for number, worker in self._workers.items()}
        events: list[tuple[int, Event]] = []
        for ready in wait(list(by_connection), timeout=seconds):
            assert isinstance(ready, Connection)
            number = by_connection[ready]
            try:
                message: Message = ready.recv()
            except (EOFError, OSError):
                events.append((number, self._bury(number)))
                continue
            event = self._note(number, message)
            if event is not None:
                events.append((number, event))
        return events + [(number, self._kill(number)) for number in self._hung()]

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.remote.connection.close()
        for worker in self._workers.values():
            worker.remote.end(GRACE_SECONDS)

    def _send(self, number: int, message: Assignment | Answer, phase: Phase) -> None:
        worker = self._workers[number]
        worker.phase, worker.since = phase, time.monotonic()
        with contextlib.suppress(OSError):  # a worker that died meanwhile is found by the next poll
            worker.remote.connection.send(message)

    def _note(self, number: int, message: Message) -> Event | None:
        worker = self._workers[number]
        worker.since = time.monotonic()
        if isinstance(message, Beat):
            worker.phase = message.phase
            return None
        if isinstance(message, Ask | Report):
            worker.phase = None
        return message

    def _hung(self) -> Iterator[int]:
        now = time.monotonic()
        for number, worker in list(self._workers.items()):
            if worker.phase is not None and now - worker.since > getattr(self._deadlines, worker.phase):
                yield number

    def _kill(self, number: int) -> Lost:
        phase = self._workers[number].phase
        limit = getattr(self._deadlines, str(phase))
        self._replace(number, 0.0)
        return Lost(Status.TIMEOUT, f"No sign of life in phase {phase!r} for {limit:g} s; the worker was killed.")

    def _bury(self, number: int) -> Lost:
        phase = self._workers[number].phase or "idle"
        cause = self._replace(number, GRACE_SECONDS)
        return Lost(Status.SIM_ERROR, f"The worker process died in phase {phase!r} with {cause}.")

    def _replace(self, number: int, grace: float) -> str:
        remote = self._workers[number].remote
        cause = remote.end(grace)
        remote.connection.close()
        self._workers[number] = _Worker(self._launch())
        return cause

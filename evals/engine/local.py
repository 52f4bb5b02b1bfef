"""Workers as processes of this machine: a dead or hung one is killed, reported and replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from evals.engine.messages import (
    Answer,
    Ask,
    Assignment,
    Beat,
    Deadlines,
    Event,
    Lost,
    Message,
    Phase,
    Report,
    WorkerSpec,
)
from evals.engine.worker import serve
from evals.types import Status

# One simulator fills one core; more threads a worker only fight each other, and can change sums.
SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    phase: Phase | None = None  # None: idle, or waiting for the policy
    since: float = 0.0


class LocalEngine:
    """Runs worker processes and turns what they say into events, keyed by worker number."""

    def __init__(self, spec: WorkerSpec, workers: int, deadlines: Deadlines) -> None:
        self._spec = spec
        self._deadlines = deadlines
        self._context = multiprocessing.get_context("spawn")  # a forked GL context or CUDA state is a broken one
        self._workers = {number: self._start() for number in range(workers)}

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
        by_connection = {worker.connection: number for number, worker in self._workers.items()}
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
            worker.connection.close()
        for worker in self._workers.values():
            worker.process.join(timeout=5.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, self._spec), daemon=True)
        with environment(SINGLE_THREADED):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _send(self, number: int, message: Assignment | Answer, phase: Phase) -> None:
        worker = self._workers[number]
        worker.phase, worker.since = phase, time.monotonic()
        with contextlib.suppress(OSError):  # a worker that died meanwhile is found by the next poll
            worker.connection.send(message)

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
        worker = self._workers[number]
        phase, limit = worker.phase, getattr(self._deadlines, str(worker.phase))
        worker.process.kill()
        self._replace(number)
        return Lost(Status.TIMEOUT, f"No sign of life in phase {phase!r} for {limit:g} s; the worker was killed.")

    def _bury(self, number: int) -> Lost:
        worker = self._workers[number]
        worker.process.join(timeout=5.0)
        code, phase = worker.process.exitcode, worker.phase or "idle"
        self._replace(number)
        return Lost(Status.SIM_ERROR, f"The worker process died in phase {phase!r} with exit code {code}.")

    def _replace(self, number: int) -> None:
        worker = self._workers[number]
        worker.process.join()
        worker.connection.close()
        self._workers[number] = self._start()


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables for a child that is started inside the block; what the user set wins."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]

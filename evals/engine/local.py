"""Workers as processes of this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator

from evals.engine.messages import Deadlines, WorkerSpec
from evals.engine.pool import WorkerPool
from evals.engine.worker import serve

# One simulator fills one core; more threads a worker only fight each other, and can change sums.
SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def start(spec: WorkerSpec, workers: int, deadlines: Deadlines) -> WorkerPool:
    """Start worker processes."""
    return WorkerPool(lambda: _Process(spec), workers, deadlines)


class _Process:
    """A spawned process: a forked GL context or CUDA state is a broken one."""

    def __init__(self, spec: WorkerSpec) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, spec), daemon=True)
        with environment(SINGLE_THREADED):
            self._process.start()
        theirs.close()

    def end(self, grace: float) -> str:
        """Join, or kill."""
        self._process.join(timeout=grace)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return f"exit code {self._process.exitcode}"


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

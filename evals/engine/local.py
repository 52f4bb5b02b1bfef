"""Workers as processes of this machine."""

from __future__ import annotations

from evals.engine.child import Child
from evals.engine.messages import Deadlines, WorkerSpec
from evals.engine.pool import WorkerPool
from evals.engine.worker import serve


def start(spec: WorkerSpec, workers: int, deadlines: Deadlines) -> WorkerPool:
    """Start worker processes."""
    return WorkerPool(lambda: Child(serve, (spec,), spec.surroundings), workers, deadlines)

"""Stopping between two steps when a cluster asks for it, with everything saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def sigterm_noted() -> Iterator[Callable[[], bool]]:
    """Note SIGTERM instead of dying of it; yields what says whether it came. Elsewhere than in the main thread, never.

    Slurm, Docker and Kubernetes send it some seconds before they kill.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)

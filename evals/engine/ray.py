"""Workers as Ray tasks, for a cluster: every node needs this package and the run folder's file system."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import signal
import socket
import struct
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from time import monotonic
from typing import Any

from evals.engine.child import worker_variables
from evals.engine.messages import Deadlines, WorkerSpec
from evals.engine.pool import WorkerPool
from evals.engine.worker import serve
from evals.errors import SimulatorError, UsageError

ACCEPT_SECONDS = 0.1


def start(spec: WorkerSpec, workers: int, deadlines: Deadlines) -> WorkerPool:
    """Start one single-core Ray task a worker, on the cluster that RAY_ADDRESS names or on this machine.

    Raises:
        UsageError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'motion-vla[ray]'.") from error
    if not ray.is_initialized():
        ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False)
    return WorkerPool(lambda: _Task(ray, spec, deadlines.build), workers, deadlines)


class _Task:
    """A Ray task that calls back over TCP; both ends prove that they hold the same key before a pickle is read."""

    def __init__(self, ray: Any, spec: WorkerSpec, seconds: float) -> None:  # noqa: ANN401 - the module
        self._ray = ray
        key = secrets.token_bytes(32)
        remote = ray.remote(num_cpus=1, max_retries=0, max_calls=1, runtime_env={"env_vars": dict(worker_variables())})(
            _call_back
        )
        node = ray.util.get_node_ip_address()
        with socket.create_server((node, 0)) as server:
            self._reference = remote.remote((node, server.getsockname()[1]), key, spec)
            connection = _first_with_key(server, key, seconds)
        if connection is None:
            ray.cancel(self._reference, force=True)
            raise SimulatorError(f"Ray started no worker in {seconds:g} s: are there as many free cores as --workers?")
        self.connection = connection

    def end(self, grace: float) -> str:
        """Wait for the task, or cancel it."""
        done, _ = self._ray.wait([self._reference], timeout=grace)
        if not done:
            self._ray.cancel(self._reference, force=True)
            return "no answer; its Ray task was cancelled"
        try:
            self._ray.get(self._reference)
        except self._ray.exceptions.RayError as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return "its Ray task over"


def _first_with_key(server: socket.socket, key: bytes, seconds: float) -> Connection | None:
    """Return the first caller that has the key; other callers are refused, and none can block the rest."""
    welcome: queue.SimpleQueue[Connection] = queue.SimpleQueue()
    server.settimeout(ACCEPT_SECONDS)
    end = monotonic() + seconds
    while monotonic() < end:
        with contextlib.suppress(TimeoutError):
            accepted, _ = server.accept()
            threading.Thread(target=_greet, args=(accepted, key, seconds, welcome), daemon=True).start()
        with contextlib.suppress(queue.Empty):
            return welcome.get_nowait()
    return None


def _greet(accepted: socket.socket, key: bytes, seconds: float, welcome: queue.SimpleQueue[Connection]) -> None:
    accepted.setblocking(True)
    limit = struct.pack("ll", int(seconds) + 1, 0)  # a caller that says nothing does not hold its thread for ever
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection = Connection(accepted.detach())
    try:
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
    except (AuthenticationError, EOFError, OSError, AssertionError):
        connection.close()
    else:
        welcome.put(connection)


def _call_back(address: tuple[str, int], key: bytes, spec: WorkerSpec) -> None:
    """Connect to the driver and run its assignments; called in the cluster."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # stdout is the driver's, for its results
    connection = Connection(socket.create_connection(address).detach())
    answer_challenge(connection, key)
    deliver_challenge(connection, key)
    serve(connection, spec)

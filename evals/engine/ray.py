"""Workers as Ray tasks, for a cluster: every node needs this package and the run folder's file system."""

from __future__ import annotations

import secrets
import socket
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from evals.engine.local import SINGLE_THREADED
from evals.engine.messages import Deadlines, WorkerSpec
from evals.engine.pool import WorkerPool
from evals.engine.worker import serve
from evals.errors import SimulatorError, UsageError


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
        remote = ray.remote(num_cpus=1, max_retries=0, max_calls=1, runtime_env={"env_vars": SINGLE_THREADED})(
            _call_back
        )
        with socket.create_server(("", 0)) as server:
            server.settimeout(seconds)
            address = (ray.util.get_node_ip_address(), server.getsockname()[1])
            self._reference = remote.remote(address, key, spec)
            try:
                accepted, _ = server.accept()
            except TimeoutError as error:
                ray.cancel(self._reference, force=True)
                raise SimulatorError(
                    f"Ray started no worker in {seconds:g} s: are there as many free cores as --workers?"
                ) from error
        accepted.setblocking(True)
        self.connection = Connection(accepted.detach())
        deliver_challenge(self.connection, key)
        answer_challenge(self.connection, key)

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


def _call_back(address: tuple[str, int], key: bytes, spec: WorkerSpec) -> None:
    """Run in the cluster: connect to the driver and serve it."""
    connection = Connection(socket.create_connection(address).detach())
    answer_challenge(connection, key)
    deliver_challenge(connection, key)
    serve(connection, spec)

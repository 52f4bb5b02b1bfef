"""Child processes on this machine: started fresh, in the environment of the start, and ended with their parent."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import re
import selectors
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic, sleep  # by name: a plugin that patches the module must not reach it
from typing import Any, Protocol

from evals.errors import SimulatorError

# One simulator fills one core; more threads a worker only fight each other, and can change sums.
_SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
BLAS_KERNEL = "OPENBLAS_CORETYPE"
_PR_SET_PDEATHSIG = 1
KILL_SECONDS = 10.0


@cache
def worker_variables() -> Mapping[str, str]:
    """Return the environment variables of workers, where the user set none: what their sums depend on.

    NumPy's OpenBLAS chooses its kernels by the model of the processor, and their results differ in the last bit: one
    episode had two trajectories on two kinds of one maker's servers. Every x86-64 processor with AVX2 runs the kernels
    that are named here (docs/decisions/0048-one-blas-kernel.md).
    """
    with contextlib.suppress(OSError):
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if flags and {"avx2", "fma"} <= set(flags[1].split()):
            return {**_SINGLE_THREADED, BLAS_KERNEL: "Haswell"}
    return _SINGLE_THREADED


class HasFileno(Protocol):
    """Something with a descriptor."""

    def fileno(self) -> int:
        """Return it."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """Working directory and environment variables of child processes, read before any plugin can change them."""

    directory: Path = field(default_factory=Path.cwd)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Put this process back into them, single-threaded where the user set nothing, for a child to inherit."""
        environment, directory = dict(os.environ), _here()
        _become({**worker_variables(), **self.environment}, self.directory)
        try:
            yield
        finally:
            _become(environment, directory)


class Child:
    """A child process and the parent's end of its connection; it is spawned, since a fork breaks GL and CUDA.

    Args:
        function: a module-level function, called as (connection, *arguments).
        arguments: picklable arguments.
        surroundings: working directory and environment variables in which the process starts.

    Raises:
        SimulatorError: no process can be started on this machine.
    """

    def __init__(
        self, function: Callable[..., None], arguments: tuple[object, ...], surroundings: Surroundings
    ) -> None:
        context = multiprocessing.get_context("spawn")
        try:
            self.connection, theirs = context.Pipe()
            whole = (os.getpid(), function, theirs, *arguments)
            self._process = context.Process(target=_main, args=whole, daemon=True)
            with surroundings.restored():
                self._process.start()
        except OSError as error:
            raise SimulatorError(f"Cannot start a process: {error.strerror}.") from error
        theirs.close()
        self._ended = False

    def end(self, grace: float) -> str:
        """Wait up to `grace` seconds for it to end by itself, then kill it and what it forked; return how it ended."""
        ready(self._process.sentinel, grace)
        if self._process.pid is not None and not self._ended:
            with contextlib.suppress(OSError):  # it did not live long enough to have a group, or left none
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
        self._ended = True
        end = monotonic() + KILL_SECONDS
        while self._process.exitcode is None and self._process.is_alive() and monotonic() < end:
            sleep(0.005)  # its sentinel may be held open by a process that it forked, and a device may hold the process
        return f"exit code {self._process.exitcode}"


def ready(file: HasFileno | int, seconds: float) -> bool:
    """Wait up to `seconds` until there is something to read, the end included; False if there was nothing."""
    if seconds < 0:
        return False
    with selectors.PollSelector() as selector:  # the one that needs no descriptor of its own
        selector.register(file, selectors.EVENT_READ)
        return bool(selector.select(timeout=seconds))


def _main(parent: int, function: Callable[..., None], connection: Connection, *arguments: Any) -> None:  # noqa: ANN401
    _die_with(parent)
    os.setpgid(0, 0)  # what it forks is found again by its group
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # stdout is the driver's, for its results
    function(connection, *arguments)


def _die_with(parent: int) -> None:
    """End this process as soon as its parent has ended, even if this process hangs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    else:
        process = multiprocessing.parent_process()
        assert process is not None
        threading.Thread(target=lambda: (wait([process.sentinel]), os._exit(1)), daemon=True).start()


def _here() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # somebody deleted it
        return None


def _become(environment: Mapping[str, str], directory: Path | str | None) -> None:
    if environment != os.environ:
        os.environ.clear()
        os.environ.update(environment)
    if directory is not None and str(directory) != _here():
        with contextlib.suppress(OSError):
            os.chdir(directory)

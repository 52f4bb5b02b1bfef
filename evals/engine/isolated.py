"""One call in a fresh process: for work that must not share a process with a rendered env."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from evals.engine.local import SINGLE_THREADED, environment
from evals.errors import SimulatorError

Result = TypeVar("Result")


def in_fresh_process(function: Callable[..., Result], *arguments: object, seconds: float) -> Result:
    """Return `function(*arguments)`, run in a process of its own that ends with the call.

    Args:
        function: a module-level function.
        arguments: picklable arguments.
        seconds: how long it may take.

    Raises:
        SimulatorError: the process died or did not answer in time.
    """
    context = multiprocessing.get_context("spawn")
    with environment(SINGLE_THREADED), ProcessPoolExecutor(1, mp_context=context) as pool:
        future = pool.submit(function, *arguments)
        try:
            return future.result(timeout=seconds)
        except TimeoutError as error:
            for process in pool._processes.values():  # the pool has no public way to end a hung one before 3.14
                process.kill()
            raise SimulatorError(f"{function.__name__} gave no answer in {seconds:g} s and was stopped.") from error
        except BrokenProcessPool as error:
            raise SimulatorError(
                f"The process that ran {function.__name__} died; run it again to see its log."
            ) from error

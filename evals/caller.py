"""Calls a policy on a separate thread, with a deadline, and turns everything that it raises into text.

A policy runs in the process of the run. Whatever it does there (it never answers, it calls `sys.exit`, it raises an
error that cannot be recorded) must end as an error that names the policy. A call that hangs cannot be ended from
outside. It is only possible to stop waiting for it, which needs a thread that may be abandoned.
"""

from __future__ import annotations

import queue
import textwrap
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from evals.contract import Policy
from evals.errors import ContractError, RunIncompleteError, ServerError, VlaEvalError
from evals.registry import load_policy
from evals.types import Suite

Result = TypeVar("Result")
SLICE_SECONDS = 1.0


class PolicyFailedError(Exception):
    """The policy raised an error or broke its contract; the text is the traceback."""

    @classmethod
    def of(cls, error: BaseException) -> PolicyFailedError:
        """Turn any error into text, which can be sent and recorded; a server's needs no traceback of ours."""
        if isinstance(error, ServerError):
            return cls(str(error))
        return cls("".join(traceback.format_exception(error, limit=-8)))


@dataclass(frozen=True)
class _Outcome:
    value: Any
    error: BaseException | None


class Caller:
    """Calls a policy on one separate thread, which is abandoned when a call takes too long.

    Args:
        policy: name of the policy, for error messages.
        seconds: longest time of a call.
    """

    def __init__(self, policy: str, seconds: float) -> None:
        self._policy, self._seconds = policy, seconds
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stuck = ""

    def call(self, doing: str, function: Callable[..., Result], *arguments: object) -> Result:
        """Return `function(*arguments)`.

        Args:
            doing: what the policy does meanwhile, for the error if it does not come back.
            function: the call.
            arguments: its arguments.

        Raises:
            RunIncompleteError: this call, or an earlier one, did not return in time.
            PolicyFailedError: the function raised; the original error is the cause.
        """
        if self._stuck:
            raise RunIncompleteError(self._stuck)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"policy {self._policy}", daemon=True)
            self._thread.start()
        self._calls.put(lambda: function(*arguments))
        outcome = self._wait()
        if outcome is None:
            self._stuck = (
                f"Policy {self._policy!r} did not come back from {doing} in {self._seconds:g} s. A call inside this "
                "process cannot be ended, so the run was stopped; what was recorded stays, and the same command "
                "continues. --deadlines.policy waits longer."
            )
            raise RunIncompleteError(self._stuck)
        if outcome.error is not None:
            raise PolicyFailedError.of(outcome.error) from outcome.error
        result: Result = outcome.value
        return result

    def close(self) -> None:
        """Let the thread end once it is idle."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _wait(self) -> _Outcome | None:
        """Wait in slices, so that time in which this process is stopped (Ctrl-Z) does not count."""
        left = self._seconds
        while left > 0:
            try:
                return self._outcomes.get(timeout=min(left, SLICE_SECONDS))
            except queue.Empty:
                left -= SLICE_SECONDS
        return None

    def _serve(self) -> None:
        while (function := self._calls.get()) is not None:
            try:
                outcome = _Outcome(function(), None)
            except BaseException as error:  # noqa: BLE001 - sys.exit in a policy must not end a run as if it were done
                outcome = _Outcome(None, error)
            self._outcomes.put(outcome)


def build_policy(caller: Caller, name: str, suite: Suite, options: Mapping[str, str]) -> Policy:
    """Build a policy on the thread on which it will be asked.

    Raises:
        UsageError: the name or an option is wrong.
        ContractError: the policy raises an error while it is built.
        RunIncompleteError: building the policy takes too long.
    """
    try:
        return caller.call("its construction", load_policy, name, suite, options)
    except PolicyFailedError as error:
        if isinstance(error.__cause__, VlaEvalError):
            raise error.__cause__ from None
        raise ContractError(f"Policy {name!r} cannot be built:\n{textwrap.indent(str(error), '  ')}") from error

"""Runs one function call in a fresh process, for work that must not share a process with a rendered env."""

from __future__ import annotations

import contextlib
import pickle
import textwrap
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from time import monotonic
from typing import Any, TypeVar

from evals.engine.channel import Channel
from evals.engine.child import Child, Surroundings, ready
from evals.errors import SimulatorError, VlaEvalError

Result = TypeVar("Result")
GRACE_SECONDS = 1.0


def in_fresh_process(
    function: Callable[..., Result],
    *arguments: object,
    seconds: float,
    what: str = "",
    surroundings: Surroundings | None = None,
) -> Result:
    """Return `function(*arguments)`, run in a process of its own that ends with the call, or with this process.

    Args:
        function: a module-level function.
        arguments: picklable arguments.
        seconds: how long it may take.
        what: name of the call in error messages; the function's name by default.
        surroundings: folder and environment of the process; this one's by default.

    Raises:
        SimulatorError: the process died, did not answer in time, or raised something that is not of our error tree.
    """
    what = what or function.__name__
    child = Child(_answer, (function, *arguments), surroundings or Surroundings())
    try:
        said = _wait(Channel(child.connection), seconds)
    except (EOFError, OSError) as gone:
        raise SimulatorError(f"{what}: the process died with {child.end(GRACE_SECONDS)}; its log says why.") from gone
    finally:
        child.end(0.0)
        child.connection.close()
    if said is None:
        raise SimulatorError(f"{what}: no answer in {seconds:g} s; the process was stopped.")
    result, error = pickle.loads(said)
    if error is not None:
        raise error if isinstance(error, VlaEvalError) else SimulatorError(f"{what}:\n{textwrap.indent(error, '  ')}")
    answer: Result = result
    return answer


def _wait(channel: Channel, seconds: float) -> bytes | None:
    """Return the first message, or None if it is not there in time."""
    end = monotonic() + seconds
    while ready(channel, end - monotonic()):
        for message in channel.take():
            return message
    return None


def _answer(connection: Connection, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401
    """Run in the process: say what came out, an error as itself where it is one of ours, otherwise as text."""
    try:
        said: tuple[object, object] = (function(*arguments), None)
    except VlaEvalError as error:
        said = (None, error)
    except BaseException:  # noqa: BLE001 - a process border; sys.exit in a plugin is an error as well
        said = (None, traceback.format_exc(limit=-8))
    with contextlib.suppress(ConnectionError):  # nobody waits any more
        connection.send_bytes(_pickled(said))


def _pickled(said: tuple[object, object]) -> bytes:
    try:
        return pickle.dumps(said)
    except Exception:  # noqa: BLE001 - the same border: whatever a plugin put into its answer
        return pickle.dumps((None, traceback.format_exc(limit=-8)))

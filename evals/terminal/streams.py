"""Standard output is for results: what plugins and simulators print, C libraries included, goes to standard error."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TextIO

_HIGH = (
    900  # a descriptor that is not among those that somebody closes by counting up, nor taken again by the next file
)
Shown = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def prints_to_stderr() -> Iterator[Shown]:
    """Send what is printed inside the block to standard error, and yield a block in which results are printed.

    Where standard output is this process's own (and not a test's stand-in), its descriptor leads to standard error
    until the process ends: what a library has in its buffers, or a thread still prints, must not follow the results.
    """
    before: tuple[TextIO, TextIO] = (sys.stdout, sys.stderr)
    real = before[0] is sys.__stdout__ and _descriptor(before[0]) == 1
    own = _copy(before[0]) if real else before[0]
    if real:
        _redirect()
    sys.stdout = sys.stderr = _copy(before[1]) if real and _descriptor(before[1]) == 2 else before[1]

    @contextlib.contextmanager
    def shown() -> Iterator[None]:
        elsewhere, sys.stdout = sys.stdout, own
        yield
        if own is not None:
            own.flush()  # if this fails, it stays the standard output, and whoever guards that says so
        sys.stdout = elsewhere

    try:
        yield shown
    finally:
        sys.stderr = before[1]
        sys.stdout = sys.stdout if sys.stdout is own else before[0]


def own_stderr() -> TextIO:
    """Return standard error as a stream that stays open when somebody closes `sys.stderr` or its descriptor."""
    stream: TextIO = sys.stderr
    real = stream is sys.__stderr__ and _descriptor(stream) == 2
    return _copy(stream) if real else stream


def _descriptor(stream: TextIO | None) -> int:
    try:
        return -1 if stream is None else stream.fileno()
    except (OSError, ValueError):
        return -1


def _copy(stream: TextIO) -> TextIO:
    """Return a second stream on a descriptor of its own, which stays open as long as the process."""
    stream.flush()
    try:
        descriptor = fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # this process may not have so many
        descriptor = os.dup(stream.fileno())
    return open(descriptor, "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False)


def _redirect() -> None:
    """Let descriptor 1 lead where 2 leads, after what C has printed so far."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).fflush(None)
    try:
        os.dup2(2, 1)
    except OSError:  # there is no standard error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)

"""Files that one process holds alone: the operating system lets go of them when it dies, however it dies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from evals.errors import RecordError, RunFolderError
from evals.record.files import is_plain

try:
    import fcntl
except ImportError:  # Windows: records can be read there, but not written
    fcntl = None  # type: ignore[assignment]

_held: set[IO[bytes]] = set()


def hold(file: Path) -> IO[bytes]:
    """Open a file for appending, unbuffered, and hold it alone until it is closed.

    The file is created if it is missing, and never emptied: it may be a link to somebody's data.

    Raises:
        RunFolderError: another process holds it, or it is no plain file.
        RecordError: this platform has no file locks.
        OSError: it cannot be opened, or its file system has no locks.
    """
    if fcntl is None:
        raise RecordError(f"{file} cannot be held alone: this platform has no file locks. Run on Linux or macOS.")
    is_plain(file)
    stream: IO[bytes] = file.open("ab", buffering=0)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.close()
        raise RunFolderError(
            f"{file.parent} is being written by another process. Wait for it, or choose --out."
        ) from error
    except OSError:
        stream.close()
        raise
    _held.difference_update([other for other in _held if other.closed])
    _held.add(stream)
    return stream


def _let_go() -> None:
    """Close what the parent holds: a lock belongs to all who inherit the file, and a helper may outlive the run."""
    for stream in _held:
        stream.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)

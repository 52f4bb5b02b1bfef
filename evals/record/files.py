"""Plain files, read and written whole: never half a file on the disk, never a pipe that blocks."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from evals.errors import RunFolderError

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def is_plain(file: Path) -> bool:
    """Return whether a plain file lies there, behind a symbolic link or not; False if nothing does.

    Raises:
        RunFolderError: something else does, which could block or never end, or a link that leads nowhere.
    """
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        if file.is_symlink():
            raise RunFolderError(
                f"{file} is a link to {os.readlink(file)}, which is not there: put it back, or remove the link."
            ) from None
        return False
    except OSError as error:
        raise RunFolderError(f"{file} cannot be read: {error.strerror}. Check its permissions and its disk.") from error
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a device")
        raise RunFolderError(f"{file} is {kind}, expected a plain file: move it away, or restore the file from a copy.")
    return True


def read_whole(file: Path) -> bytes:
    """Return the bytes of a file; none if there is no file.

    Raises:
        RunFolderError: something else than a plain file lies there, or it cannot be read.
    """
    if not is_plain(file):
        return b""
    try:
        return file.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{file} cannot be read: {error.strerror}. Check its permissions and its disk.") from error


def write_whole(file: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, after a crash too; what was there before stays until then.

    Raises:
        OSError: the disk is full or read-only; the old file is as it was.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        partial.unlink(missing_ok=True)  # of a start that was killed; never write through a link that stands there
        with partial.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename last; file systems that cannot sync a folder order renames themselves."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""What may lie in a run folder before a run begins, and how a lost record is put back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from evals.errors import RunFolderError
from evals.record.files import is_plain, read_whole, write_whole
from evals.record.header import EPISODES, HEADER, Header, read_header, write_header

LOCK = ".lock"  # an empty file that is held too: it keeps out drivers of versions that know no other lock


def refuse_foreign(path: Path) -> None:
    """Refuse a folder that is not empty and no run; what a start leaves that died before its header is nothing.

    Raises:
        RunFolderError: it holds something else.
    """
    if is_plain(path / HEADER):
        return
    if read_whole(path / EPISODES):
        raise RunFolderError(
            f"{path} holds {EPISODES} but no {HEADER}. Restore {HEADER} from a copy, or from a run of the same command "
            "in a new folder; or choose another folder with --out."
        )
    foreign = sorted({entry.name for entry in path.iterdir()} - {LOCK, EPISODES, f"{HEADER}.partial"})
    if foreign:
        raise RunFolderError(
            f"{path} is no run folder and is not empty (it holds {foreign[0]!r}). Choose another: --out."
        )


def write_back(path: Path, content: bytes | bytearray, header: Header) -> Path:
    """Write a record and its header where they are missing, and return the file that holds the record."""
    path.mkdir(parents=True, exist_ok=True)
    file = path / EPISODES
    try:
        there = read_whole(file)
    except RunFolderError:
        there = b"something else"
    if not there.startswith(bytes(content)):
        if not content.startswith(there):
            file = path / f"episodes.kept-{os.getpid()}.jsonl"
        write_whole(file, bytes(content))
    try:
        read_header(path)
    except RunFolderError:
        with contextlib.suppress(OSError):  # a folder stands there: the record itself is what counts
            write_header(path, header)
    return file

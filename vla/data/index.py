"""What was read of a file once, kept for the next start: a file that has not changed is not read again.

An index lies in `.vla-index` beside the data, or in the user's cache where that cannot be written. It names its file's
size, times and inode, and carries a checksum of itself: one that is damaged, or of another file, is as if it was not
there. It holds arrays and text, never code.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDER = ".vla-index"
_FORMAT = 1
_TEXT = "text"


class Entry(NamedTuple):
    """What an index holds.

    Attributes:
        text: JSON data.
        arrays: name -> array.
    """

    text: Any
    arrays: Mapping[str, NDArray[Any]]


def load_index(file: Path, purpose: str) -> Entry | None:
    """Return what the index of a file holds, or None if there is none of the file as it is now.

    Args:
        file: the file of data.
        purpose: what the index is made of; one that was made for something else is another index.
    """
    stamp = stamp_of(file, purpose)
    for path in _places(file, purpose):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        checksum, packed = content[:32], content[32:]
        if hashlib.sha256(packed).digest() != checksum:
            continue
        with np.load(BytesIO(packed)) as stored:
            arrays = {name: stored[name] for name in stored.files}
        text = json.loads(arrays.pop(_TEXT).tobytes())
        if text["stamp"] == stamp:
            return Entry(text["told"], arrays)
    return None


def save_index(file: Path, purpose: str, entry: Entry, stamp: list[object]) -> Path | None:
    """Write the index of a file, whole or not at all; return where, or None if it can be written nowhere.

    Args:
        file: the file of data.
        purpose: what the index is made of.
        entry: what it holds.
        stamp: of the file before it was read; nothing is written of one that has changed since.
    """
    if stamp_of(file, purpose) != stamp:
        return None
    text = json.dumps({"stamp": stamp, "told": entry.text}).encode()
    packed = BytesIO()
    np.savez(packed, **{_TEXT: np.frombuffer(text, np.uint8)}, **entry.arrays)  # type: ignore[arg-type]
    content = packed.getvalue()
    for path in _places(file, purpose):
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            partial.write_bytes(hashlib.sha256(content).digest() + content)
            partial.replace(path)
            return path
    return None


def stamp_of(file: Path, purpose: str) -> list[object]:
    """Return what differs if the file was changed: a new time of change is given to it whatever its own time says."""
    found = file.stat()
    return [_FORMAT, purpose, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _places(file: Path, purpose: str) -> Iterator[Path]:
    """Yield where the index of a file may lie: beside it, and in the user's cache."""
    name = f"{file.name}.{hashlib.sha256(purpose.encode()).hexdigest()[:8]}"
    yield file.parent / FOLDER / name
    folder = hashlib.sha256(os.fsencode(os.path.abspath(file.parent))).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    yield Path(cache) / "motion-vla" / "index" / folder / name

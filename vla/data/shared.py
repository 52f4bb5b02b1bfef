"""Hands one object to many processes by a file: its arrays are mapped from there, not sent to each process."""

from __future__ import annotations

import mmap
import pickle
from pathlib import Path
from typing import Any

import numpy as np

_ALIGNMENT = 64


class Shared:
    """An object that other processes get by the path of its file; there, `held` is loaded when this is unpickled.

    The file must stay until they have loaded it. Their arrays lie in the file's pages, which they share; what one
    process writes into them, no other sees.

    Attributes:
        held: the object.
    """

    def __init__(self, held: Any, path: Path) -> None:  # noqa: ANN401 - whatever can be pickled
        buffers: list[pickle.PickleBuffer] = []
        objects = pickle.dumps(held, protocol=5, buffer_callback=buffers.append)
        parts = [memoryview(objects), *(buffer.raw() for buffer in buffers)]
        header = np.array([len(parts), *(part.nbytes for part in parts)], np.int64).tobytes()
        with path.open("wb") as file:
            for part in (memoryview(header), *parts):
                file.write(part)
                file.write(bytes(-part.nbytes % _ALIGNMENT))
        self.held = held
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path alone."""
        return _loaded, (self._path,)


def _loaded(path: Path) -> Shared:
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    count = int(np.frombuffer(mapped, np.int64, 1)[0])
    sizes = np.frombuffer(mapped, np.int64, count, offset=8).tolist()
    at, parts = _aligned(8 * (count + 1)), []
    for size in sizes:
        parts.append(mapped[at : at + size])
        at += _aligned(size)
    shared = Shared.__new__(Shared)
    shared.held, shared._path = pickle.loads(parts[0], buffers=parts[1:]), path
    return shared


def _aligned(size: int) -> int:
    return size + -size % _ALIGNMENT

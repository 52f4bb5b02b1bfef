"""Rendered images as `vla-eval render` stores them: an archive of encoded images, or (earlier) a raw array."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla.data.errors import DataError, Where, reading
from vla.data.frames import Image, decode, picture

ENDINGS = (".zip", ".npy")
"""Of files of images; the first that is there is read."""

_LOCAL_HEADER = 30
_KNOWN_ARCHIVES = 65_536


@dataclass(frozen=True, eq=False)
class DrawnFrames:
    """Every k-th image of an episode, in one file; any one is read without the others.

    Attributes:
        where: file and episode.
        every: control steps from one image to the next.
        steps: control steps of the episode.
    """

    where: Where
    every: int
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Image:
        if self.where.file.suffix == ".npy":
            number = self._number(step)
            with reading(self.where, f"cannot read the image of step {step}"):
                return picture(np.array(self._raw()[number]))
        return decode(self.encoded(step)[0], self.where, step)

    def encoded(self, step: int) -> tuple[bytes, str]:
        """Return the stored bytes of an image and their format, such as "webp"; their checksum is verified.

        Raises:
            DataError: the step was not drawn, or the file is damaged or a raw array.
        """
        number = self._number(step)
        with reading(self.where, f"cannot read the image of step {step}"):
            place = _places_of(self.where.file)[number]
            with self.where.file.open("rb") as file:
                file.seek(place.offset)
                content = file.read(place.size)
            if zlib.crc32(content) != place.checksum:
                raise DataError(self.where, f"the image of step {step} is damaged (checksum). {_AGAIN}")
            return content, place.format

    def check(self) -> None:
        """See that there are as many images as the episode has steps for; none is decoded.

        Raises:
            DataError: it is no such file, or holds more or fewer images.
        """
        with reading(self.where, "cannot read the images"):
            expected = -(-self.steps // self.every)
            if self.where.file.suffix == ".npy":
                shape = self._raw().shape
                wrong = f"images of shape {shape}" if len(shape) != 4 or shape[0] != expected else ""
            else:
                steps = [place.step for place in _places_of(self.where.file)]
                wrong = "" if steps == list(range(0, self.steps, self.every)) else f"{len(steps)} images"
            if wrong:
                raise DataError(self.where, f"holds {wrong}; {expected} are expected for {self.steps} steps. {_AGAIN}")

    def _number(self, step: int) -> int:
        if step % self.every:
            raise DataError(self.where, f"holds every {self.every}th image; step {step} was not drawn.")
        return step // self.every

    def _raw(self) -> NDArray[np.generic]:
        images: NDArray[np.generic] = np.load(self.where.file, mmap_mode="r")
        return images


_AGAIN = "Remove the file; vla-eval render draws it again."


class _Place(NamedTuple):
    """Where in an archive an image lies."""

    step: int
    format: str
    offset: int
    size: int
    checksum: int


def _places_of(path: Path) -> tuple[_Place, ...]:
    found = path.stat()
    return _places(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=_KNOWN_ARCHIVES)
def _places(path: Path, size: int, changed_ns: int) -> tuple[_Place, ...]:
    """Read the directory of an archive once per process, and again if the file is another."""
    places = []
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its entry {entry.filename!r} is compressed, which no renderer of ours writes")
            step, _, ending = entry.filename.partition(".")
            file.seek(entry.header_offset + _LOCAL_HEADER - 4)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            offset = entry.header_offset + _LOCAL_HEADER + name + extra
            places.append(_Place(int(step), ending, offset, entry.file_size, entry.CRC))
    return tuple(places)


def drawn_files(view: Path) -> dict[str, dict[str, Path]]:
    """Return name of the trace -> camera -> file of its images.

    Args:
        view: folder of rendered images.
    """
    drawn: dict[str, dict[str, Path]] = {}
    for ending in reversed(ENDINGS):
        for path in sorted(view.glob(f"[!.]*.*{ending}")):
            if not path.name.endswith(f".partial{ending}"):
                trace, camera = path.name.removesuffix(ending).rsplit(".", 1)
                drawn.setdefault(trace, {})[camera] = path
    return drawn


def every_of(view: Path) -> int:
    """Return the control steps between images that a view's name says: 4 for "256px-every4" and "256px-every4-jpeg"."""
    return int(view.name.rpartition("every")[2].partition("-")[0])

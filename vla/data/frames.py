"""One camera's images over an episode, decoded when they are asked for.

Every class here holds places (byte ranges, rows, timestamps), never pixels, so that the episodes of a whole dataset fit
into memory, travel to loader workers cheaply, and any step of any episode can be read without its neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Protocol

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from vla.data.errors import DataError, Where

Image = NDArray[np.uint8]
"""`[height, width, 3]` uint8 RGB, upright."""

_OPEN_FILES = 8
_CACHED_ROW_GROUPS = 4


class Frames(Protocol):
    """A sequence of images; `frames[step]` reads and decodes one."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int) -> Image: ...


@dataclass(frozen=True, eq=False)
class FileFrames:
    """Encoded images that lie in a file at known places (TFRecord).

    Attributes:
        where: file, episode and feature.
        spans: `[T, 2]` offset and size in bytes.
    """

    where: Where
    spans: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, step: int) -> Image:
        offset, size = self.spans[step]
        with _reading(self.where, step), self.where.file.open("rb") as file:
            file.seek(offset)
            return decode(file.read(size), self.where, step)


@dataclass(frozen=True, eq=False)
class ParquetFrames:
    """Encoded images in a parquet column of `struct<bytes, path>` (LeRobot's image features).

    Parquet is read by the row group: a writer that wants fast random access makes row groups short.

    Attributes:
        where: file, episode and column.
        rows: `[T]` rows of the file.
    """

    where: Where
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, step: int) -> Image:
        row = int(self.rows[step])
        with _reading(self.where, step):
            starts = _row_group_starts(self.where.file)
            group = int(np.searchsorted(starts, row, side="right")) - 1
            column = _row_group(self.where.file, group, self.where.field)
            encoded = column[row - int(starts[group])].as_py()
        if encoded is None:
            raise DataError(self.where, f"step {step} holds no image bytes; embed the images in the parquet file.")
        return decode(encoded, self.where, step)


@dataclass(frozen=True, eq=False)
class VideoFrames:
    """Frames of a video file (LeRobot's video features), found by timestamp.

    Attributes:
        where: file, episode and camera.
        seconds: `[T]` presentation time of each step in the file.
        tolerance: largest distance in seconds between a step and its frame.
    """

    where: Where
    seconds: NDArray[np.float64]
    tolerance: float

    def __len__(self) -> int:
        return len(self.seconds)

    def __getitem__(self, step: int) -> Image:
        target = float(self.seconds[step])
        with _reading(self.where, step), av.open(str(self.where.file)) as container:
            stream = container.streams.video[0]
            container.seek(round(target / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time is not None and abs(frame.time - target) <= self.tolerance:
                    pixels: Image = frame.to_ndarray(format="rgb24")
                    return pixels
                if frame.time is not None and frame.time > target:
                    break
        raise DataError(self.where, f"the video has no frame at {target:.3f} s (step {step}); is it cut short?")


@dataclass(frozen=True, eq=False)
class Hdf5Frames:
    """Raw pixels in an HDF5 dataset `[N, H, W, 3]`.

    Attributes:
        where: file, episode and the dataset's path in it.
        rows: `[T]` entries along the first axis.
        upside_down: whether images are stored turned by 180 degrees, as robosuite renders them.
    """

    where: Where
    rows: NDArray[np.int64]
    upside_down: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, step: int) -> Image:
        with _reading(self.where, step):
            pixels: Image = _hdf5(self.where.file, os.getpid())[self.where.field][int(self.rows[step])]
        return np.ascontiguousarray(pixels[::-1, ::-1]) if self.upside_down else pixels


@dataclass(frozen=True, eq=False)
class ArrayFrames:
    """Images that are in memory already, `[T, H, W, 3]` uint8 RGB, upright."""

    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, step: int) -> Image:
        image: Image = self.pixels[step]
        return image


def decode(encoded: bytes, where: Where, step: int) -> Image:
    """Decode a JPEG or PNG (or whatever Pillow knows) to RGB.

    Raises:
        DataError: the bytes are no image, or the image is cut short.
    """
    try:
        with Pillow.open(BytesIO(encoded)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(where, f"cannot decode the image of step {step} ({len(encoded)} bytes): {error}.") from error


def resize(image: Image, size: int) -> Image:
    """Resize to `[size, size, 3]` with Pillow's Lanczos filter; an image of that size is returned as it is."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Pillow.fromarray(image).resize((size, size), Pillow.Resampling.LANCZOS))


@contextmanager
def _reading(where: Where, step: int) -> Iterator[None]:
    """Say where a file failed that was fine when the dataset was opened."""
    try:
        yield
    except (OSError, KeyError, IndexError, pa.ArrowException, av.FFmpegError) as error:
        raise DataError(where, f"cannot read the image of step {step}: {error!r}.") from error


@lru_cache(maxsize=_OPEN_FILES)
def _hdf5(path: Path, process: int) -> h5py.File:
    """Open a file once per process; a forked process must not use its parent's."""
    return h5py.File(path, "r")


@lru_cache(maxsize=_OPEN_FILES)
def _parquet(path: Path) -> pyarrow.parquet.ParquetFile:
    """Open a file once per process; its footer is dear to parse."""
    return pyarrow.parquet.ParquetFile(path, memory_map=True)


@lru_cache(maxsize=_OPEN_FILES)
def _row_group_starts(path: Path) -> NDArray[np.int64]:
    """First row of each row group."""
    metadata = _parquet(path).metadata
    lengths = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return np.cumsum([0, *lengths[:-1]], dtype=np.int64)


@lru_cache(maxsize=_CACHED_ROW_GROUPS)
def _row_group(path: Path, group: int, column: str) -> pa.Array:
    """Return the encoded images of a row group."""
    table = _parquet(path).read_row_group(group, columns=[f"{column}.bytes"], use_threads=False)
    return table.column(column).combine_chunks().field("bytes")

"""One camera's images over an episode, decoded when they are asked for.

Every class here holds places (byte ranges, rows, timestamps), never pixels, so that the episodes of a whole dataset fit
into memory, travel to loader workers cheaply, and any step of any episode can be read without its neighbours.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
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

from vla.data.errors import DataError, Where, reading

Image = NDArray[np.uint8]
"""`[height, width, 3]` uint8 RGB, upright."""

_OPEN_FILES = 8
_CACHED_ROW_GROUPS = 4
# Pillow knows formats that run programs (EPS). A small file can declare any size; no robot's camera has as many pixels.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_MOST_PIXELS = 50_000_000


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
        total: frames that the file must have; 0 where it holds other episodes too.
    """

    where: Where
    seconds: NDArray[np.float64]
    tolerance: float
    total: int = 0

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

    def render(self) -> None:
        """Decode the video once and see that every step has one frame.

        Raises:
            DataError: it cannot be decoded, or has more or fewer frames.
        """
        first, last = float(self.seconds[0]) - self.tolerance, float(self.seconds[-1]) + self.tolerance
        with reading(self.where, "cannot read the video"), av.open(str(self.where.file)) as container:
            stream = container.streams.video[0]
            if not self.total:
                container.seek(round(self.seconds[0] / stream.time_base), stream=stream)
            times = []
            for frame in container.decode(stream):
                if not self.total and frame.time > last:
                    break
                times.append(frame.time)
        if self.total and len(times) != self.total:
            self._miscounted(len(times), self.total)
        shown = np.sort([time for time in times if first <= time <= last])
        if len(shown) != len(self) or np.abs(shown - self.seconds).max() > self.tolerance:
            self._miscounted(len(shown), len(self))

    def _miscounted(self, frames: int, steps: int) -> None:
        raise DataError(
            self.where, f"the video has {frames} frames for {steps} steps; which step a frame shows cannot be known."
        )


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
            pixels = picture(_hdf5(self.where.file, os.getpid())[self.where.field][int(self.rows[step])])
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
    failing = f"cannot decode the image of step {step} ({len(encoded)} bytes)"
    with reading(where, failing):
        try:
            image = Pillow.open(BytesIO(encoded), formats=_FORMATS)
        except UnidentifiedImageError:  # its text is the address of an object of ours
            raise DataError(where, f"{failing}: it is none of {', '.join(_FORMATS)}.") from None
        with image:
            if image.width * image.height > _MOST_PIXELS:
                raise DataError(where, f"{failing}: it declares {image.width} x {image.height} pixels.")
            return np.asarray(image.convert("RGB"))


def picture(pixels: NDArray[np.generic]) -> Image:
    """Return an array if it is one image.

    Raises:
        ValueError: it has another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"shape {pixels.shape} of {pixels.dtype}; [height, width, 3] of uint8 is expected")
    image: Image = pixels  # type: ignore[assignment]  # the type was compared
    return image


def presentation_times(where: Where) -> NDArray[np.float64]:
    """Return the times in seconds of all frames of a video, in order; nothing is decoded.

    Raises:
        DataError: the file is no readable video.
    """
    with reading(where, "cannot read the video"), av.open(str(where.file)) as container:
        stream = container.streams.video[0]
        times = [float(packet.pts * stream.time_base) for packet in container.demux(stream) if packet.pts is not None]
    return np.sort(times)


def resize(image: Image, size: int) -> Image:
    """Resize to `[size, size, 3]` with Pillow's Lanczos filter; an image of that size is returned as it is."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Pillow.fromarray(image).resize((size, size), Pillow.Resampling.LANCZOS))


def _reading(where: Where, step: int) -> AbstractContextManager[None]:
    """Say where a file failed that was fine when the dataset was opened."""
    return reading(where, f"cannot read the image of step {step}")


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

"""Rendered images of one camera of one episode in one file: encoded, verified, and each readable alone.

The file is a ZIP archive without compression of its own, with an entry for each image: `000012.webp` is what the camera
saw before control step 12. Any tool opens it, the archive keeps a checksum of every entry, and its directory stands at
the end, so that a file that was cut off is none. A file appears under its name when all of its images were read back.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from evals.errors import RecordError
from evals.types import Image

ImageFormat: TypeAlias = Literal["webp", "png", "jpeg"]
"""How images are stored: lossless WebP, PNG (lossless), or JPEG of quality 95 (the smallest, and not lossless)."""

SUFFIX = ".zip"
RAW = ".npy"
"""Images as a raw array `[n, H, W, 3]`: how versions before this format stored them."""

_OPTIONS: dict[str, dict[str, object]] = {
    "webp": {"lossless": True, "quality": 75, "method": 2},  # more effort: 5 % smaller, twice the time
    "png": {"compress_level": 6},
    "jpeg": {"quality": 95},
}
_ENDING = {"webp": "webp", "png": "png", "jpeg": "jpg"}


def is_lossless(image_format: ImageFormat) -> bool:
    """Return whether images come back as they were rendered."""
    return image_format != "jpeg"


def save_pictures(path: Path, images: Sequence[Image], every: int, image_format: ImageFormat) -> None:
    """Write the images of an episode to a new file, and read every one of them back before the file gets its name.

    Args:
        path: the file; its folder is made.
        images: `[H, W, 3]` uint8 RGB, one for each `every`-th control step.
        every: number of control steps between images.
        image_format: how they are encoded.

    Raises:
        RecordError: what was read back differs from what was written.
        OSError: the file cannot be written, for example because the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:  # Pillow's codecs let other threads run
        encoded = list(threads.map(lambda image: _encoded(image, image_format), images))
    with partial.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for number, content in enumerate(encoded):
                # The default date of an entry, so that equal images make equal files.
                archive.writestr(zipfile.ZipInfo(f"{number * every:06d}.{_ENDING[image_format]}"), content)
        file.flush()
        os.fsync(file.fileno())
    stored = load_pictures(partial)
    expected = np.stack(images)
    if stored.shape != expected.shape or (is_lossless(image_format) and not np.array_equal(stored, expected)):
        partial.unlink()
        raise RecordError(f"{path}: images that were read back differ from those that were written. Check the disk.")
    partial.replace(path)


def load_pictures(path: Path) -> NDArray[np.uint8]:
    """Read all images of a file, `[n, H, W, 3]` uint8 RGB, from this format or a raw array.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: the file is damaged.
    """
    from PIL import Image as Pillow

    if path.suffix == RAW:
        raw: NDArray[np.uint8] = np.load(path)
        return raw
    with zipfile.ZipFile(path) as archive:
        formats = [name.upper() for name in get_args(ImageFormat)]
        opened = [Pillow.open(BytesIO(archive.read(name)), formats=formats) for name in archive.namelist()]
    return np.stack([np.asarray(image.convert("RGB")) for image in opened])


def count_pictures(path: Path) -> int | None:
    """Return how many images a file holds, or None if it is missing or not whole; no image is decoded."""
    try:
        if path.suffix == RAW:
            return len(np.load(path, mmap_mode="r"))
        with zipfile.ZipFile(path) as archive:
            return len(archive.namelist())
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def repack(folder: Path, every: int, image_format: ImageFormat) -> int:
    """Rewrite the raw arrays of a folder in a lossless format; return how many files were rewritten.

    A raw array is removed when the file that takes its place was read back and is equal.
    """
    raw = [path for path in sorted(folder.glob(f"[!.]*.*{RAW}")) if count_pictures(path) is not None]
    for path in raw:
        save_pictures(path.with_suffix(SUFFIX), list(load_pictures(path)), every, image_format)
        path.unlink()
    return len(raw)


def _encoded(image: Image, image_format: ImageFormat) -> bytes:
    from PIL import Image as Pillow

    buffer = BytesIO()
    Pillow.fromarray(image).save(buffer, image_format.upper(), **_OPTIONS[image_format])
    return buffer.getvalue()

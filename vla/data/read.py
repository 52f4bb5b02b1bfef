"""One door to all formats: which reader a folder needs is seen from what lies in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vla.data.demos import MANIFEST, read_demos
from vla.data.episode import Episode
from vla.data.errors import DataError, OnBad, Where, fail
from vla.data.lerobot import read_lerobot
from vla.data.libero_hdf5 import read_libero_hdf5
from vla.data.oxe import layout_named
from vla.data.rlds import read_rlds


@dataclass(frozen=True)
class ReadOptions:
    """What a reader needs to be told.

    Attributes:
        layout: Name of the action layout; by default that of the dataset's name, or what the dataset declares.
        split: Split of an RLDS dataset.
        keep_noops: Whether to keep the steps of LIBERO's HDF5 files that do nothing.
        view: Which drawn images of recorded demonstrations to use, where there are several.
    """

    layout: str | None = None
    split: str = "train"
    keep_noops: bool = False
    view: str | None = None


def dataset_format(directory: Path) -> str:
    """Return "demos", "lerobot", "libero_hdf5" or "rlds".

    Raises:
        DataError: the folder is missing, or holds none of them.
    """
    if not directory.is_dir():
        raise DataError(Where(directory), "is no folder.")
    if (directory / MANIFEST).is_file():
        return "demos"
    if (directory / "meta/info.json").is_file():
        return "lerobot"
    if any(directory.glob("*.hdf5")):
        return "libero_hdf5"
    if (directory / "features.json").is_file() or any(directory.glob("*/features.json")):
        return "rlds"
    raise DataError(
        Where(directory),
        f"is no dataset of a known format: demonstrations have {MANIFEST}, LeRobot has meta/info.json, RLDS (TFDS) "
        "features.json, LIBERO *.hdf5 files.",
    )


def read_episodes(directory: Path, options: ReadOptions | None = None, on_bad: OnBad = fail) -> Iterator[Episode]:
    """Yield the episodes of a dataset of any format.

    Raises:
        DataError: the dataset as a whole cannot be read, or what `on_bad` raises for one episode.
    """
    options = options or ReadOptions()
    layout = layout_named(options.layout, directory) if options.layout else None
    match dataset_format(directory):
        case "demos":
            return read_demos(directory, options.view, on_bad)
        case "lerobot":
            return read_lerobot(directory, layout, on_bad)
        case "libero_hdf5":
            return read_libero_hdf5(directory, options.keep_noops, on_bad)
        case _:
            return read_rlds(directory, options.split, layout, on_bad)

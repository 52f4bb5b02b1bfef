"""Reads datasets of all formats: the files in a folder decide which reader is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla.data.demonstration import Demonstration
from vla.data.demos import MANIFEST, read_demos
from vla.data.errors import DataError, OnBad, UnknownLayoutError, Where, fail
from vla.data.layout import Layout
from vla.data.lerobot import read_lerobot
from vla.data.libero_hdf5 import read_libero_hdf5
from vla.data.oxe import layout_named
from vla.data.rlds import read_rlds
from vla.data.verify import verified, with_fits


@dataclass(frozen=True)
class ReadOptions:
    """Options of the readers.

    Attributes:
        layout: Name of the action layout; by default the layout that is known for the dataset's name, or that the
            dataset declares. For several folders, give each its own layout: FOLDER=NAME,FOLDER=NAME.
        split: Name of the split to read from an RLDS dataset.
        keep_noops: Keep the steps of LIBERO's HDF5 files in which the robot does nothing.
        view: Name of the folder of rendered images to use, if recorded demonstrations have several.
    """

    layout: str | None = None
    split: str = "train"
    keep_noops: bool = False
    view: str | None = None


def dataset_format(directory: Path) -> str:
    """Return "demos", "lerobot", "libero_hdf5" or "rlds".

    Raises:
        DataError: the folder is missing, or holds no dataset of a known format.
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


def read_episodes(directory: Path, options: ReadOptions | None = None, on_bad: OnBad = fail) -> Iterator[Demonstration]:
    """Yield the episodes of a dataset of any format, and compare its numbers with its layout.

    Episodes in which the layout keeps no step are left out, and counted in a warning of the logger `vla.data`. Numbers
    that are only likely to be wrong are warned of in the same way (`vla.data.evidence.doubts`).

    Raises:
        DataError: the dataset as a whole cannot be read, or `on_bad` raises it for one episode.
        UnknownLayoutError: the meaning of the actions is unknown; the message says which layouts the numbers fit.
        ContradictedLayoutError: the numbers contradict the layout.
    """
    options = options or ReadOptions()
    kind = dataset_format(directory)
    named = layout_for(directory, options.layout)
    if named and kind in ("demos", "libero_hdf5"):
        raise DataError(
            Where(directory), f"is of format {kind}, which says itself what its actions mean; leave --layout out."
        )

    def read(layout: Layout | None, on_bad: OnBad) -> Iterator[Demonstration]:
        match kind:
            case "demos":
                return read_demos(directory, options.view, on_bad)
            case "lerobot":
                return read_lerobot(directory, layout, on_bad)
            case "libero_hdf5":
                return read_libero_hdf5(directory, options.keep_noops, on_bad)
            case _:
                return read_rlds(directory, options.split, layout, on_bad)

    try:
        return verified(directory, read, layout_named(named, directory) if named else None, on_bad)
    except UnknownLayoutError as error:
        raise with_fits(error, directory, read) from None


def layout_for(directory: Path, option: str | None) -> str | None:
    """Return the layout that `--layout` names for a folder, or None.

    Args:
        directory: the folder.
        option: the value of `--layout`: "NAME" for every folder, or "FOLDER=NAME,FOLDER=NAME".
    """
    if option is None or "=" not in option:
        return option
    named = [name for folder, name in _pairs(option) if _is(directory, folder)]
    return named[-1] if named else None


def check_layouts(option: str | None, directories: Sequence[Path]) -> None:
    """Check that `--layout` names at most one layout for each folder that is read, and none for other folders.

    Raises:
        DataError: one name stands for several folders, or a folder is not read, or stands for several that are.
    """
    if option is None:
        return
    if "=" not in option:
        if len(directories) > 1:
            each = ",".join(f"{directory.name}={option}" for directory in directories)
            raise DataError(
                Where(directories[0]),
                f"--layout {option} names one layout for {len(directories)} folders; say it of each that needs it, as "
                f"--layout {each}.",
            )
        return
    for folder, name in _pairs(option):
        meant = [directory for directory in directories if _is(directory, folder)]
        if len(meant) != 1 or not name:
            read = ", ".join(map(str, directories))
            raise DataError(
                Where(Path(folder)), f"--layout {folder}={name} stands for {len(meant)} of the folders read: {read}."
            )


def _pairs(option: str) -> list[tuple[str, str]]:
    return [(folder.strip(), name.strip()) for folder, _, name in (part.rpartition("=") for part in option.split(","))]


def _is(directory: Path, folder: str) -> bool:
    return folder == directory.name or Path(folder).resolve() == directory.resolve()

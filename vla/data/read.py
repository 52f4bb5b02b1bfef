"""One door to all formats: which reader a folder needs is seen from what lies in it."""

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
    """What a reader needs to be told.

    Attributes:
        layout: Name of the action layout; by default that of the dataset's name, or what the dataset declares. Of
            several folders, each says its own: FOLDER=NAME,FOLDER=NAME.
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


def read_episodes(directory: Path, options: ReadOptions | None = None, on_bad: OnBad = fail) -> Iterator[Demonstration]:
    """Yield the episodes of a dataset of any format, and hold its numbers against its layout.

    Episodes of which the layout leaves no step are left out, and counted in a warning of the logger `vla.data`; so is
    what is only likely to be wrong (`vla.data.evidence.doubts`).

    Raises:
        DataError: the dataset as a whole cannot be read, or what `on_bad` raises for one episode.
        UnknownLayoutError: nobody says what its actions mean; the message says which layouts its numbers fit.
        ContradictedLayoutError: its numbers are not what its layout says.
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


def layout_for(directory: Path, told: str | None) -> str | None:
    """Return the layout that `--layout` names for a folder, or None.

    Args:
        directory: the folder.
        told: "NAME" for whatever is read, or "FOLDER=NAME,FOLDER=NAME".
    """
    if told is None or "=" not in told:
        return told
    named = [name for folder, name in _pairs(told) if _is(directory, folder)]
    return named[-1] if named else None


def check_layouts(told: str | None, directories: Sequence[Path]) -> None:
    """Return if `--layout` says one thing of each folder at most, and of no other.

    Raises:
        DataError: one name for several folders, or a folder that is not read or not told apart.
    """
    if told is None:
        return
    if "=" not in told:
        if len(directories) > 1:
            each = ",".join(f"{directory.name}={told}" for directory in directories)
            raise DataError(
                Where(directories[0]),
                f"--layout {told} names one layout for {len(directories)} folders; say it of each that needs it, as "
                f"--layout {each}.",
            )
        return
    for folder, name in _pairs(told):
        meant = [directory for directory in directories if _is(directory, folder)]
        if len(meant) != 1 or not name:
            read = ", ".join(map(str, directories))
            raise DataError(
                Where(Path(folder)), f"--layout {folder}={name} stands for {len(meant)} of the folders read: {read}."
            )


def _pairs(told: str) -> list[tuple[str, str]]:
    return [(folder.strip(), name.strip()) for folder, _, name in (part.rpartition("=") for part in told.split(","))]


def _is(directory: Path, folder: str) -> bool:
    return folder == directory.name or Path(folder).resolve() == directory.resolve()

"""Recorded demonstrations in other formats, written by plugins; each export is complete and up to date, or absent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from evals.demos.pictures import RAW, SUFFIX
from evals.errors import RecordError
from evals.types import digest

STAMPS = "exports.json"
"""A file in a demonstration folder: name of a format -> identity of the demonstrations that were exported to it."""

Export = Callable[[Path, Path], None]


def bring_up_to_date(folder: Path, manifest: Mapping[str, object], exporters: Mapping[str, Export]) -> None:
    """Export a demonstration folder to every format, unless an export of exactly these demonstrations exists.

    An export is written to a temporary folder and renamed when it is complete, so a killed export leaves none.

    Args:
        folder: the demonstration folder; each format gets a folder in it.
        manifest: manifest of the demonstration folder.
        exporters: name of a format -> function of the demonstration folder and the folder to write.

    Raises:
        RecordError: the disk is full, or cannot be written.
    """
    identity = digest([manifest, _drawn(folder)])
    for name, export in exporters.items():
        target, partial, old = folder / name, folder / f"{name}.partial", folder / f"{name}.old"
        if target.exists() and _stamps(folder).get(name) == identity:
            continue
        for left in (partial, old):  # by an earlier start that was killed
            shutil.rmtree(left, ignore_errors=True)
        try:
            export(folder, partial)
            if target.exists():
                target.rename(old)
            partial.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            _stamp(folder, name, identity)
        except OSError as error:
            raise RecordError(
                f"{target} cannot be written: {error}. The demonstrations stay; the same command writes it."
            ) from error


def _drawn(folder: Path) -> list[tuple[str, int]]:
    """Return the image files and their sizes; they are part of the identity, since a format may contain images."""
    files = sorted(path for path in (folder / "images").rglob("*") if path.suffix in (SUFFIX, RAW))
    return [(file.relative_to(folder).as_posix(), file.stat().st_size) for file in files]


def _stamps(folder: Path) -> Mapping[str, object]:
    try:
        stamps = json.loads((folder / STAMPS).read_text())
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _stamp(folder: Path, name: str, identity: str) -> None:
    partial = folder / f"{STAMPS}.partial"
    partial.write_text(json.dumps({**_stamps(folder), name: identity}, indent=1) + "\n")
    partial.replace(folder / STAMPS)

"""Looks at every picture of a dataset once, and remembers what was seen."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, cast

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vla.data.drawn import DrawnFrames
from vla.data.errors import DataError, Where, reading
from vla.data.frames import Frames, VideoFrames

INDEX = ".vla-looked.jsonl"
"""Name of the index in a dataset's folder: a line for each camera of each episode, what is wrong with it or ""."""

# Counts changes of what is looked for: what an older version found sound is looked at again.
_FORMAT = 1
_FEW = 64


def look_at(frames: Sequence[Frames], index: Path, title: str) -> list[DataError | None]:
    """Decode every image of every camera, but for those that the index knows, and say what is wrong with each.

    Args:
        frames: cameras of episodes.
        index: file of what was seen before, keyed by the places of the images and the size and time of their files;
            what is seen now is added to it. Where it cannot be written, nothing is remembered.
        title: of the progress bar.

    Returns:
        One error, or None, for each of `frames`.
    """
    keys = [identity(one, index.parent) for one in frames]
    known = _read(index)
    unknown = [number for number, key in enumerate(keys) if key not in known]
    lost = "a process that looked at pictures ended; leave this out with --no-check-images"
    with _Writer(index) as writer, reading(Where(index.parent), lost):
        for number, problem in zip(unknown, _looks([frames[n] for n in unknown], title), strict=True):
            known[keys[number]] = problem
            writer.add(keys[number], problem)
    return [
        DataError(getattr(one, "where", Where(index.parent)), known[key]) if known[key] else None
        for one, key in zip(frames, keys, strict=True)
    ]


def identity(frames: Frames, root: Path | None = None) -> str:
    """Return a hash of where images lie, and of size and time of the file that they lie in.

    Args:
        frames: one camera of one episode.
        root: folder from which the file's path counts; by default the path is absolute.
    """
    digest = hashlib.sha256(f"{_FORMAT} {type(frames).__name__}".encode())
    for field in fields(frames):  # type: ignore[arg-type]  # every kind of frames is a dataclass of places
        value = getattr(frames, field.name)
        if isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Where):
            digest.update(f"{_stamp(value.file, root)} {value.episode} {value.field}".encode("utf-8", "surrogatepass"))
        else:
            digest.update(repr(value).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]


def _stamp(file: Path, root: Path | None) -> tuple[str, int, int]:
    path = os.path.abspath(file)
    try:
        found = os.stat(path)
    except OSError:
        return path, -1, -1
    return (os.path.relpath(path, os.path.abspath(root)) if root else path), found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class _Look:
    """The verdicts on cameras as a sequence, for the workers of torch's loader, which end when their parent does."""

    frames: Sequence[Frames]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int) -> str:
        frames = self.frames[number]
        try:
            if isinstance(frames, VideoFrames):
                frames.render()
            else:
                for step in range(0, len(frames), frames.every if isinstance(frames, DrawnFrames) else 1):
                    _ = frames[step]
        except DataError as error:
            return error.problem
        return ""


def _looks(frames: Sequence[Frames], title: str) -> Iterator[str]:
    """Yield what is wrong with each camera, or "", under a bar of progress."""
    looked = _Look(frames)
    looks: Iterable[str] = (looked[number] for number in range(len(frames)))
    processes = len(os.sched_getaffinity(0))
    if len(frames) >= _FEW and processes > 1:
        from torch.utils.data import DataLoader, Dataset

        looks = DataLoader(
            cast(Dataset[str], looked),
            batch_size=None,
            num_workers=min(processes, 16),
            multiprocessing_context="forkserver",
        )
    console = Console(file=sys.stderr)
    columns = (TextColumn(title), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        yield from bar.track(looks, total=len(frames))


def _read(index: Path) -> dict[str, str]:
    """Return what the index knows; a line that a kill cut off is as if it was not there."""
    known: dict[str, str] = {}
    try:
        lines = index.read_text("utf-8").split("\n")
    except (OSError, ValueError):
        return known
    for line in lines:
        try:
            key, problem = json.loads(line)
            known[str(key)] = str(problem)
        except (ValueError, TypeError):
            continue
    return known


class _Writer:
    """Appends to the index, as soon as something was seen."""

    def __init__(self, index: Path) -> None:
        self._file: IO[str] | None = None
        with suppress(OSError):  # the folder may belong to somebody else: then every start looks again
            self._file = index.open("a", encoding="utf-8")

    def __enter__(self) -> _Writer:
        return self

    def add(self, key: str, problem: str) -> None:
        """Write one verdict; it begins a line, whatever a kill left before it."""
        if self._file is not None:
            self._file.write(f"\n{json.dumps([key, problem])}")

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

"""What can be wrong with a dataset, and what a reader does about it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

_LFS = b"version https://git-lfs"
_LONGEST = 300

Yielded = TypeVar("Yielded")
Asked = ParamSpec("Asked")


@dataclass(frozen=True)
class Where:
    """The place of a fault.

    Attributes:
        file: file or folder.
        episode: name of the episode in it, or "".
        field: name of the feature, column, camera or action dimension, or "".
    """

    file: Path
    episode: str = ""
    field: str = ""

    def __str__(self) -> str:
        episode = f", episode {self.episode}" if self.episode else ""
        field = f", field {self.field!r}" if self.field else ""
        return f"{self.file}{episode}{field}"


class DataError(Exception):
    """A dataset cannot be read; the text names file, episode and field, and the way out.

    Attributes:
        where: the place of the fault.
        problem: what is wrong there.
        episodes: how many episodes are lost by it; None for a file of which nobody says how many it holds.
    """

    def __init__(self, where: Where, problem: str, episodes: int | None = 1) -> None:
        super().__init__(where, problem, episodes)
        self.where = where
        self.problem = problem
        self.episodes = episodes

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


class UnknownLayoutError(DataError):
    """Nobody says what the action numbers of a dataset mean."""


class ContradictedLayoutError(DataError):
    """The numbers of a dataset are not what its layout says."""


class NothingToLearnError(DataError):
    """A sound episode that no sample can come of: no instruction, no step that moves, too few steps, no image drawn.

    Readers always leave it out; it is counted and listed.
    """


OnBad = Callable[[DataError], None]
"""What a reader calls for an episode that it cannot read: `fail`, or `list.append` to leave it out and go on."""


def fail(error: DataError) -> None:
    """Stop at the first episode that cannot be read; one that there is nothing to learn from is left out."""
    if not isinstance(error, NothingToLearnError):
        raise error


@contextmanager
def reading(where: Where, failing: str = "cannot be read", episodes: int | None = 1) -> Iterator[None]:
    """Turn everything that decoding libraries raise on bytes that no writer wrote into a `DataError` of this place.

    They raise whatever their code runs into (`KeyError`, `zlib.error`, `MemoryError`, `RecursionError`, ...): no list
    of exceptions would be complete.

    Raises:
        DataError: for any exception inside; one that is a `DataError` already keeps its own place.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(where, f"{failing}: {lfs_pointer(where.file) or said(error)}", episodes) from error


def attempt(make: Callable[[], Yielded], where: Where, on_bad: OnBad) -> Iterator[Yielded]:
    """Yield what `make` returns, or report that it cannot be read."""
    try:
        with reading(where):
            made = make()
    except DataError as error:
        on_bad(error)
        return
    yield made


def reader(
    read: Callable[Concatenate[Path, Asked], Iterator[Yielded]],
) -> Callable[Concatenate[Path, Asked], Iterator[Yielded]]:
    """Make a generator over a dataset's folder raise `DataError` only."""

    @functools.wraps(read)
    def bordered(directory: Path, *args: Asked.args, **kwargs: Asked.kwargs) -> Iterator[Yielded]:
        with reading(Where(directory)):
            yield from read(directory, *args, **kwargs)

    return cast(Callable[Concatenate[Path, Asked], Iterator[Yielded]], bordered)


def said(error: BaseException) -> str:
    """Say an exception in one printable line."""
    text = printable(f"{type(error).__name__}: {error}").rstrip(".")
    return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...") + "."


def printable(text: str) -> str:
    """Return the text with control characters escaped: a file's text must not command the terminal that shows it."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", lambda found: ascii(found[0])[1:-1], text)


def lfs_pointer(file: Path) -> str:
    """Say that a file is the stand-in that git leaves where its large-file extension is not installed, else ""."""
    try:
        with file.open("rb") as opened:
            found = opened.read(len(_LFS)) == _LFS
    except OSError:
        return ""
    return "it is a Git LFS pointer and not the file itself; fetch it with `git lfs pull`." if found else ""

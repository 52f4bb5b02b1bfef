"""What can be wrong with a dataset, and what a reader does about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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
    """

    def __init__(self, where: Where, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


class UnknownLayoutError(DataError):
    """Nobody says what the action numbers of a dataset mean."""


class ContradictedLayoutError(DataError):
    """The numbers of a dataset are not what its layout says."""


class ShortEpisodeError(DataError):
    """An episode has no step left after what its layout leaves out."""


OnBad = Callable[[DataError], None]
"""What a reader calls for an episode that it cannot read: `fail`, or `list.append` to leave it out and go on."""


def fail(error: DataError) -> None:
    """Stop at the first bad episode."""
    raise error

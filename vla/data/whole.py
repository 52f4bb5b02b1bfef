"""Reads and checks a whole dataset: which episodes can be used, which were left out, and why."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from vla.data.demonstration import Demonstration
from vla.data.errors import DataError, NothingToLearnError, Where, printable
from vla.data.inspection import INDEX, look_at
from vla.data.read import ReadOptions, read_episodes
from vla.errors import TrainingError

_SHOWN = 5


@dataclass(frozen=True)
class SkipOptions:
    """What happens to data that cannot be read: damaged or missing files, numbers that contradict each other.

    Episodes that can be read but hold nothing to learn from (no instruction, no motion, too short) are always left out
    and listed.

    Attributes:
        skip_bad: Leave out and list data that cannot be read; --no-skip-bad stops at the first error instead.
        max_bad: Largest fraction of the episodes that may be left out because their data cannot be read; if there are
            more, the command stops.
    """

    skip_bad: bool = True
    max_bad: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a number that is not a fraction."""
        if not 0 <= self.max_bad <= 1:
            raise TrainingError(f"--max-bad {self.max_bad} is no share; a number from 0 to 1 is expected.")


@dataclass
class LeftOut:
    """What was left out of a dataset.

    Attributes:
        options: how much may be left out.
        bad: errors of data that cannot be read.
        empty: errors of episodes that hold nothing to learn from.
    """

    options: SkipOptions
    bad: list[DataError] = field(default_factory=list)
    empty: list[NothingToLearnError] = field(default_factory=list)

    def note(self, error: DataError) -> None:
        """Add the error of an episode or file that is left out.

        Raises:
            DataError: the data cannot be read, and --no-skip-bad is set.
        """
        if isinstance(error, NothingToLearnError):
            self.empty.append(error)
        elif self.options.skip_bad:
            self.bad.append(error)
        else:
            advice = f"{error.problem} Without --no-skip-bad, what cannot be read is left out and listed."
            raise DataError(error.where, advice, error.episodes) from error

    def lines(self) -> list[str]:
        """Return one line for each error."""
        return [printable(str(error)) for error in (*self.bad, *self.empty)]

    def summary(self) -> str:
        """Say in one line how much was left out and why, or ""."""
        kinds = Counter(error.problem.split(";")[0].split(":")[0].rstrip(".") for error in self.empty)
        parts = [f"{count} x {printable(kind)}" for kind, count in kinds.most_common(_SHOWN)]
        if self.bad:
            parts.insert(0, f"{len(self.bad)} x cannot be read, such as {printable(str(self.bad[0]))}")
        return "; ".join(parts)

    def excess(self, place: Path, kept: int, files: int) -> DataError | None:
        """Return an error if more episodes are lost than `max_bad` allows, else None.

        Args:
            place: folder of the dataset.
            kept: number of episodes that can be used.
            files: number of files that hold these episodes. An unreadable file whose number of episodes is unknown
                counts as many episodes as these files hold on average.
        """
        unknown = len({error.where.file for error in self.bad if error.episodes is None})
        lost = sum(error.episodes or 0 for error in self.bad) + unknown * math.ceil(max(kept, 1) / max(files, 1))
        total = lost + kept + len(self.empty)
        if not lost or lost / total <= self.options.max_bad:
            return None
        shown = ["", *(printable(str(error)) for error in self.bad[:_SHOWN])]
        if len(self.bad) > _SHOWN:
            shown.append(f"and {len(self.bad) - _SHOWN} more")
        problem = f"about {lost} of {total} episodes ({lost / total:.1%}) cannot be read"
        more = "\n  ".join(shown)
        return DataError(Where(place), f"{problem}; --max-bad allows {self.options.max_bad:.1%}.{more}", lost)


@dataclass(frozen=True)
class Whole:
    """A dataset that was read to its end.

    Attributes:
        episodes: the episodes that can be used; all have the same cameras and size of state.
        left_out: what cannot be used.
        excess: the error if more episodes are lost than the options allow, else None.
    """

    episodes: list[Demonstration]
    left_out: LeftOut
    excess: DataError | None


def read_whole(directory: Path, options: ReadOptions | None, skip: SkipOptions, images: bool) -> Whole:
    """Read every episode of a dataset; images stay in their files.

    Args:
        directory: folder of the dataset; an index of the images that were checked is written into it.
        options: options of the reader.
        skip: what happens to data that cannot be read.
        images: whether to decode every image that was not checked before.

    Raises:
        DataError: the dataset as a whole cannot be read, or an episode cannot be read and `skip` does not allow that.
    """
    left = LeftOut(skip)
    episodes = _alike(list(read_episodes(directory, options, left.note)), left)
    if images:
        episodes = _seen(directory, episodes, left)
    files = len({episode.where.file for episode in episodes})
    return Whole(episodes, left, left.excess(directory, len(episodes), files))


def _alike(episodes: list[Demonstration], left: LeftOut) -> list[Demonstration]:
    """Leave out the episodes whose size of state or cameras differ from those of most episodes."""
    kinds = Counter(map(_kind, episodes)).most_common(1)
    kept = []
    for episode in episodes:
        if _kind(episode) == kinds[0][0]:
            kept.append(episode)
            continue
        (size, cameras), (usual, common) = _kind(episode), kinds[0][0]
        problem = f"has {size} numbers of state and the cameras {', '.join(cameras) or 'none'}"
        left.note(DataError(episode.where, f"{problem}; most have {usual} and {', '.join(common) or 'none'}."))
    return kept


def _kind(episode: Demonstration) -> tuple[int, tuple[str, ...]]:
    return episode.state.shape[1], tuple(episode.cameras)


def _seen(directory: Path, episodes: list[Demonstration], left: LeftOut) -> list[Demonstration]:
    """Leave out the episodes with an image that cannot be decoded."""
    frames = [one for episode in episodes for one in episode.cameras.values()]
    errors = iter(look_at(frames, directory / INDEX, f"{printable(directory.name)}: looking at cameras of episodes"))
    kept = []
    for episode in episodes:
        found = [error for _ in episode.cameras if (error := next(errors))]
        if found:
            left.note(found[0])
        else:
            kept.append(episode)
    return kept

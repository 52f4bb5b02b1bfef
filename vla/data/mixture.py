"""Weighted mixtures of datasets, as one endless sequence of samples that is a function of its seed.

Sample `k` is computed from `k` alone: which dataset, which episode, which step. So ranks and loader workers share a
mixture by dividing positions, and to resume in the middle of an epoch, on any number of machines, takes one integer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla.data.demonstration import Demonstration
from vla.data.errors import DataError, Where
from vla.data.frames import Image, resize
from vla.motion.labellers import Labeller
from vla.motion.language import Motion, describe
from vla.statistics import ActionStatistics

Features = NDArray[np.float16]
_SHUFFLES = 128


@dataclass(frozen=True, eq=False)
class Source:
    """One dataset of a mixture.

    Attributes:
        episodes: its episodes.
        statistics: its stored action statistics, by which motion is labelled.
        cameras: which cameras a sample shows, in this order.
        weight: how often a step is seen, relative to a step of a source with weight 1 (the convention of the published
            Open X-Embodiment mixtures).

    Raises:
        ValueError: nothing in it can be shown.
        DataError: an episode lacks a camera.
    """

    episodes: Sequence[Demonstration]
    statistics: ActionStatistics
    cameras: tuple[str, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no sample can be drawn from."""
        _check(self)

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.statistics.dataset


@dataclass(frozen=True)
class MixtureConfig:
    """How samples are drawn.

    Attributes:
        seed: of the shuffle.
        image_size: side in pixels to which images are resized; None leaves them as they are stored.
        action_horizon: actions a sample holds.
        epoch: samples an epoch has; by default the steps of all sources.
    """

    seed: int = 0
    image_size: int | None = 224
    action_horizon: int = 1
    epoch: int | None = None


class Place(NamedTuple):
    """Which step of which episode of which source a sample is."""

    source: int
    episode: int
    step: int


@dataclass(frozen=True, eq=False)
class Sample:
    """One step, as a training batch is made of.

    Attributes:
        dataset: key of the action statistics.
        episode: name of the episode.
        step: step of the episode.
        instruction: the task in words, as the dataset has it.
        seen: one `[size, size, 3]` uint8 RGB for each of the source's cameras, or `[N, D]` features of them.
        state: `[S]` float32 in the dataset's own layout.
        actions: `[action_horizon, 7]` float32 in the robot's own units, gripper 1 = open; past the end of the episode
            the arm stands still and the gripper keeps its level.
        motion: the sentence of the step's motion, or "" without a labeller.
        position: of the sample in its mixture.
    """

    dataset: str
    episode: str
    step: int
    instruction: str
    seen: tuple[Image, ...] | Features
    state: NDArray[np.float32]
    actions: NDArray[np.float32]
    motion: str
    position: int = 0


View = Callable[["Mixture", int], tuple[Image, ...] | Features]
"""What is seen at a position of a mixture, a function of both."""


class Mixture:
    """An endless sequence of samples; `len` is an epoch.

    In an epoch every source gets its share, weight x steps, to the nearest sample, in shuffled order. A source goes
    through all its steps before it shows one again, also across epochs: with equal weights an epoch is every step once.

    Args:
        sources: what is mixed.
        labeller: of the motion sentences; None for none.
        config: how samples are drawn.
        view: what is seen; by default `Mixture.images`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        labeller: Labeller | None,
        config: MixtureConfig | None = None,
        view: View | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.config = config or MixtureConfig()
        self._labeller = labeller
        self._view = view or Mixture.images
        self._labels: dict[tuple[int, int], list[str]] = {}
        self._ends = [np.cumsum([episode.num_starts for episode in source.episodes]) for source in self.sources]
        weighted_steps = [(source.weight, int(ends[-1])) for source, ends in zip(self.sources, self._ends, strict=True)]
        self._counts = _shares(weighted_steps, self.config.epoch)

    def __len__(self) -> int:
        """Return the samples of an epoch."""
        return sum(self._counts)

    def __getitem__(self, position: int) -> Sample:
        """Read sample `position >= 0` of the endless sequence.

        Raises:
            DataError: an image cannot be read.
        """
        place = self.place(position)
        source = self.sources[place.source]
        episode = source.episodes[place.episode]
        return Sample(
            dataset=source.name,
            episode=episode.where.episode,
            step=place.step,
            instruction=episode.instruction,
            seen=self._view(self, position),
            state=episode.state[place.step],
            actions=_chunk(episode.actions, place.step, self.config.action_horizon),
            motion=self._sentences(place)[place.step] if self._labeller else "",
            position=position,
        )

    def images(self, position: int) -> tuple[Image, ...]:
        """Read the images of sample `position`, one for each camera of its source."""
        place = self.place(position)
        source = self.sources[place.source]
        images = tuple(source.episodes[place.episode].cameras[name][place.step] for name in source.cameras)
        size = self.config.image_size
        return images if size is None else tuple(resize(image, size) for image in images)

    def place(self, position: int) -> Place:
        """Say which step sample `position` is, without reading it."""
        source, start = self.start(position)
        ends = self._ends[source]
        episode = int(np.searchsorted(ends, start, side="right"))
        first = int(ends[episode - 1]) if episode else 0
        return Place(source, episode, self.sources[source].episodes[episode].start(start - first))

    def start(self, position: int) -> tuple[int, int]:
        """Say which source sample `position` is of, and which of the source's starts, counted over its episodes."""
        epoch, within = divmod(position, len(self))
        order = _order(self.config.seed, epoch, self._counts)
        source = int(order.sources[within])
        seen = epoch * self._counts[source] + int(order.occurrences[within])
        ends = self._ends[source]
        turn, place = divmod(seen, int(ends[-1]))
        return source, int(_shuffled(self.config.seed, source, turn, int(ends[-1]))[place])

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the order of samples; a state of another mixture must not be resumed."""
        sources = [(s.name, s.weight, e.tolist()) for s, e in zip(self.sources, self._ends, strict=True)]
        return hashlib.sha256(repr((self.config.seed, self._counts, sources)).encode()).hexdigest()[:16]

    def _sentences(self, place: Place) -> list[str]:
        """Motion sentences of a whole episode, labelled when one of its steps is first asked for."""
        key = place.source, place.episode
        if key not in self._labels and self._labeller:
            source = self.sources[place.source]
            episode = source.episodes[place.episode]
            motions = self._labeller.label(episode.actions, source.statistics, str(episode.where))
            self._labels[key] = [_sentence(motion) for motion in motions]
        return self._labels[key]


class _Order(NamedTuple):
    sources: NDArray[np.int16]
    occurrences: NDArray[np.int64]


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, counts: tuple[int, ...]) -> _Order:
    """Source of each sample of an epoch, and how many samples of that source come before it in the epoch."""
    shuffle = np.random.default_rng([seed, 0, epoch]).permutation
    sources = shuffle(np.repeat(np.arange(len(counts), dtype=np.int16), counts))
    occurrences = np.empty(len(sources), np.int64)
    for source, count in enumerate(counts):
        occurrences[sources == source] = np.arange(count)
    return _Order(sources, occurrences)


@lru_cache(maxsize=_SHUFFLES)
def _shuffled(seed: int, source: int, turn: int, steps: int) -> NDArray[np.int64]:
    """Return the order in which a source shows its steps the `turn`-th time."""
    return np.random.default_rng([seed, 1 + source, turn]).permutation(steps)


@cache
def _sentence(motion: Motion) -> str:
    return describe(motion)


def _shares(sources: Sequence[tuple[float, int]], epoch: int | None) -> tuple[int, ...]:
    """Return an epoch's samples of each (weight, steps): their product's share by largest remainders, at least 1."""
    total = sum(steps for _, steps in sources) if epoch is None else epoch
    wanted = np.array([weight * steps for weight, steps in sources])
    exact = wanted / wanted.sum() * total
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return tuple(int(count) for count in np.maximum(counts, 1))


def _chunk(actions: NDArray[np.float32], step: int, length: int) -> NDArray[np.float32]:
    chunk = np.zeros((length, actions.shape[1]), np.float32)
    taken = actions[step : step + length]
    chunk[: len(taken)] = taken
    chunk[len(taken) :, -1] = taken[-1, -1]
    return chunk


def _check(source: Source) -> None:
    if not source.episodes:
        raise ValueError(f"Dataset {source.name!r} has no episode; leave it out of the mixture.")
    if not any(episode.num_starts for episode in source.episodes):
        raise ValueError(
            f"Dataset {source.name!r} has no step at which a sample may start; leave it out of the mixture."
        )
    if not source.weight > 0:
        raise ValueError(f"Dataset {source.name!r} has weight {source.weight}; a positive number is expected.")
    for episode in source.episodes:
        for camera in source.cameras:
            if camera not in episode.cameras:
                known = ", ".join(episode.cameras) or "none"
                place = Where(episode.where.file, episode.where.episode, camera)
                raise DataError(place, f"this episode has no such camera. It has: {known}.")

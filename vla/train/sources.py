"""From dataset folders to the samples of a training run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla.data.convention import Convention
from vla.data.demonstration import drop_perturbed_chunks
from vla.data.errors import DataError, Where
from vla.data.mixture import Mixture, MixtureConfig, Sample, Source
from vla.data.whole import LeftOut, SkipOptions, read_whole
from vla.errors import PromptError, TrainingError
from vla.model.config import ModelConfig
from vla.model.prompt import PromptBuilder
from vla.motion.labellers import Labeller
from vla.motion.registry import labeller
from vla.statistics import ActionStatistics, rare_in_words, statistics_of, with_state
from vla.train.config import NO_MOTION, TrainConfig

_log = logging.getLogger("vla.data")


def read_sources(config: TrainConfig) -> tuple[Source, ...]:
    """Read every episode of every dataset (places, not pixels) and compute their statistics.

    Raises:
        DataError: a dataset cannot be read, or more of it than may be skipped.
        TrainingError: two folders hold data sets of one name, or there is nothing to learn from in a folder.
    """
    weights = config.weights or (1.0,) * len(config.data)
    sources: list[Source] = []
    for folder, weight in zip(config.data, weights, strict=True):
        whole = read_whole(folder, config.read, config.skip, config.check_images)
        if whole.excess:
            raise whole.excess
        episodes = whole.episodes
        if not episodes:
            raise TrainingError(f"{folder} holds no episode to learn from. {whole.left_out.summary()}")
        name = episodes[0].dataset
        if any(source.name == name for source in sources):
            raise TrainingError(f"Two folders of --data hold the data set {name!r}; merge them.")
        # A push is no part of what is learnt, and must not widen the range that tokens have to cover.
        statistics = statistics_of(name, [episode.learnt for episode in episodes if len(episode.learnt)])
        for line in rare_in_words(statistics):
            _log.warning("warning: data set %r: %s.", name, line)
        statistics = with_state(statistics, [episode.state for episode in episodes])
        sources.append(Source(episodes, statistics, (), weight, left_out=whole.left_out))
    return tuple(sources)


def with_cameras(sources: Sequence[Source], views: int, cameras: tuple[str, ...]) -> tuple[Source, ...]:
    """Return the sources with the cameras that the model's views stand for; by default each dataset's first ones."""
    seen = []
    for source in sources:
        names = cameras or tuple(source.episodes[0].cameras)[:views]
        if len(names) != views:
            raise TrainingError(
                f"The model has {views} views; dataset {source.name!r} has the cameras "
                f"{list(source.episodes[0].cameras)} and --cameras names {list(cameras)}."
            )
        seen.append(replace(source, cameras=names))
    return tuple(seen)


def with_prompts(sources: Sequence[Source], prompts: PromptBuilder) -> tuple[Source, ...]:
    """Return the sources without the episodes whose instruction is too long for the model.

    Raises:
        DataError: there is such an episode, and it must not be left out.
    """
    kept = []
    for source in sources:
        left = source.left_out or LeftOut(SkipOptions())
        too_long = {}
        for instruction in {episode.instruction for episode in source.episodes}:
            try:
                prompts.prompt(instruction, True)
            except PromptError as error:
                too_long[instruction] = str(error)
        for episode in source.episodes:
            if episode.instruction in too_long:
                where = Where(episode.where.file, episode.where.episode, "instruction")
                left.note(DataError(where, too_long[episode.instruction]))
        episodes = [episode for episode in source.episodes if episode.instruction not in too_long]
        if excess := left.excess(Path(source.name), len(episodes), len({e.where.file for e in episodes})):
            raise excess
        kept.append(replace(source, episodes=episodes, left_out=left))
    return tuple(kept)


def without_perturbed_chunks(sources: Sequence[Source], chunk: int) -> tuple[Source, ...]:
    """Return the sources without the starts of chunks in which something is not to be imitated."""
    return tuple(
        replace(s, episodes=[drop_perturbed_chunks(episode, chunk) for episode in s.episodes]) for s in sources
    )


def make_mixture(config: TrainConfig, model: ModelConfig, sources: Sequence[Source]) -> Mixture:
    """Make the endless sequence of samples that the run sees."""
    options = MixtureConfig(seed=config.loop.seed, image_size=model.image_size, action_horizon=model.action_horizon)
    _check_state(model, sources)
    if config.shift:
        return ShiftedMixture(sources, labeller_of(config.motion), options, config.shift)
    return Mixture(sources, labeller_of(config.motion), options)


def labeller_of(motion: str) -> Labeller | None:
    """Return the labeller that `--motion` names."""
    return None if motion == NO_MOTION else labeller(motion)


def statistics_by_name(sources: Sequence[Source]) -> Mapping[str, ActionStatistics]:
    """Return the action statistics of every source by its name."""
    return {source.name: source.statistics for source in sources}


def conventions_by_name(sources: Sequence[Source]) -> Mapping[str, Convention]:
    """Return what every source's numbers mean and which cameras are seen of it, by its name."""
    return {source.name: replace(source.episodes[0].convention, cameras=source.cameras) for source in sources}


def left_out_of(sources: Sequence[Source]) -> dict[str, list[str]]:
    """Return what was left out of every source of which something was, a line each: for the checkpoint."""
    return {source.name: source.left_out.lines() for source in sources if source.left_out and source.left_out.lines()}


def say_left_out(sources: Sequence[Source]) -> None:
    """Say on stderr, in a line for each source, what is left out; the checkpoint lists it in full."""
    for source in sources:
        if source.left_out and (summary := source.left_out.summary()):
            count = len(source.left_out.lines())
            sys.stderr.write(f"{source.name}: {len(source.episodes)} episodes, left out {count}: {summary}\n")


def instructions_of(sources: Sequence[Source]) -> list[str]:
    """Return every instruction once, sorted."""
    return sorted({episode.instruction for source in sources for episode in source.episodes})


class ShiftedMixture(Mixture):
    """A mixture whose images are shifted at random, differently each time a step is seen."""

    def __init__(
        self, sources: Sequence[Source], labeller: Labeller | None, config: MixtureConfig, pixels: int
    ) -> None:
        super().__init__(sources, labeller, config)
        self._pixels = pixels

    def __getitem__(self, position: int) -> Sample:
        """Read a sample; its shift is a function of seed and position."""
        sample = super().__getitem__(position)
        generator = np.random.default_rng([self.config.seed, position, self._pixels])
        images = tuple(
            _shifted(image, generator.integers(-self._pixels, self._pixels + 1, 2)) for image in sample.images
        )
        return Sample(**{**vars(sample), "images": images})


def _shifted(image: NDArray[np.uint8], offset: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Shift `[H, W, 3]` by `(dy, dx)` pixels, repeating the edge."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) + offset[0], 0, height - 1)
    columns = np.clip(np.arange(width) + offset[1], 0, width - 1)
    shifted: NDArray[np.uint8] = image[rows[:, None], columns]
    return shifted


def _check_state(model: ModelConfig, sources: Sequence[Source]) -> None:
    for source in sources:
        size = source.episodes[0].state.shape[1]
        if model.proprio_dim and size != model.proprio_dim:
            raise TrainingError(
                f"The model reads {model.proprio_dim} numbers of state; dataset {source.name!r} has {size}."
            )

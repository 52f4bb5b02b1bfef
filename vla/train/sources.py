"""From dataset folders to the samples of a training run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla.data.convention import Convention
from vla.data.demonstration import Demonstration, drop_perturbed_chunks
from vla.data.errors import DataError, Where
from vla.data.frames import Image
from vla.data.mixture import Mixture, Source
from vla.data.whole import Whole, read_whole
from vla.errors import PromptError, TrainingError
from vla.model.prompt import PromptBuilder
from vla.statistics import ActionStatistics, rare_in_words, statistics_of, with_axis_floor, with_state
from vla.train.config import TrainConfig

_log = logging.getLogger("vla.data")


def read_data(config: TrainConfig, folders: Sequence[Path] = ()) -> tuple[Whole, ...]:
    """Read every episode of every dataset (places, not pixels), or of the datasets in other folders.

    Raises:
        DataError: a dataset cannot be read, or more of it than may be skipped.
        TrainingError: two folders hold data sets of one name, or there is nothing to learn from in a folder.
    """
    data: dict[str, Whole] = {}
    for folder in folders or config.data:
        whole = read_whole(folder, config.read, config.skip, config.check_images)
        if whole.excess:
            raise whole.excess
        if not whole.episodes:
            raise TrainingError(f"{folder} holds no episode to learn from. {whole.left_out.summary()}")
        name = whole.episodes[0].dataset
        if name in data:
            raise TrainingError(
                f"Two folders of --data hold the data set {name!r}: {data[name].episodes[0].where.file} and "
                f"{whole.episodes[0].where.file} are of them. One name has one set of statistics: recordings of one "
                "suite are put together by vla-eval merge-demos; of other copies, name one."
            )
        data[name] = whole
    return tuple(data.values())


def make_sources(config: TrainConfig, data: Sequence[Whole], prompts: PromptBuilder) -> tuple[Source, ...]:
    """Make what a model is trained on; what it cannot be told is noted as left out of the data.

    Raises:
        DataError: an instruction is too long for the model, and must not be left out.
        TrainingError: the model has other views or reads another state than a dataset has.
    """
    model = prompts.config
    weights = config.weights or (1.0,) * len(data)
    sources = []
    for whole, weight in zip(data, weights, strict=True):
        statistics = statistics_to_learn(whole.episodes)
        episodes = [drop_perturbed_chunks(one, model.action_horizon) for one in _short_enough(whole, prompts)]
        cameras = cameras_of(whole.episodes, len(model.cameras), config.cameras)
        size = whole.episodes[0].state.shape[1]
        if model.proprio_dim and size != model.proprio_dim:
            raise TrainingError(
                f"The model reads {model.proprio_dim} numbers of state; dataset {statistics.dataset!r} has {size}."
            )
        sources.append(Source(episodes, statistics, cameras, weight))
    return tuple(sources)


def held_sources(held: Sequence[Whole], sources: Sequence[Source], prompts: PromptBuilder) -> tuple[Source, ...]:
    """Make what a model is scored on, with the statistics and cameras of what it is trained on.

    Raises:
        TrainingError: a data set has no step at which a sample may start.
    """
    trained = {source.name: source for source in sources}
    apart = []
    for whole in held:
        alike = trained[whole.episodes[0].dataset]
        horizon = prompts.config.action_horizon
        episodes = [drop_perturbed_chunks(one, horizon) for one in _short_enough(whole, prompts)]
        try:
            apart.append(Source(episodes, alike.statistics, alike.cameras))
        except ValueError as error:
            raise TrainingError(f"What is held out cannot be scored. {error}") from error
    return tuple(apart)


def statistics_to_learn(episodes: Sequence[Demonstration]) -> ActionStatistics:
    """Compute the statistics of a dataset's states and of its actions that are to be learnt."""
    # A push is no part of what is learnt, and must not widen the range that tokens have to cover.
    learnt = [episode.learnt for episode in episodes if len(episode.learnt)]
    statistics = statistics_of(episodes[0].dataset, learnt)
    for line in rare_in_words(statistics):
        _log.warning("warning: data set %r: %s.", statistics.dataset, line)
    return with_state(statistics, [episode.state for episode in episodes])


def cameras_of(episodes: Sequence[Demonstration], views: int, cameras: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cameras that the model's views stand for; by default the dataset's first ones."""
    names = cameras or tuple(episodes[0].cameras)[:views]
    if len(names) != views:
        raise TrainingError(
            f"The model has {views} views; dataset {episodes[0].dataset!r} has the cameras "
            f"{list(episodes[0].cameras)} and --cameras names {list(cameras)}."
        )
    return names


def _short_enough(whole: Whole, prompts: PromptBuilder) -> list[Demonstration]:
    """Return the episodes without those whose instruction is too long for the model."""
    too_long = {}
    for instruction in {episode.instruction for episode in whole.episodes}:
        try:
            prompts.prompt(instruction, True)
        except PromptError as error:
            too_long[instruction] = str(error)
    kept = []
    for episode in whole.episodes:
        if episode.instruction in too_long:
            where = Where(episode.where.file, episode.where.episode, "instruction")
            whole.left_out.note(DataError(where, too_long[episode.instruction]))
        else:
            kept.append(episode)
    files = len({episode.where.file for episode in kept})
    if excess := whole.left_out.excess(Path(whole.episodes[0].dataset), len(kept), files):
        raise excess
    return kept


def statistics_by_name(sources: Sequence[Source], floor: float = 0.0) -> Mapping[str, ActionStatistics]:
    """Return the action statistics of every source by its name, with a floor on the range of an axis for its tokens.

    Motion labels are made from the source's own statistics: they have floors of their own.
    """
    return {source.name: with_axis_floor(source.statistics, floor) for source in sources}


def conventions_by_name(sources: Sequence[Source]) -> Mapping[str, Convention]:
    """Return what every source's numbers mean and which cameras are seen of it, by its name."""
    return {source.name: replace(source.episodes[0].convention, cameras=source.cameras) for source in sources}


def left_out_of(data: Sequence[Whole]) -> dict[str, list[str]]:
    """Return what was left out of every dataset of which something was, a line each: for the checkpoint."""
    return {whole.episodes[0].dataset: lines for whole in data if (lines := whole.left_out.lines())}


def say_left_out(sources: Sequence[Source], data: Sequence[Whole]) -> None:
    """Say on stderr, in a line for each source, what is left out; the checkpoint lists it in full."""
    for source, whole in zip(sources, data, strict=True):
        if summary := whole.left_out.summary():
            count = len(whole.left_out.lines())
            sys.stderr.write(f"{source.name}: {len(source.episodes)} episodes, left out {count}: {summary}\n")


def instructions_of(data: Sequence[Whole]) -> list[str]:
    """Return every instruction once, sorted."""
    return sorted({episode.instruction for whole in data for episode in whole.episodes})


@dataclass(frozen=True)
class Shifted:
    """A view of a mixture's images shifted at random by up to `pixels`, differently each time a step is seen."""

    pixels: int

    def __call__(self, mixture: Mixture, position: int) -> tuple[Image, ...]:
        """Read the images of a sample; their shift is a function of seed and position."""
        generator = np.random.default_rng([mixture.config.seed, position, self.pixels])
        return tuple(
            _shifted(image, generator.integers(-self.pixels, self.pixels + 1, 2)) for image in mixture.images(position)
        )


def _shifted(image: NDArray[np.uint8], offset: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Shift `[H, W, 3]` by `(dy, dx)` pixels, repeating the edge."""
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) + offset[0], 0, height - 1)
    columns = np.clip(np.arange(width) + offset[1], 0, width - 1)
    shifted: NDArray[np.uint8] = image[rows[:, None], columns]
    return shifted

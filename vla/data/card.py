"""`vla-train stats`: what a dataset holds, as statistics and as a page of text."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from vla.data.episode import Episode
from vla.data.errors import DataError, OnBad, Where, fail
from vla.data.read import ReadOptions, check_layouts, dataset_format, read_episodes
from vla.labellers import AdaptiveLabeller, Labeller
from vla.motion import describe
from vla.statistics import DIMENSIONS, ActionStatistics, rare_in_words, statistics_of, write_statistics


@dataclass(frozen=True)
class StatsConfig:
    """Show what a dataset holds: episodes, actions, motion labels, instructions, broken episodes.

    Attributes:
        directory: Folder of the dataset: LeRobot v2.0, v2.1 or v3.0, RLDS (TFDS), LIBERO HDF5 files, or recorded
            demonstrations.
        read: How to read it.
        skip_bad: Count and list what cannot be read, instead of stopping there.
        statistics: Write the action statistics to this file, in the layout of OpenVLA's dataset_statistics.json.
        top: How many labels and instructions to show, most frequent first.
    """

    directory: Annotated[Path, tyro.conf.Positional]
    read: Annotated[ReadOptions, tyro.conf.arg(name="")] = field(default_factory=ReadOptions)
    skip_bad: bool = False
    statistics: Path | None = None
    top: int = 20


@dataclass(frozen=True)
class Card:
    """What a dataset holds.

    Attributes:
        directory: where it lies.
        format: what `dataset_format` says.
        lengths: steps of each episode.
        control_hz: control steps per second, or None where nobody says.
        cameras: camera name -> height and width of its first image.
        state_size: numbers in the state.
        statistics: of the actions.
        labels: motion sentence -> steps.
        instructions: instruction -> episodes.
        bad: what could not be read.
    """

    directory: Path
    format: str
    lengths: tuple[int, ...]
    control_hz: float | None
    cameras: dict[str, tuple[int, int]]
    state_size: int
    statistics: ActionStatistics
    labels: Counter[str]
    instructions: Counter[str]
    bad: tuple[str, ...]


def main(arguments: Sequence[str]) -> int:
    """Run `vla-train stats` and return the exit code."""
    config = tyro.cli(StatsConfig, args=arguments, prog="vla-train stats")
    check_layouts(config.read.layout, (config.directory,))
    bad: list[DataError] = []
    card = make_card(config.directory, config.read, on_bad=bad.append if config.skip_bad else fail)
    sys.stdout.write(card_text(card, config.top))
    if config.statistics:
        write_statistics(config.statistics, [card.statistics])
    return 0


def make_card(
    directory: Path,
    options: ReadOptions | None = None,
    labeller: Labeller | None = None,
    on_bad: OnBad = fail,
) -> Card:
    """Read a whole dataset, decode the first image of every camera of every episode, and label every step.

    Raises:
        DataError: nothing in it can be read, or what `on_bad` raises for one episode.
    """
    bad: list[str] = []

    def note(error: DataError) -> None:
        on_bad(error)
        bad.append(str(error))

    episodes: list[Episode] = []
    cameras: dict[str, tuple[int, int]] = {}
    for episode in read_episodes(directory, options, note):
        try:
            for name, frames in episode.cameras.items():
                height, width, _ = frames[0].shape
                cameras.setdefault(name, (height, width))
            episodes.append(episode)
        except DataError as error:
            note(error)
    if not episodes:
        reasons = "\n  ".join(["", *bad])
        raise DataError(Where(directory), f"no episode can be read ({len(bad)} are broken).{reasons}")
    statistics = statistics_of(episodes[0].dataset, [one.learnt for one in episodes if len(one.learnt)])
    return Card(
        directory=directory,
        format=dataset_format(directory),
        lengths=tuple(len(episode) for episode in episodes),
        control_hz=episodes[0].control_hz,
        cameras=cameras,
        state_size=episodes[0].state.shape[1],
        statistics=statistics,
        labels=_labels(episodes, statistics, labeller or AdaptiveLabeller()),
        instructions=Counter(episode.instruction for episode in episodes),
        bad=tuple(bad),
    )


def card_text(card: Card, top: int = 20) -> str:
    """Write a card as plain text; of labels and instructions the `top` most frequent."""
    lengths = np.array(card.lengths)
    hertz = f"{card.control_hz:g} Hz" if card.control_hz else "not known"
    cameras = ", ".join(f"{name} {height}x{width}" for name, (height, width) in card.cameras.items()) or "none"
    blocks = [
        f"{card.statistics.dataset}  ({card.format}, {card.directory})",
        "\n".join(
            [
                f"episodes       {len(lengths)}",
                f"steps          {lengths.sum()}  (an episode {lengths.min()} to {lengths.max()}, "
                f"median {np.median(lengths):g})",
                f"control rate   {hertz}",
                f"cameras        {cameras}",
                f"state          {card.state_size} numbers",
            ]
        ),
        _actions_text(card.statistics),
        _counts_text("motion labels (adaptive, share of steps)", card.labels, top, share=True),
        _counts_text("instructions (episodes)", card.instructions, top),
    ]
    if card.bad:
        blocks.append("\n".join([f"left out: {len(card.bad)}", *(f"  {line}" for line in card.bad)]))
    return "\n\n".join(blocks) + "\n"


def _labels(episodes: list[Episode], statistics: ActionStatistics, labeller: Labeller) -> Counter[str]:
    labels: Counter[str] = Counter()
    for episode in episodes:
        motions = labeller.label(episode.actions, statistics, episode=str(episode.where))
        labels.update(describe(motion) for motion in motions)
    return labels


def _actions_text(statistics: ActionStatistics) -> str:
    columns = ("min", "q01", "mean", "q99", "max", "std")
    lines = ["action    " + "".join(f"{name:>11}" for name in columns)]
    for index, dimension in enumerate(DIMENSIONS):
        lines.append(f"{dimension:<10}" + "".join(f"{getattr(statistics, name)[index]:>11.4f}" for name in columns))
    return "\n".join([*lines, *(f"note: {line}" for line in rare_in_words(statistics))])


def _counts_text(title: str, counts: Counter[str], top: int, share: bool = False) -> str:
    total = counts.total()
    lines = [f"{title}: {len(counts)} different"]
    for text, count in counts.most_common(top):
        lines.append(f"  {count / total:>6.1%}  {text}" if share else f"  {count:>6}  {text}")
    if len(counts) > top:
        lines.append(f"  {len(counts) - top} more")
    return "\n".join(lines)

"""`vla-train stats`: what a dataset holds, as statistics and as a page of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from evals.terminal.text import show
from vla.data.demonstration import Demonstration
from vla.data.errors import DataError, Where, printable, reading
from vla.data.intents import intents_of, known_motion
from vla.data.read import ReadOptions, check_layouts, dataset_format
from vla.data.whole import LeftOut, SkipOptions, read_whole
from vla.motion.labellers import Labeller
from vla.motion.language import describe
from vla.motion.registry import INTENT, RAW, labeller, labeller_names
from vla.motion.tuning import agreement, tuned_raw
from vla.statistics import DIMENSIONS, ActionStatistics, rare_in_words, statistics_of, write_statistics

_WIDEST = 200


@dataclass(frozen=True)
class StatsConfig:
    """Show what a dataset holds: episodes, actions, motion labels, instructions, broken episodes.

    Attributes:
        directory: Folder of the dataset: LeRobot v2.0, v2.1 or v3.0, RLDS (TFDS), LIBERO HDF5 files, or recorded
            demonstrations.
        read: How to read the dataset.
        skip: What happens to data that cannot be read.
        images: Decode every image and count the frames of every video. The result is stored in the dataset's folder, so
            that training need not decode them again. Without this option, only the first image of each camera is
            decoded.
        statistics: File to write the action statistics to, in the layout of OpenVLA's dataset_statistics.json.
        motion: Labeller that writes the motion labels: raw, adaptive, hmm, segments or a plugin's; "intent" shows the
            recorded intents.
        top: Number of labels and instructions to show, most frequent first.
    """

    directory: Annotated[Path, tyro.conf.Positional]
    read: Annotated[ReadOptions, tyro.conf.arg(name="")] = field(default_factory=ReadOptions)
    skip: Annotated[SkipOptions, tyro.conf.arg(name="")] = field(default_factory=SkipOptions)
    images: bool = False
    statistics: Path | None = None
    motion: str = "adaptive"
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
        motion: name of the labeller.
        labels: motion sentence -> steps.
        agreement: labeller -> share of the steps whose sentence is the expert's intent; empty without known intents.
        instructions: instruction -> episodes.
        left_out: what cannot be used, and why.
        excess: the error if that is more than may be.
    """

    directory: Path
    format: str
    lengths: tuple[int, ...]
    control_hz: float | None
    cameras: dict[str, tuple[int, int]]
    state_size: int
    statistics: ActionStatistics
    motion: str
    labels: Counter[str]
    agreement: Mapping[str, float]
    instructions: Counter[str]
    left_out: LeftOut
    excess: DataError | None


def main(arguments: Sequence[str]) -> int:
    """Run `vla-train stats` and return the exit code."""
    config = tyro.cli(StatsConfig, args=arguments, prog="vla-train stats")
    check_layouts(config.read.layout, (config.directory,))
    card = make_card(config.directory, config.read, config.skip, config.images, config.motion)
    show(card_text(card, config.top))
    if config.statistics:
        with reading(Where(config.statistics), "cannot be written"):
            write_statistics(config.statistics, [card.statistics])
    if card.excess:
        raise card.excess
    return 0


def make_card(
    directory: Path,
    options: ReadOptions | None = None,
    skip: SkipOptions | None = None,
    images: bool = False,
    motion: str = "adaptive",
) -> Card:
    """Read a whole dataset, look at its pictures, and label every step.

    Args:
        directory: of the dataset.
        options: for the reader.
        skip: what becomes of what cannot be read.
        images: whether to look at every picture, and not at the first of every camera of every episode alone.
        motion: name of the labeller.

    Raises:
        LabellerError: there is no such labeller, or an episode has no intents to show.
        DataError: nothing in it can be used; or, unless that may be skipped, something in it cannot be read.
    """
    chosen = None if motion == INTENT else labeller(motion)
    whole = read_whole(directory, options, skip or SkipOptions(), images)
    left = whole.left_out
    episodes: list[Demonstration] = []
    cameras: dict[str, tuple[int, int]] = {}
    for episode in whole.episodes:
        try:
            for name, frames in episode.cameras.items():
                height, width, _ = frames[0].shape
                cameras.setdefault(name, (height, width))
            episodes.append(episode)
        except DataError as error:
            left.note(error)
    if not episodes:
        reasons = "\n  ".join(["", *left.lines()])
        raise DataError(Where(directory), f"no episode can be used ({len(left.lines())} are left out).{reasons}")
    statistics = statistics_of(episodes[0].dataset, [one.learnt for one in episodes if len(one.learnt)])
    return Card(
        directory=directory,
        format=dataset_format(directory),
        lengths=tuple(len(episode) for episode in episodes),
        control_hz=episodes[0].control_hz,
        cameras=cameras,
        state_size=episodes[0].state.shape[1],
        statistics=statistics,
        motion=motion,
        labels=_labels(episodes, statistics, chosen or intents_of(episodes)),
        agreement=_agreement(episodes, statistics),
        instructions=Counter(episode.instruction for episode in episodes),
        left_out=left,
        excess=left.excess(directory, len(episodes), len({episode.where.file for episode in episodes})),
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
        _counts_text(f"motion labels ({card.motion}, share of steps)", card.labels, top, share=True),
        *([_agreement_text(card.agreement)] if card.agreement else []),
        _counts_text("instructions (episodes)", card.instructions, top),
    ]
    if lines := card.left_out.lines():
        blocks.append("\n".join([f"left out: {len(lines)}", *(f"  {line}" for line in lines)]))
    return "\n\n".join(blocks) + "\n"


def _labels(episodes: list[Demonstration], statistics: ActionStatistics, labeller: Labeller) -> Counter[str]:
    labels: Counter[str] = Counter()
    for episode in episodes:
        motions = labeller.label(episode.actions, statistics, str(episode.where))
        labels.update(describe(motion) for motion in motions)
    return labels


def _agreement(episodes: Sequence[Demonstration], statistics: ActionStatistics) -> dict[str, float]:
    """Compare every labeller that is installed with the recorded intents; raw also with the threshold of training."""
    if not any(episode.intents for episode in episodes):
        return {}
    known, _ = known_motion(episodes, statistics)
    tuned = tuned_raw(known, statistics)
    compared = {name: labeller(name) for name in labeller_names()}
    compared |= {f"{RAW}, threshold {tuned.threshold:.3g} (searched)": tuned}
    return {name: agreement(one, known, statistics) for name, one in compared.items()}


def _agreement_text(shares: Mapping[str, float]) -> str:
    best_first = sorted(shares.items(), key=lambda one: -one[1])
    lines = [f"  {share:>6.1%}  {name}" for name, share in best_first]
    return "\n".join(["labellers (share of steps whose sentence is the expert's intent)", *lines])


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
        text = printable(text[:_WIDEST])
        lines.append(f"  {count / total:>6.1%}  {text}" if share else f"  {count:>6}  {text}")
    if len(counts) > top:
        lines.append(f"  {len(counts) - top} more")
    return "\n".join(lines)

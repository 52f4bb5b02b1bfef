"""`vla-eval figures pipeline`: how actions of any scale become sentences (the paper's figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro

from analysis.figures.command import write_figure
from studies.motion.corpus import Corpus
from studies.motion.experts import EXPERTS, expert_corpora
from studies.motion.figures import draw_words
from studies.motion.synthetic import TEST_SEED, synthetic_corpora
from vla.actions import normalize_scale
from vla.motion.labellers import AdaptiveLabeller, Slots, displacement, round_to_grid, window_bounds
from vla.motion.language import describe, motions_from_slots
from vla.statistics import GRIPPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
_WINDOW_COLOURS = {"fast": "tab:red", "mid": "tab:purple", "slow": "tab:green"}
_FEWEST_STEPS = 40
_SHOWN_SENTENCES = 9


@dataclass(frozen=True)
class PipelineConfig:
    """Draw the motion pipeline: distributions, detection, sentences.

    Attributes:
        out: Folder for pipeline_and_distributions.png and .pdf.
        experts: Packed traces of the simulated experts; without them, synthetic embodiments only.
    """

    out: Path = Path("results/figures")
    experts: Path = EXPERTS


def command(arguments: list[str]) -> int:
    """Run `vla-eval figures pipeline`."""
    config = tyro.cli(PipelineConfig, args=arguments, prog="vla-eval figures pipeline")
    figure = pipeline_figure([*expert_corpora("test", config.experts), *synthetic_corpora(TEST_SEED)])
    write_figure(figure, config.out, "pipeline_and_distributions")
    return 0


def pipeline_figure(corpora: Sequence[Corpus]) -> Figure:
    """Draw distributions of all corpora, and detection and sentences of one episode of the first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 0.26 * len(corpora) + 2.2), layout="constrained")
    columns = figure.add_gridspec(1, 3, width_ratios=[1.25, 1.15, 1])
    left = columns[0].subgridspec(1, 2)
    before = figure.add_subplot(left[0])
    after = figure.add_subplot(left[1], sharey=before)
    draw_distributions(corpora, False, before).set_xscale("symlog", linthresh=0.01)
    before.set_xticks([-1, -0.1, 0, 0.1, 1], ["-1", "-0.1", "0", "0.1", "1"])
    draw_distributions(corpora, True, after).tick_params(labelleft=False)
    middle = columns[1].subgridspec(2, 1, height_ratios=[1.5, 1])
    corpus = corpora[0]
    position = next(i for i, episode in enumerate(corpus.episodes) if len(episode.actions) >= _FEWEST_STEPS)
    labeller = AdaptiveLabeller()  # whose windows and thresholds are drawn
    slots = labeller.slots(corpus.episodes[position].actions, corpus.statistics)
    detection = figure.add_subplot(middle[0])
    draw_detection(corpus, position, labeller, detection).tick_params(labelbottom=False)
    words = figure.add_subplot(middle[1], sharex=detection)
    draw_words("", slots, corpus.rate_hz, words).set_xlabel("seconds", fontsize=8)
    words.tick_params(labelsize=7)
    draw_sentences(slots, corpus.rate_hz, figure.add_subplot(columns[2]))
    return figure


def draw_distributions(corpora: Sequence[Corpus], normalized: bool, axes: Axes) -> Axes:
    """Draw x, y, z deltas of each corpus: 1st to 99th percentile thin, quartiles thick, the median as a dot."""
    for height, corpus in enumerate(corpora):
        actions = np.concatenate([episode.actions for episode in corpus.episodes])
        deltas = normalize_scale(actions, corpus.statistics) if normalized else actions
        for axis, colour in enumerate(("tab:blue", "tab:orange", "tab:green")):
            low, quarter, median, three_quarters, high = np.quantile(deltas[:, axis], _QUANTILES)
            y = height + 0.25 * (axis - 1)
            axes.plot([low, high], [y, y], color=colour, lw=1)
            axes.plot([quarter, three_quarters], [y, y], color=colour, lw=3, solid_capstyle="butt")
            axes.plot(median, y, ".", color="k", ms=2)
    axes.set_yticks(range(len(corpora)), [f"{corpus.name}, {corpus.rate_hz:g} Hz" for corpus in corpora])
    axes.set_ylim(len(corpora) - 0.5, -0.5)
    axes.tick_params(labelsize=7)
    axes.axvline(0, color="0.7", lw=0.6, zorder=0)
    axes.set_title("scaled by max(|q01|, |q99|)" if normalized else "1. actions in each robot's units", fontsize=9)
    axes.set_xlabel("x, y, z delta per step", fontsize=8)
    return axes


def draw_detection(corpus: Corpus, position: int, labeller: AdaptiveLabeller, axes: Axes) -> Axes:
    """Draw the translation of an episode over the three windows, against the thresholds that each must exceed."""
    scaled = normalize_scale(
        corpus.episodes[position].actions, corpus.statistics, labeller.smallest_scale, labeller.smallest_turn
    )
    deltas = round_to_grid(scaled[:, :GRIPPER])
    seconds = np.arange(len(deltas)) / corpus.rate_hz
    for name, colour in _WINDOW_COLOURS.items():
        span: int = getattr(labeller, name)
        moved = displacement(deltas, *window_bounds(len(deltas), span, labeller.anchor))
        axes.plot(seconds, np.linalg.norm(moved[:, :3], axis=1), color=colour, lw=1, label=f"{name}, {span} steps")
    threshold = labeller.thresholds(deltas)[1][:, 0]
    axes.plot(seconds, threshold, "k-", lw=1, label="T(t): mid, slow")
    axes.plot(seconds, 2 * threshold, "k--", lw=1, label="2 T(t): fast")
    axes.legend(fontsize=6, ncols=2, loc="upper right")
    axes.set_ylabel("translation over the window", fontsize=8)
    axes.set_title(f"2. detection by windows and an adaptive threshold\n({corpus.name})", fontsize=9)
    axes.tick_params(labelsize=7)
    return axes


def draw_sentences(slots: Slots, rate_hz: float, axes: Axes) -> Axes:
    """Write the longest segments of an episode's `[T, 6]` slots as sentences, in their order."""
    segments = []
    start = 0
    for motion, steps in groupby(motions_from_slots(slots)):
        length = sum(1 for _ in steps)
        segments.append((start, start + length, describe(motion)))
        start += length
    longest = sorted(sorted(segments, key=lambda segment: segment[0] - segment[1])[:_SHOWN_SENTENCES])
    axes.set_axis_off()
    axes.set_title("3. motion sentences (the longest segments)", fontsize=9)
    for row, (first, end, sentence) in enumerate(longest):
        y = 1 - (row + 0.7) / _SHOWN_SENTENCES
        seconds = f"{first / rate_hz:.2f} to {end / rate_hz:.2f} s"
        axes.text(0, y, seconds, fontsize=7, color="0.4", transform=axes.transAxes)
        axes.text(0, y - 0.04, sentence, fontsize=8, color="tab:blue", transform=axes.transAxes)
    return axes

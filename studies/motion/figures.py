"""Figures of the motion language: `python -m studies.motion.figures` writes them to results/figures/."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from studies.motion.corpus import Corpus
from studies.motion.experts import expert_corpora
from studies.motion.robustness import bridge_corpus
from studies.motion.search import tuned_raw, tuning_parts
from studies.motion.synthetic import TEST_SEED, synthetic_corpora
from vla.actions import normalize_scale
from vla.motion.hmm import HmmLabeller
from vla.motion.labellers import AdaptiveLabeller, Labeller, RawLabeller, Slots
from vla.motion.language import SLOTS
from vla.statistics import DIMENSIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARED_DATA = Path("../shared/data")
FIGURES = Path("results/figures")
OTHER_UNITS = ("iamlab", "toto", "ucsd_kitchen", "rlbench")
"""Published sets whose numbers are absolute poses or degrees, not deltas."""

_AXIS_COLOURS = ("tab:blue", "tab:orange", "tab:green")


class Example(NamedTuple):
    """One episode to draw: what it is, where it comes from, which of its corpus, and the rows under it."""

    title: str
    corpus: Corpus
    position: int
    labellers: Mapping[str, Labeller]
    truth_known: bool


def published_scales(path: Path) -> pd.DataFrame:
    """Read the published statistics of Open X-Embodiment sets: one row a data set and translation axis."""
    rows = []
    for name, entry in json.loads(path.read_text())["datasets"].items():
        action = entry["records"][0]["action"]
        if "q01" not in action or name.startswith(OTHER_UNITS):
            continue
        for axis, label in enumerate(DIMENSIONS[:3]):
            low, high = action["q01"][axis], action["q99"][axis]
            mean, std = action["mean"][axis], action["std"][axis]
            rows.append({"dataset": name, "axis": label, "q01": low, "q99": high, "mean": mean, "std": std})
    return pd.DataFrame(rows)


def draw_scales(scales: pd.DataFrame, normalized: bool, axes: Axes) -> Axes:
    """Draw what is published of each data set's x, y, z deltas: q01 to q99 thin, mean ± std thick.

    Args:
        scales: as `published_scales` returns it.
        normalized: whether deltas are divided by `max(|q01|, |q99|)`.
        axes: to draw on.
    """
    datasets = list(dict.fromkeys(scales["dataset"]))
    for row in scales.itertuples():
        scale = max(abs(row.q01), abs(row.q99)) if normalized else 1.0
        if scale == 0:
            continue
        height = datasets.index(row.dataset) + 0.25 * (DIMENSIONS.index(row.axis) - 1)
        colour = _AXIS_COLOURS[DIMENSIONS.index(row.axis)]
        axes.plot([row.q01 / scale, row.q99 / scale], [height, height], color=colour, lw=1)
        middle, spread = row.mean / scale, row.std / scale
        ends = np.clip([middle - spread, middle + spread], row.q01 / scale, row.q99 / scale)
        axes.plot(ends, [height, height], color=colour, lw=3, solid_capstyle="butt")
    axes.set_yticks(range(len(datasets)), [name.removesuffix("_converted_externally_to_rlds") for name in datasets])
    axes.set_ylim(len(datasets) - 0.5, -0.5)
    axes.axvline(0, color="0.7", lw=0.6, zorder=0)
    axes.set_title("after: divided by max(|q01|, |q99|)" if normalized else "before: each set's own units", fontsize=9)
    axes.set_xlabel("x (blue), y (orange), z (green) delta per control step", fontsize=8)
    return axes


def draw_trace(example: Example, axes: Axes) -> Axes:
    """Draw the scaled x, y, z deltas and the gripper level of one episode."""
    episode = example.corpus.episodes[example.position]
    deltas = normalize_scale(episode.actions, example.corpus.statistics)
    seconds = np.arange(len(deltas)) / example.corpus.rate_hz
    for axis, colour in enumerate(_AXIS_COLOURS):
        axes.step(seconds, deltas[:, axis], where="post", color=colour, lw=1, label=DIMENSIONS[axis])
    axes.step(seconds, deltas[:, 6], where="post", color="0.4", lw=1, ls=":", label="gripper level")
    axes.set_title(example.title, fontsize=9)
    axes.set_ylabel("scaled delta", fontsize=8)
    axes.legend(fontsize=6, ncols=4, loc="upper right")
    axes.tick_params(labelbottom=False, labelsize=7)
    axes.set_ylim(-1.15, 1.5)
    return axes


def draw_words(name: str, slots: Slots, rate_hz: float, axes: Axes) -> Axes:
    """Draw `[T, 6]` slots as a strip: red +1 (forward, left, up, open ...), blue -1, white nothing."""
    axes.imshow(
        slots.T,
        aspect="auto",
        interpolation="nearest",
        cmap="RdBu_r",
        vmin=-1.4,
        vmax=1.4,
        extent=(0, len(slots) / rate_hz, len(SLOTS) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(SLOTS)), SLOTS, fontsize=5)
    axes.set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center", labelpad=28)
    return axes


def trace_figure(examples: Sequence[Example]) -> Figure:
    """One column an episode: its trace, the intended words where they are known, the words of each labeller."""
    from matplotlib.figure import Figure

    rows = 2 + max(len(example.labellers) for example in examples)
    figure = Figure(figsize=(6.2 * len(examples), 1.9 + 0.85 * (rows - 1)), layout="constrained")
    grid = figure.subplots(rows, len(examples), squeeze=False, height_ratios=[2.2] + [1] * (rows - 1))
    for column, example in enumerate(examples):
        episode = example.corpus.episodes[example.position]
        panels = list(grid[:, column])
        draw_trace(example, panels.pop(0)).set_xlim(0, len(episode.slots) / example.corpus.rate_hz)
        strips: dict[str, Slots] = {"intent": episode.slots} if example.truth_known else {}
        for name, labeller in example.labellers.items():
            strips[name] = labeller.slots(episode.actions, example.corpus.statistics)
        for panel, (name, slots) in zip(panels, strips.items(), strict=False):
            draw_words(name, slots, example.corpus.rate_hz, panel).tick_params(labelbottom=False)
        for panel in panels[len(strips) :]:
            panel.set_axis_off()
        last = panels[len(strips) - 1]
        last.tick_params(axis="x", labelbottom=True, labelsize=7)
        last.set_xlabel("seconds", fontsize=8)
    return figure


def scale_figure(scales: pd.DataFrame) -> Figure:
    """Draw translation deltas of the published data sets before and after scaling (the paper's figure 1, left)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.24 * scales["dataset"].nunique() + 1.2), layout="constrained")
    before, after = figure.subplots(1, 2, sharey=True)
    draw_scales(scales, False, before).set_xscale("symlog", linthresh=0.01)
    draw_scales(scales, True, after)
    before.tick_params(labelsize=7)
    after.tick_params(labelsize=7)
    return figure


def examples(bridge: Path) -> list[Example]:
    """Return a simulated episode with its intent and, where the data are there, a real one."""
    labellers: dict[str, Labeller] = {"adaptive": AdaptiveLabeller(), "HMM": HmmLabeller()}
    experts = expert_corpora("test") or synthetic_corpora(TEST_SEED)[7:8]
    tuning = {corpus.name: corpus for part in tuning_parts() for corpus in part}
    simulated = experts[0]
    raw = tuned_raw([tuning[simulated.name]])
    title = f"simulated: {simulated.name}, {simulated.rate_hz:g} Hz"
    drawn = [Example(title, simulated, 0, {"raw (tuned)": raw, **labellers}, truth_known=True)]
    if bridge.is_dir():
        real = bridge_corpus(bridge)
        richest = int(np.argmax([np.abs(np.diff(episode.actions[:, 6])).sum() for episode in real.episodes]))
        drawn.append(Example("real: Bridge V2, 5 Hz", real, richest, {"raw (0.03)": RawLabeller(), **labellers}, False))
    return drawn


def main() -> None:
    """Write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="folder with bridge_dataset and the statistics")
    parser.add_argument("--out", type=Path, default=FIGURES)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    figures = {"motion_traces": trace_figure(examples(arguments.data / "bridge_dataset"))}
    published = arguments.data / "oxe_action_stats.json"
    if published.is_file():
        figures["motion_scales"] = scale_figure(published_scales(published))
    else:
        print(f"({published} is not there: the figure of scales is left out; see docs/shared-files.md.)")
    for name, figure in figures.items():
        for suffix in ("png", "pdf"):
            figure.savefig(arguments.out / f"{name}.{suffix}", dpi=150)
            print(f"Wrote {arguments.out / name}.{suffix}")


if __name__ == "__main__":
    main()

"""`vla-eval figures architecture`: the network and its two training sequences (the paper's figure 2, from our code).

Every number is read from the preset, every token from the prompter that writes training sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import tyro

from analysis.figures.command import write_figure
from evals.errors import UsageError
from vla.errors import ModelError
from vla.model.config import ModelConfig
from vla.model.presets import preset
from vla.model.prompt import ACTION, MOTION, PromptBuilder, TokenSequence
from vla.model.tokenizer import make_tokenizer
from vla.motion.language import parse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"image": "#b7dfb0", "text": "#e3e3e3", "motion": "#a9cbea", "action": "#fbc98e", "network": "#f4f1e4"}
_INSTRUCTION = "put the spoon on the towel"
_MOTION = "move forward down, close gripper"
_BINS = (136, 120, 97, 128, 128, 131, 0)
_TOKENIZER = "small:1792"
"""Tokens are shown as text, so any tokenizer writes the same figure."""


@dataclass(frozen=True)
class ArchitectureConfig:
    """Draw the network of a preset and the sequences of both training stages.

    Attributes:
        preset: Preset of the model to draw.
        out: Folder for architecture.png and .pdf.
    """

    preset: str = "0.5b"
    out: Path = Path("results/figures")


class Segment(NamedTuple):
    """Tokens in a row of one kind: "image", "text", "motion" or "action"; motion and action carry loss."""

    kind: str
    text: str


def command(arguments: list[str]) -> int:
    """Run `vla-eval figures architecture`."""
    config = tyro.cli(ArchitectureConfig, args=arguments, prog="vla-eval figures architecture")
    try:
        figure = architecture_figure(preset(config.preset))
    except ModelError as error:
        raise UsageError(str(error)) from error
    write_figure(figure, config.out, "architecture")
    return 0


def stages(model: ModelConfig) -> dict[str, list[Segment]]:
    """Return the sequences of both stages as segments, in the order in which the model reads them."""
    tokenizer = make_tokenizer(_TOKENIZER, [_INSTRUCTION])
    prompts = PromptBuilder(tokenizer, replace(model, motion=True, action_horizon=1))
    parse(_MOTION)
    action_ids = [prompts.actions.first_token_id + index for index in _BINS]
    return {
        "Stage 1, pretraining: motion": segments(prompts, prompts.sequence(_INSTRUCTION, _MOTION, None)),
        "Stage 2, fine-tuning: motion, then action": segments(
            prompts, prompts.sequence(_INSTRUCTION, _MOTION, action_ids)
        ),
    }


def segments(prompts: PromptBuilder, sequence: TokenSequence) -> list[Segment]:
    """Cut a training sequence where the kind of its tokens changes."""
    names = {0: "text", MOTION: "motion", ACTION: "action"}
    kinds = [
        "image" if observed else names[int(kind)]
        for observed, kind in zip(sequence.observation, sequence.kinds, strict=True)
    ]
    found, start = [], 0
    for kind, run in groupby(kinds):
        end = start + sum(1 for _ in run)
        ids = sequence.token_ids[start:end].tolist()
        text = f"{end - start} image tokens" if kind == "image" else prompts.tokenizer.decode(ids, False)
        found.append(Segment(kind, text.strip("\n").replace("\n", " ⏎ ")))
        start = end
    return found


def architecture_figure(model: ModelConfig) -> Figure:
    """Draw the network above, the sequences of both stages below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.8))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_xlim(0, 100)
    axes.set_ylim(6, 64)
    axes.set_axis_off()
    draw_network(model, axes)
    top = 33.0
    for title, parts in stages(model).items():
        axes.text(1, top, title, fontsize=10, weight="bold")
        top = draw_sequence(parts, axes, top - 1.2) - 3.4
    axes.text(1, 7, "Thick border: these tokens carry loss. ⏎: line end.", fontsize=8, color="0.35")
    return figure


def draw_network(model: ModelConfig, axes: Axes) -> Axes:
    """Draw vision encoders, projector and language model with their sizes."""
    arguments = model.language.model
    width, side = arguments["hidden_size"], model.image_size
    share = 20 / len(model.vision_encoders)
    for index, encoder in enumerate(model.vision_encoders):
        y = 40 + index * share
        frozen = ", frozen" if encoder.frozen else ""
        text = f"{encoder.kind}{frozen}\n{encoder.layers_run} blocks, {encoder.width} wide"
        _box(axes, (20, y, 17, share - 2), text, "image")
        _arrow(axes, (15, 50), (20, y + share / 2 - 1))
        _arrow(axes, (37, y + share / 2 - 1), (42, 50))
    _box(axes, (1, 45, 14, 10), f"{len(model.cameras)} image(s)\n{side} x {side} px", "image")
    hidden = model.projector_width or 4 * model.feature_width
    widths = f"{model.feature_width} > {hidden} > {width} > {width}"
    _box(axes, (42, 45, 17, 10), f"projector of {model.image_tokens} tokens\n{widths}", "network")
    _arrow(axes, (59, 50), (64, 50))
    text = (
        f"language model, {arguments['model_type']}\n{arguments['num_hidden_layers']} layers, {width} wide\n"
        f"{arguments['vocab_size']} embedding rows,\n256 action tokens among them"
    )
    _box(axes, (64, 41, 20, 18), text, "network")
    _arrow(axes, (84, 50), (88, 54))
    _arrow(axes, (84, 50), (88, 45))
    _box(axes, (88, 51, 11, 7), "motion\nsentence", "motion")
    _box(axes, (88, 41, 11, 7), "7 action\ntokens", "action")
    axes.text(1, 61.5, f"Preset {model.name}", fontsize=10, weight="bold")
    return axes


def draw_sequence(parts: list[Segment], axes: Axes, top: float) -> float:
    """Draw segments from left to right, on a new line where one does not fit; returns the lower end."""
    x, y, per_character, height = 1.0, top - 3, 0.58, 2.6
    for part in parts:
        length = per_character * len(part.text) + 1.2
        if x + length > 99:
            x, y = 1.0, y - height - 0.8
        _box(axes, (x, y, length, height), part.text, part.kind, part.kind in ("motion", "action"), mono=True)
        x += length + 0.4
    return y


def _box(
    axes: Axes, place: tuple[float, float, float, float], text: str, kind: str, loss: bool = False, mono: bool = False
) -> None:
    """Draw a box at (left, bottom, width, height) with text in it."""
    from matplotlib.patches import Rectangle

    left, bottom, width, height = place
    edge, thickness = ("k", 1.8) if loss else ("0.55", 0.7)
    axes.add_patch(Rectangle((left, bottom), width, height, fc=_COLOURS[kind], ec=edge, lw=thickness))
    x, y = left + width / 2, bottom + height / 2
    family = "DejaVu Sans Mono" if mono else "DejaVu Sans"
    axes.text(x, y, text, ha="center", va="center", fontsize=7 if mono else 8, family=family)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": "0.35"})

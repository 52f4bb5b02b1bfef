"""`vla-eval figures embeddings CKPT...`: do motion words bring action tokens closer to words? (the paper's figure 3).

Vectors are read from checkpoints once and stored; the figures and the numbers are made from the stored ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from analysis.embeddings.numbers import Nearest, Number, PairNumbers, nearest_words, pair_numbers
from analysis.embeddings.plot import Plane, embedding_figure, joint_plane
from analysis.embeddings.vectors import SPACES, LabelledVectors, Space, load_vectors, save_vectors
from evals.errors import UsageError
from evals.terminal.tables import Sheet, render
from evals.terminal.text import show

STEM = "embeddings"
_TITLES = {
    "input": "Input embeddings",
    "output": "Output embeddings",
    "context": "Last hidden states on held-out observations",
}
_PAIR_HEADER = ("Condition", "Groups", "n", "Mahalanobis (plane)", "Separation", "Frechet", "Overlap")
_NEAREST_HEADER = (
    "Condition",
    "Words nearest to the mean action vector (cosine)",
    "Nearest is a motion word",
    "Chance",
)


@dataclass(frozen=True)
class EmbeddingsConfig:
    """Plot and measure the vectors of action tokens, motion words and ordinary words of checkpoints.

    Attributes:
        checkpoints: Checkpoint folders with the same tokenizer and width, one panel each; without any, the figure is
            drawn from stored vectors.
        names: Names of the checkpoints in the figure; the names of their folders by default.
        data: Folder of held-out demonstrations for contextual features; without it, only the embedding tables are
            measured.
        view: Name of the folder of rendered images to use, if the demonstrations of --data have several.
        out: Folder for the stored vectors, the figures (PDF, PNG) and the numbers.
        words: Number of ordinary words to sample.
        observations: Number of held-out observations to sample.
        draws: Number of bootstrap resamples.
        seed: Seed of the samples and the bootstrap.
    """

    checkpoints: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    names: tuple[str, ...] = ()
    data: Path | None = None
    view: str | None = None
    out: Path = Path("results/figures")
    words: int = 128
    observations: int = 64
    draws: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if self.names and len(self.names) != len(self.checkpoints):
            raise UsageError(f"--names has {len(self.names)} names for {len(self.checkpoints)} checkpoints.")
        if len(set(self.condition_names())) != len(self.checkpoints):
            raise UsageError(f"Checkpoints need names of their own, got {', '.join(self.condition_names())}: --names.")
        if self.draws < 2 or self.words < 1 or self.observations < 1:
            raise UsageError("--draws must be at least 2, --words and --observations at least 1.")

    def condition_names(self) -> tuple[str, ...]:
        """Names of the panels; `vla-train` calls every checkpoint's own folder "checkpoint", so its parent counts."""
        found = (path.resolve() for path in self.checkpoints)
        return self.names or tuple(path.parent.name if path.name == "checkpoint" else path.name for path in found)


def command(arguments: list[str]) -> int:
    """Run `vla-eval figures embeddings`."""
    config = tyro.cli(EmbeddingsConfig, args=arguments, prog="vla-eval figures embeddings")
    stored = config.out / f"{STEM}.npz"
    if config.checkpoints:
        save_vectors(stored, read_checkpoints(config))
    show(draw(load_vectors(stored), config.out, config.draws, config.seed))
    return 0


def read_checkpoints(config: EmbeddingsConfig) -> list[LabelledVectors]:
    """Read the vectors of every checkpoint in every space.

    Raises:
        UsageError: a checkpoint or the data cannot be used, or tokenizers differ.
    """
    from analysis.embeddings.context import HeldOut, context_vectors
    from analysis.embeddings.vectors import token_vectors
    from vla.data.errors import DataError
    from vla.errors import ModelError
    from vla.model.checkpoint import load_checkpoint

    found: list[LabelledVectors] = []
    first = ""
    for path, name in zip(config.checkpoints, config.condition_names(), strict=True):
        try:
            checkpoint = load_checkpoint(path)
            tokenizer = checkpoint.prompts.tokenizer.to_str()
            if tokenizer != (first := first or tokenizer):
                raise UsageError(
                    f"{path} and {config.checkpoints[0]} have different tokenizers: their tokens cannot be compared in "
                    "one figure. Train both from one --init, or on the same instructions."
                )
            found += token_vectors(checkpoint, name, config.words, config.seed)
            if config.data is not None:
                held_out = HeldOut(config.data, config.view, config.observations, seed=config.seed)
                found.append(context_vectors(checkpoint, name, held_out))
        except (ModelError, DataError) as error:
            raise UsageError(str(error)) from error
    return found


def draw(vectors: Sequence[LabelledVectors], out: Path, draws: int, seed: int) -> str:
    """Write the figures and embeddings.md; return the numbers as a table for the terminal."""
    out.mkdir(parents=True, exist_ok=True)
    sheets: list[Sheet] = []
    for space in SPACES:
        entries = [entry for entry in vectors if entry.space == space]
        if not entries:
            continue
        plane = joint_plane(entries)
        figure = embedding_figure(entries, plane)
        figure.savefig(out / f"{STEM}_{space}.png", dpi=150)
        figure.savefig(out / f"{STEM}_{space}.pdf", metadata={"CreationDate": None})
        sheets += numbers(entries, plane, draws, seed)
    if not any(entry.space == "output" for entry in vectors):
        note = "The output layer is the same table: these models tie the two."
        sheets[0] = replace(sheets[0], notes=(*sheets[0].notes, note))
    (out / f"{STEM}.md").write_text(render(sheets, "markdown"))
    return render(sheets)


def numbers(entries: Sequence[LabelledVectors], plane: Plane, draws: int, seed: int) -> list[Sheet]:
    """Return the numbers of one space as two tables: distances and nearest words."""
    space: Space = entries[0].space
    pairs = [
        pair
        for entry, points in zip(entries, plane.points, strict=True)
        for pair in pair_numbers(entry, points, draws, seed)
    ]
    within = ", ".join(
        f"{entry.condition} {100 * part:.1f} %" for entry, part in zip(entries, plane.explained_within, strict=True)
    )
    notes = (
        f"± is the standard error of {draws} bootstrap resamples in the same plane; in brackets, the mean under the "
        "permutation null. _ is a token's leading space. The plane holds "
        f"{100 * plane.explained.sum():.1f} % of the variance of all conditions together; of each: {within}.",
    )
    near = [nearest for entry in entries if (nearest := nearest_words(entry, draws, seed)) is not None]
    title = _TITLES[space]
    return [
        Sheet(title, _PAIR_HEADER, tuple(_pair_cells(pair) for pair in pairs), notes, labels=2),
        Sheet(f"{title}: nearest words", _NEAREST_HEADER, tuple(_near_cells(entry) for entry in near), labels=2),
    ]


def _pair_cells(pair: PairNumbers) -> tuple[str, ...]:
    measured = (_cell(number) for number in (pair.mahalanobis, pair.separation, pair.frechet, pair.overlap))
    return (pair.condition, " to ".join(pair.pair), f"{pair.counts[0]}, {pair.counts[1]}", *measured)


def _near_cells(nearest: Nearest) -> tuple[str, ...]:
    words = ", ".join(f"{text} ({cosine:.2f})" for text, cosine in nearest.to_mean)
    share = nearest.motion_share
    if not nearest.chance:
        return (nearest.condition, words, "no motion turn", "")
    said = f"{100 * share.value:.0f} ± {100 * share.error:.0f} %"
    return (nearest.condition, words, said, f"{100 * nearest.chance:.0f} %")


def _cell(number: Number) -> str:
    return f"{number.value:.2f} ± {number.error:.2f} ({number.null:.2f})"

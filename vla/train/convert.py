"""A checkpoint folder out of a file of openvla-mini's training, to be evaluated as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro

from vla.errors import TrainingError, WeightsError
from vla.model.checkpoint import save_checkpoint
from vla.train.config import ModelOptions
from vla.train.initialize import initial_checkpoint
from vla.weights.openvla import acting


@dataclass(frozen=True)
class ConvertConfig:
    """Write the model of an openvla-mini .pt file that acts as a checkpoint folder.

    Attributes:
        file: RUN/checkpoints/FILE.pt, with RUN/dataset_statistics.json.
        out: Folder of the checkpoint.
        model: What the model is: --model.preset 0.5b, and its tokenizer and action horizon if they are others.
    """

    file: Path
    out: Path
    model: ModelOptions = field(default_factory=ModelOptions)


def main(arguments: Sequence[str]) -> int:
    """Run `vla-train convert`."""
    convert(tyro.cli(ConvertConfig, args=arguments, prog="vla-train convert"))
    return 0


def convert(config: ConvertConfig) -> None:
    """Write the checkpoint.

    Raises:
        WeightsError: the file is damaged, does not fit the model, or does not act.
        TrainingError: `out` is there already.
    """
    if config.out.exists():
        raise TrainingError(f"--out {config.out} is there already; give another folder.")
    if not config.file.is_file():
        raise TrainingError(f"--file {config.file}: no such file.")
    found = acting(config.file)
    if found is None:
        raise WeightsError(
            f"{config.file} does not act: no {config.file.absolute().parent.parent / 'dataset_statistics.json'}. Train "
            "it first, with `vla-train train --init FILE.pt`."
        )
    begun = initial_checkpoint(str(config.file), config.model, (), "action", motion=False, seed=0)
    save_checkpoint(config.out, replace(begun, statistics=found.statistics))

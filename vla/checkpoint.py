"""A checkpoint is one folder.

config.json         what the network is, how it was trained, which frozen towers belong to it (source and hash)
model.safetensors   every weight but those of frozen towers
statistics.json     action statistics of every training set, in OpenVLA's layout, by un-normalisation key
tokenizer.json      and tokenizer_config.json, as `transformers.AutoTokenizer` reads them
towers/NAME/        optional: a frozen tower, for machines that reach neither hub nor package
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla.config import ModelConfig
from vla.errors import ActionDataError, CheckpointError, UnnormalizationError
from vla.model import MotionVLA
from vla.prompt import Prompter
from vla.statistics import ActionStatistics, read_statistics, write_statistics
from vla.tokenizer import action_tokenizer, read_tokenizer, write_tokenizer
from vla.weights import fingerprint, load_exactly, load_tower

Stage = Literal["vlm", "motion", "action", "finetune"]
FORMAT = 1

_CONFIG, _WEIGHTS, _STATISTICS, _TOWERS = "config.json", "model.safetensors", "statistics.json", "towers"
_HEAD, _TABLE = "language.lm_head.weight", "language.model.embed_tokens.weight"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it or to train on.

    Attributes:
        model: weights on the CPU, float32, in eval mode.
        prompter: its tokenizer and prompts.
        statistics: action statistics, by un-normalisation key.
        stage: last stage of training; only "finetune" and "action" models act.
        training: what `vla-train` was asked to do, for the record.
    """

    model: MotionVLA
    prompter: Prompter
    statistics: Mapping[str, ActionStatistics]
    stage: Stage
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        """What the network is."""
        return self.model.config

    def action_statistics(self, key: str) -> ActionStatistics:
        """Return the statistics to un-normalise actions with.

        Raises:
            UnnormalizationError: there are none under that key; the message lists the known ones.
        """
        if key not in self.statistics:
            raise UnnormalizationError(
                f"The checkpoint holds no action statistics named {key!r}, so its actions cannot be un-normalised "
                f"for that data set. It was trained on: {', '.join(self.statistics) or 'nothing that acts'}."
            )
        return self.statistics[key]


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, weights: Mapping[str, Tensor] | None = None, dtype: str = "float32"
) -> None:
    """Write a checkpoint; a folder that was there is replaced only when the new one is complete.

    Args:
        folder: where to.
        checkpoint: what to write.
        weights: the model's tensors, where they had to be gathered from several processes; else the model's own.
        dtype: in which weights are stored; "float16" halves the file.
    """
    config = checkpoint.config
    frozen = {tower.name: tower for tower in config.towers if tower.frozen}
    state = dict(weights if weights is not None else checkpoint.model.state_dict())
    hashes = {name: _tower_hash(state, name) for name in frozen}
    kept = {
        name: value.detach().to("cpu", _DTYPES[dtype]).contiguous()
        for name, value in state.items()
        if not name.startswith(tuple(f"towers.{tower}." for tower in frozen)) and not _is_tied_head(name, config)
    }
    described = {
        "model_type": "motion_vla",
        "format": FORMAT,
        "stage": checkpoint.stage,
        "model": config.to_json(),
        "frozen_towers": hashes,
        "training": dict(checkpoint.training),
    }
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / _CONFIG).write_text(json.dumps(described, indent=2, default=str) + "\n")
    save_file(kept, partial / _WEIGHTS)
    write_statistics(partial / _STATISTICS, checkpoint.statistics.values())
    write_tokenizer(checkpoint.prompter.tokenizer, partial)
    replace_folder(partial, folder)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: a file is missing or damaged, tensors are missing or unexpected (listed), or a frozen tower is
            not the one that the model was trained with.
        TokenizerError: the tokenizer lacks the action tokens.
        WeightsError: a frozen tower cannot be found; the message says where it was sought.
    """
    described = _described(folder)
    config = ModelConfig.from_json(described["model"], str(folder / _CONFIG))
    tokenizer = read_tokenizer(folder)
    action_tokenizer(tokenizer, str(folder / "tokenizer.json"))
    model = MotionVLA(config, tokenizer.get_vocab_size())
    frozen = tuple(f"towers.{tower.name}." for tower in config.towers if tower.frozen)
    load_exactly(model, _weights(folder, config), str(folder / _WEIGHTS), frozen)
    for tower in config.towers:
        if tower.frozen:
            own = folder / _TOWERS / tower.name
            load_tower(model, replace(tower, source=str(own)) if own.is_dir() else tower)
            _check_tower(model, tower.name, described["frozen_towers"].get(tower.name), folder)
    return Checkpoint(
        model.eval(), Prompter(tokenizer, config), _statistics(folder), described["stage"], described["training"]
    )


def replace_folder(partial: Path, folder: Path) -> None:
    """Put a complete folder in the place of an older one; whoever looks finds one of the two."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def _described(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        what = "holds no config.json" if folder.is_dir() else "does not exist"
        raise CheckpointError(f"{folder} {what}: a checkpoint is a folder that vla-train wrote.")
    try:
        described: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    missing = {"format", "stage", "model", "frozen_towers", "training"} - described.keys()
    if missing or described.get("model_type") != "motion_vla":
        raise CheckpointError(
            f"{path} is not from vla-train: no {', '.join(sorted(missing)) or 'model_type motion_vla'}."
        )
    if described["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {described['format']}; this version reads format {FORMAT}.")
    return described


def _weights(folder: Path, config: ModelConfig) -> dict[str, Tensor]:
    path = folder / _WEIGHTS
    try:
        weights = {name: value.float() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
    if _is_tied_head(_HEAD, config) and _TABLE in weights:
        weights[_HEAD] = weights[_TABLE]
    return weights


def _statistics(folder: Path) -> Mapping[str, ActionStatistics]:
    path = folder / _STATISTICS
    try:
        return read_statistics(path)
    except (OSError, json.JSONDecodeError, ActionDataError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _check_tower(model: MotionVLA, name: str, expected: str | None, folder: Path) -> None:
    got = _tower_hash(model.state_dict(), name)
    if got != expected:
        source = next(tower.source for tower in model.config.towers if tower.name == name)
        raise CheckpointError(
            f"The frozen tower {name!r} found for {folder} is another one: its hash is {got[:16]}, the model was "
            f"trained on {str(expected)[:16]}. It was sought at {source!r}; put the right one into "
            f"{folder / _TOWERS / name}."
        )


def _tower_hash(state: Mapping[str, Tensor], name: str) -> str:
    prefix = f"towers.{name}.network."
    return fingerprint((key.removeprefix(prefix), value) for key, value in state.items() if key.startswith(prefix))


def _is_tied_head(name: str, config: ModelConfig) -> bool:
    """Whether a tensor is the output layer of a language model that shares it with the embedding table."""
    return name == _HEAD and bool(config.language.model.get("tie_word_embeddings"))

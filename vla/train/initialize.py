"""The model that a training run begins with."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vla.errors import TrainingError
from vla.model.action_head import one_pass_head
from vla.model.checkpoint import Checkpoint, Stage, load_checkpoint
from vla.model.config import ModelConfig, VisionEncoderConfig
from vla.model.network import MotionVLA
from vla.model.presets import preset
from vla.model.prompt import PromptBuilder
from vla.model.tokenizer import make_tokenizer
from vla.train.config import ModelOptions
from vla.weights.load import load_pretrained
from vla.weights.prismatic import as_trained, load_prismatic


def initial_checkpoint(
    init: str, options: ModelOptions, instructions: Sequence[str], stage: Stage, motion: bool, seed: int
) -> Checkpoint:
    """Build or load the model that training begins with.

    Args:
        init: "scratch", a checkpoint folder, or a Prismatic `.pt` file.
        options: what to build; of a checkpoint folder, what to change.
        instructions: what a small tokenizer is trained on.
        stage: that training is in.
        motion: whether the model is to say a motion sentence.
        seed: of random weights.

    Returns:
        The model; its `training` says what was built (`model`) and out of what (`began_with`, with the training of that
        checkpoint, and so on to the first one).

    Raises:
        TrainingError: `init` is none of the three, or an option that cannot be had with it.
        ModelError: what `init` names is damaged or does not fit.
    """
    path = Path(init)
    if init != "scratch" and path.is_dir():
        return _continued(path, options, stage, motion, seed)
    if init != "scratch" and not path.is_file():
        raise TrainingError(f"--init {init}: no such folder or file; 'scratch' begins with the published weights.")
    config = configure(options, motion)
    if init != "scratch":
        config = as_trained(config, path)
    tokenizer = make_tokenizer(config.language.tokenizer, instructions)
    with _seeded(seed):
        model = MotionVLA(config, tokenizer.get_vocab_size())
    training = {"model": _built(config, options)}
    if init != "scratch":
        held = load_prismatic(model, path)
        frozen = [encoder.name for encoder in config.vision_encoders if encoder.frozen and encoder.name in held]
        if frozen:
            raise TrainingError(
                f"{init} holds the vision encoders {', '.join(frozen)}, so they are not the published ones: they "
                "cannot be left out of our checkpoints. Train without --model.freeze-vision-encoders."
            )
        training["began_with"] = {"init": init, "sha256": _hash(path), "action_tokenizer": config.action_tokenizer}
    elif options.pretrained:
        load_pretrained(model)
    return Checkpoint(model, PromptBuilder(tokenizer, config), {}, stage, training)


def _continued(folder: Path, options: ModelOptions, stage: Stage, motion: bool, seed: int) -> Checkpoint:
    """Load a checkpoint to train on, with what the options change about it."""
    loaded = load_checkpoint(folder)
    model, config = loaded.model, loaded.config
    _refuse_others(folder, options, config)
    config = replace(
        config,
        motion=motion,
        cameras=config.cameras if options.views is None else options.views,
        action_horizon=config.action_horizon if options.action_horizon is None else options.action_horizon,
        proprio_dim=config.proprio_dim if options.proprio_dim is None else options.proprio_dim,
        action_head=config.action_head if options.action_head is None else options.action_head,
        image_crop=config.image_crop if options.image_crop is None else options.image_crop,
    )
    if config.proprio_dim != model.config.proprio_dim:
        with _seeded(seed):
            model.proprio_projector = nn.Linear(config.proprio_dim, model.language.config.hidden_size)
    if config.action_head != model.config.action_head:
        with _seeded(seed):
            model.action_head = one_pass_head(config, model.language.config.hidden_size)
    model.config = config
    began_with = {
        "init": str(folder),
        "sha256": _hash(folder / "model.safetensors"),
        "stage": loaded.stage,
        "training": dict(loaded.training),
    }
    training = {"model": _built(config, options), "began_with": began_with}
    return Checkpoint(model, PromptBuilder(loaded.prompts.tokenizer, config), {}, stage, training)


def _refuse_others(folder: Path, options: ModelOptions, config: ModelConfig) -> None:
    """Refuse options that ask for another model than a checkpoint holds."""
    pairs = {
        "preset": (options.preset, config.name),
        "tokenizer": (options.tokenizer, config.language.tokenizer),
        "image-size": (options.image_size, config.image_size),
        "state-size": (options.proprio_dim, config.proprio_dim if config.proprio_dim else options.proprio_dim),
    }
    lines = [
        f"  --model.{name}: {asked!r} asked for, {held!r} in the checkpoint"
        for name, (asked, held) in pairs.items()
        if asked not in (None, held)
    ]
    trained = [encoder.name for encoder in config.vision_encoders if not encoder.frozen]
    if options.freeze_vision_encoders and trained:
        lines.append(
            f"  --model.freeze-vision encoders: {', '.join(trained)} cannot be frozen, as they are stored in it"
        )
    if not options.pretrained:
        lines.append("  --model.no-pretrained: a checkpoint is no random weights")
    if lines:
        raise TrainingError(
            f"--init {folder} holds a model that these options cannot change:\n"
            + "\n".join(lines)
            + "\nLeave them out, or begin with --init scratch."
        )


def _built(config: ModelConfig, options: ModelOptions) -> dict[str, Any]:
    """Return the options as what was built, as plain JSON data."""
    crop = {"image_crop": config.image_crop} if config.image_crop != 1 else {}
    return crop | {
        "preset": config.name,
        "pretrained": options.pretrained,
        "tokenizer": config.language.tokenizer,
        "image_size": config.image_size,
        "views": list(config.cameras),
        "state_size": config.proprio_dim,
        "chunk": config.action_horizon,
        "action_head": config.action_head,
        "freeze_vision_encoders": all(encoder.frozen for encoder in config.vision_encoders),
    }


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw random weights from a seed, and leave PyTorch's own generator as it was; they are made on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def configure(options: ModelOptions, motion: bool) -> ModelConfig:
    """Return a preset with what the options change."""
    options = options.filled()
    base = preset(str(options.preset))
    language = replace(base.language, tokenizer=options.tokenizer or base.language.tokenizer)
    if not options.pretrained:
        language = replace(language, source="")
    return replace(
        base,
        vision_encoders=tuple(_encoder(encoder, options) for encoder in base.vision_encoders),
        language=language,
        image_size=options.image_size or base.image_size,
        cameras=options.views or (),
        proprio_dim=options.proprio_dim or 0,
        image_crop=1.0 if options.image_crop is None else options.image_crop,
        action_horizon=options.action_horizon or 0,
        action_head=options.action_head or base.action_head,
        motion=motion,
    )


def _encoder(encoder: VisionEncoderConfig, options: ModelOptions) -> VisionEncoderConfig:
    frozen = encoder.frozen or options.freeze_vision_encoders
    source = encoder.source if options.pretrained else ""
    if frozen and not source:
        if options.freeze_vision_encoders:
            raise TrainingError(
                f"Vision encoder {encoder.name!r} has random weights: frozen, it could never be found again."
            )
        frozen = False
    return replace(encoder, source=source, frozen=frozen)

"""The model that a training run begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vla.checkpoint import Checkpoint, Stage, load_checkpoint
from vla.config import ModelConfig, TowerConfig
from vla.errors import TrainingError
from vla.model import MotionVLA
from vla.presets import preset
from vla.prismatic import load_prismatic
from vla.prompt import Prompter
from vla.tokenizer import make_tokenizer
from vla.train_config import ModelOptions
from vla.weights import load_pretrained


def initial_checkpoint(
    init: str, options: ModelOptions, instructions: Sequence[str], stage: Stage, motion: bool, seed: int
) -> Checkpoint:
    """Build or load the model that training begins with.

    Args:
        init: "scratch", a checkpoint folder, or a Prismatic `.pt` file.
        options: what to build; ignored for a checkpoint folder.
        instructions: what a small tokenizer is trained on.
        stage: that training is in.
        motion: whether the model is to say a motion sentence.
        seed: of random weights.

    Raises:
        TrainingError: `init` is none of the three.
    """
    torch.manual_seed(seed)
    if init != "scratch" and Path(init).is_dir():
        loaded = load_checkpoint(Path(init))
        model = loaded.model
        model.config = replace(model.config, motion=motion)
        return Checkpoint(model, Prompter(loaded.prompter.tokenizer, model.config), {}, stage)
    config = configure(options, motion)
    tokenizer = make_tokenizer(config.language.tokenizer, instructions)
    model = MotionVLA(config, tokenizer.get_vocab_size())
    if init == "scratch":
        if options.pretrained:
            load_pretrained(model)
    elif Path(init).is_file():
        held = load_prismatic(model, Path(init))
        if options.freeze_towers and held:
            raise TrainingError(
                f"{init} holds the towers {', '.join(held)}, so they are not the published ones: they cannot be left "
                "out of our checkpoints. Train without --model.freeze-towers."
            )
    else:
        raise TrainingError(f"--init {init}: no such folder or file; 'scratch' begins with the published weights.")
    return Checkpoint(model, Prompter(tokenizer, config), {}, stage)


def configure(options: ModelOptions, motion: bool) -> ModelConfig:
    """Return a preset with what the options change."""
    base = preset(options.preset)
    language = replace(base.language, tokenizer=options.tokenizer or base.language.tokenizer)
    if not options.pretrained:
        language = replace(language, source="")
    return replace(
        base,
        towers=tuple(_tower(tower, options) for tower in base.towers),
        language=language,
        image_size=options.image_size or base.image_size,
        cameras=options.views,
        state_size=options.state_size,
        chunk=options.chunk,
        motion=motion,
    )


def _tower(tower: TowerConfig, options: ModelOptions) -> TowerConfig:
    frozen = tower.frozen or options.freeze_towers
    source = tower.source if options.pretrained else ""
    if frozen and not source:
        if options.freeze_towers:
            raise TrainingError(f"Tower {tower.name!r} has random weights: frozen, it could never be found again.")
        frozen = False
    return replace(tower, source=source, frozen=frozen)

"""Low-rank adaptation of the language model, by peft; saved checkpoints hold merged weights and need no peft."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vla.errors import TrainingError
from vla.model.network import MotionVLA
from vla.train.recipe import LoraOptions

_BASE = ".base_layer."


def add_lora(model: MotionVLA, options: LoraOptions, seed: int) -> None:
    """Put adapters beside every linear layer of the language model but its output layer, and train them in its place.

    Args:
        model: changed in place; at first it computes what it did before.
        options: rank, scale, and whether the embedding table is trained too.
        seed: of the adapters' random half.

    Raises:
        TrainingError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise TrainingError("--lora.rank needs the package peft: pip install 'motion-vla[lora]'.") from error
    adapters = LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules="all-linear")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(adapters, model.language)
    model.language.get_input_embeddings().requires_grad_(options.embeddings)


def merged(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return weights without adapters: `W + scale * B A` under the layer's own name.

    Args:
        weights: of a model with adapters; others are returned as they are.
        scale: `LoraOptions.scale`.
    """
    kept = {name: value for name, value in weights.items() if ".lora_" not in name}
    for name in [name for name in kept if _BASE in name]:
        value = kept.pop(name)
        layer, _, kind = name.partition(_BASE)
        if kind == "weight":
            down, up = (weights[f"{layer}.lora_{half}.default.weight"] for half in "AB")
            value = value + scale * (up.float() @ down.float()).to(value)
        kept[f"{layer}.{kind}"] = value
    return kept

"""Prismatic checkpoints (`prism-qwen25-extra-dinosiglip-224px+0_5b` and its kind) into our network.

Layout: `{"model": {"vision_backbone": {...}, "llm_backbone": {...}, "projector": {...}}}` as `torch.save` wrote it,
with timm's names in the towers (`dino_featurizer.`, `siglip_featurizer.`), `llm.` before the language model's and
`projector.` before the projector's. The towers are absent where they were frozen, and come from their own sources then.
Source: `prismatic/models/vlms/prismatic.py` and `prismatic/training/strategies/fsdp.py` of TRI-ML/prismatic-vlms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vla.config import TowerConfig
from vla.errors import WeightsError, listed
from vla.model import MotionVLA
from vla.weights import State, fit_tower, load_exactly, load_language, load_tower

_PARTS = {"vision_backbone", "llm_backbone", "projector"}

_RENAMES = {
    "siglip": (
        (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
        (r"^blocks\.", "encoder.layers."),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"\.attn\.proj\.", ".self_attn.out_proj."),
        (r"\.attn\.([qkv])\.", r".self_attn.\1_proj."),
        (r"^norm\.", "post_layernorm."),
        (r"^attn_pool\.", "head."),
    ),
    "dinov2": (
        (r"^cls_token$", "embeddings.cls_token"),
        (r"^reg_token$", "embeddings.register_tokens"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^blocks\.", "encoder.layer."),
        (r"\.attn\.proj\.", ".attention.o_proj."),
        (r"\.attn\.([qkv])\.", r".attention.\1_proj."),
        (r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1"),
        (r"^norm\.", "layernorm."),
    ),
}
_RENAMES["dinov2_with_registers"] = _RENAMES["dinov2"]


def load_prismatic(model: MotionVLA, path: Path) -> tuple[str, ...]:
    """Load a Prismatic checkpoint.

    Args:
        model: with towers named `dino` and `siglip`.
        path: the `.pt` file.

    Returns:
        Names of the towers that the checkpoint held; the others were loaded from their own sources.

    Raises:
        WeightsError: another layout, or tensors that do not fit.
    """
    parts = read_prismatic(path)
    load_exactly(model.projector, _without_prefix(parts["projector"], "projector."), f"{path}: projector")
    load_language(model, _without_prefix(parts["llm_backbone"], "llm."), f"{path}: llm_backbone")
    held = []
    for tower in model.config.towers:
        prefix = f"{tower.name}_featurizer."
        theirs = {key: value for key, value in parts.get("vision_backbone", {}).items() if key.startswith(prefix)}
        if theirs:
            state = tower_from_timm(_without_prefix(theirs, prefix), tower)
            fitted = fit_tower(state, tower, model.config.image_size)
            load_exactly(model.towers[tower.name].network, fitted, f"{path}: {prefix}*")
            held.append(tower.name)
        else:
            load_tower(model, tower)
    return tuple(held)


def read_prismatic(path: Path) -> Mapping[str, State]:
    """Read the parts of a checkpoint, mapped from disk."""
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    parts = loaded.get("model") if isinstance(loaded, dict) else None
    if not isinstance(parts, dict) or not {"llm_backbone", "projector"} <= parts.keys() <= _PARTS:
        found = listed(map(str, parts)) if isinstance(parts, dict) else "no `model`"
        raise WeightsError(
            f"{path} is no Prismatic checkpoint: `model` with {', '.join(sorted(_PARTS))} is expected, found {found}."
        )
    return parts


def tower_from_timm(state: Mapping[str, Tensor], config: TowerConfig) -> State:
    """Rename the tensors of timm's `VisionTransformer` to those of `transformers`.

    timm adds no position to the class token of DINOv2 with registers; `transformers` adds one, which becomes zero.
    """
    renamed: State = {}
    for name, value in state.items():
        if name == "pos_embed":
            renamed |= _positions(value, config)
        elif ".attn.qkv." in name:
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                renamed[_rename(name.replace(".qkv.", f".{letter}."), config)] = part
        else:
            renamed[_rename(name, config)] = value
    return renamed


def _rename(name: str, config: TowerConfig) -> str:
    for pattern, ours in _RENAMES[config.kind]:
        name = re.sub(pattern, ours, name)
    return name


def _positions(value: Tensor, config: TowerConfig) -> State:
    if config.kind == "siglip":
        return {"embeddings.position_embedding.weight": value[0]}
    if config.kind == "dinov2_with_registers":
        value = torch.cat([torch.zeros_like(value[:, :1]), value], dim=1)
    return {"embeddings.position_embeddings": value}


def _without_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items()}

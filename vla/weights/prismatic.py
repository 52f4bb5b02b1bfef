"""Prismatic checkpoints (`prism-qwen25-extra-dinosiglip-224px+0_5b` and its kind) into our network.

Layout: `{"model": {"vision_backbone": {...}, "llm_backbone": {...}, "projector": {...}}}` as `torch.save` wrote it,
with timm's names in the vision encoders (`dino_featurizer.`, `siglip_featurizer.`), `llm.` before the language
model's and `projector.` before the projector's. The vision encoders are absent where they were frozen; they come from
their own sources then.
Source: `prismatic/models/vlms/prismatic.py` and `prismatic/training/strategies/fsdp.py` of TRI-ML/prismatic-vlms.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from vla.errors import WeightsError, listed
from vla.model.config import ActionTokens, ModelConfig, VisionEncoderConfig
from vla.model.network import MotionVLA
from vla.weights.foreign import what_file
from vla.weights.load import UNREADABLE, State, fit_vision_encoder, load_exactly, load_language, load_vision_encoder
from vla.weights.openvla import acting

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


def as_trained(config: ModelConfig, path: Path) -> ModelConfig:
    """Return the configuration with the layout that Prismatic's models were trained on, and their action tokens.

    Raises:
        WeightsError: the file is of a model that acts, and nothing says what its action tokens mean.
    """
    found = acting(path)
    tokens: ActionTokens = found.action_tokenizer if found else config.action_tokenizer
    return replace(config, image_position="after_first_token", action_tokenizer=tokens)


def load_prismatic(model: MotionVLA, path: Path) -> tuple[str, ...]:
    """Load a Prismatic checkpoint.

    Args:
        model: with vision encoders named `dino` and `siglip`.
        path: the `.pt` file.

    Returns:
        Names of the vision encoders that the checkpoint held; the others were loaded from their own sources.

    Raises:
        WeightsError: another layout, or tensors that do not fit.
    """
    parts = read_prismatic(path)
    vision = parts.get("vision_backbone", {})
    prefixes = tuple(f"{encoder.name}_featurizer." for encoder in model.config.vision_encoders)
    unknown = [key for key in vision if not key.startswith(prefixes)]
    if unknown:
        raise WeightsError(
            f"{path}: the vision backbone has tensors of no vision encoder of the preset {model.config.name!r}, "
            "such as "
            f"{listed(unknown[:1])}. Give the preset of these weights with --model.preset."
        )
    _load(model.projector, _without_prefix(parts["projector"], "projector."), f"{path}: projector", model)
    load_language(model, _without_prefix(parts["llm_backbone"], "llm."), f"{path}: llm_backbone")
    held = []
    for encoder, prefix in zip(model.config.vision_encoders, prefixes, strict=True):
        theirs = {key: value for key, value in vision.items() if key.startswith(prefix)}
        if theirs:
            state = vision_encoder_from_timm(_without_prefix(theirs, prefix), encoder)
            fitted = fit_vision_encoder(state, encoder, model.config.image_size)
            _load(model.vision_encoders[encoder.name].network, fitted, f"{path}: {prefix}*", model)
            held.append(encoder.name)
        else:
            load_vision_encoder(model, encoder)
    return tuple(held)


def read_prismatic(path: Path) -> Mapping[str, State]:
    """Read the parts of a checkpoint, mapped from disk where its format allows it; nothing but tensors is unpickled.

    Raises:
        WeightsError: the file cannot be read, is of another format or layout, or holds more than tensors.
    """
    loaded = _unpickled(path)
    parts = loaded.get("model") if isinstance(loaded, dict) else None
    if not isinstance(parts, dict) or not {"llm_backbone", "projector"} <= parts.keys() <= _PARTS:
        found = listed(map(str, parts)) if isinstance(parts, dict) else "no `model`"
        raise WeightsError(
            f"{path} is no Prismatic checkpoint: `model` with {', '.join(sorted(_PARTS))} is expected, found {found}. "
            "Give the .pt file that Prismatic's training wrote (checkpoints/latest-checkpoint.pt of its run folder)."
        )
    for name, part in parts.items():
        odd = [key for key, value in part.items() if not _is_tensor(value)] if isinstance(part, dict) else ["itself"]
        if odd:
            raise WeightsError(f"{path}: in {name}, {listed(map(str, odd))} is no tensor: the file is not Prismatic's.")
    return parts


def _load(module: nn.Module, state: State, what: str, model: MotionVLA) -> None:
    try:
        load_exactly(module, state, what)
    except WeightsError as error:
        raise WeightsError(
            f"{error}\nThe preset is {model.config.name!r}; name that of these weights with --model.preset."
        ) from error


def _unpickled(path: Path) -> object:
    fault = what_file(path)
    if fault:
        raise WeightsError(f"{path} cannot be read. {fault}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise WeightsError(
            f"{path} is damaged, or holds Python objects besides tensors{f' ({asked[1]})' if asked else ''}, and is "
            "not unpickled: that could run any program. Where it was written, store its tensors alone: "
            "torch.save({'model': checkpoint['model']}, ...)."
        ) from error
    except UNREADABLE as error:
        raise WeightsError(f"{path} cannot be read: {error}. Fetch it again and compare its size.") from error


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"


def vision_encoder_from_timm(state: Mapping[str, Tensor], config: VisionEncoderConfig) -> State:
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


def _rename(name: str, config: VisionEncoderConfig) -> str:
    for pattern, ours in _RENAMES[config.kind]:
        name = re.sub(pattern, ours, name)
    return name


def _positions(value: Tensor, config: VisionEncoderConfig) -> State:
    if config.kind == "siglip":
        return {"embeddings.position_embedding.weight": value[0]}
    if config.kind == "dinov2_with_registers":
        value = torch.cat([torch.zeros_like(value[:, :1]), value], dim=1)
    return {"embeddings.position_embeddings": value}


def _without_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items()}

"""Pretrained weights from a hub, a local folder or a package into our network, every tensor accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import (
    AutoModelForCausalLM,
    Dinov2Model,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    SiglipVisionModel,
)

from vla.config import LanguageConfig, TowerConfig
from vla.errors import WeightsError, listed
from vla.model import MotionVLA
from vla.onnx_weights import dinov2_from_onnx
from vla.packages import package_file

State = dict[str, Tensor]

_TOWER_CLASSES: Mapping[str, type[PreTrainedModel]] = {
    "siglip": SiglipVisionModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
}
_POSITIONS = {
    "siglip": "embeddings.position_embedding.weight",
    "dinov2": "embeddings.position_embeddings",
    "dinov2_with_registers": "embeddings.position_embeddings",
}


def load_pretrained(model: MotionVLA) -> None:
    """Load every tower and the language model from the sources in the model's configuration; "" leaves random weights.

    Raises:
        WeightsError: a source cannot be reached, or its tensors do not fit.
    """
    for tower in model.config.towers:
        load_tower(model, tower)
    language = model.config.language
    if language.source:
        load_language(model, language_state(language), language.source)


def load_tower(model: MotionVLA, config: TowerConfig) -> None:
    """Load one tower from its source; "" leaves random weights."""
    if config.source:
        network = model.towers[config.name].network
        state = fit_tower(tower_state(config), config, model.config.image_size)
        load_exactly(network, state, f"Tower {config.name!r} from {config.source!r}")


def tower_state(config: TowerConfig) -> State:
    """Read a published tower's tensors, with the names of `transformers` and at its own image size."""
    if config.source.startswith("package:"):
        return dinov2_from_onnx(package_file(config.source), config.layers)
    network = _from_hub(lambda: _TOWER_CLASSES[config.kind].from_pretrained(config.source), config.source)
    return dict(network.state_dict())


def language_state(config: LanguageConfig) -> State:
    """Read a published language model's tensors, in float32."""
    if config.source.startswith("package:"):
        path = package_file(config.source)
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    else:
        where = {"pretrained_model_name_or_path": config.source}
    network = _from_hub(lambda: AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32), config.source)
    return dict(network.state_dict())


def fit_tower(state: Mapping[str, Tensor], config: TowerConfig, image_size: int) -> State:
    """Leave out what our tower does not run, and resample position embeddings to another grid.

    Bicubic with antialiasing, as timm does when Prismatic builds its towers at 224 px.
    """
    skipped = range(config.layers - config.skipped_layers, config.layers)
    blocks = tuple(f"encoder.{name}.{index}." for name in ("layer", "layers") for index in skipped)
    unused = (*blocks, "layernorm.", "post_layernorm.", "head.", "embeddings.mask_token", "embeddings.position_ids")
    fitted = {name: value for name, value in state.items() if not name.startswith(unused)}
    name = _POSITIONS[config.kind]
    if name in fitted:
        prefix = 0 if config.kind == "siglip" else 1
        fitted[name] = _resampled(fitted[name], prefix, image_size // config.patch)
    return fitted


def load_language(model: MotionVLA, state: Mapping[str, Tensor], where: str) -> None:
    """Load a language model's tensors; token rows that the source lacks (action tokens) keep their random values."""
    own = model.language.state_dict()
    grown = dict(state)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in own and name in state:
            grown[name] = _with_rows(state[name], own[name], f"{where}: {name}")
    if model.language.config.tie_word_embeddings:
        grown.setdefault("lm_head.weight", grown.get("model.embed_tokens.weight", own["lm_head.weight"]))
    load_exactly(model.language, grown, f"Language model from {where!r}")


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], what: str, spared: tuple[str, ...] = ()) -> None:
    """Load tensors, or say which are missing, unexpected or of another shape.

    Args:
        module: to load into.
        state: its tensors by name.
        what: what error messages call it.
        spared: beginnings of names that are loaded otherwise.

    Raises:
        WeightsError: any is; nothing has been loaded then.
    """
    own = {name: value for name, value in module.state_dict().items() if not name.startswith(spared or ("\0",))}
    problems = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "of another shape": {
            f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
            for name in own.keys() & state.keys()
            if own[name].shape != state[name].shape
        },
    }
    lines = [f"  {kind} ({len(names)}): {listed(names)}" for kind, names in problems.items() if names]
    if lines:
        raise WeightsError(f"{what} does not fit the model:\n" + "\n".join(lines))
    module.load_state_dict(dict(state), strict=not spared)


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash named tensors, order aside, to 64 hex digits of SHA-256; float32 values, so storage precision shows."""
    total = hashlib.sha256()
    for name, value in sorted(tensors, key=lambda item: item[0]):
        total.update(f"{name} {tuple(value.shape)}".encode())
        total.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return total.hexdigest()


def _from_hub(load: Callable[[], PreTrainedModel], source: str) -> PreTrainedModel:
    try:
        return load()
    except (OSError, ImportError) as error:
        what = "folder" if Path(source).is_dir() else "hub id"
        raise WeightsError(
            f"Cannot load pretrained weights from the {what} {source!r}: {error} Give a local folder that holds "
            "them, or train from random weights."
        ) from error


def _resampled(positions: Tensor, prefix: int, side: int) -> Tensor:
    """Resample position embeddings `[N, D]` or `[1, prefix + N, D]` to a grid of `side` by `side`."""
    table = positions if positions.ndim == 3 else positions[None]
    kept, grid = table[:, :prefix], table[:, prefix:]
    old = round(grid.shape[1] ** 0.5)
    if old == side:
        return positions
    square = grid.float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized = interpolate(square, size=(side, side), mode="bicubic", antialias=True)
    joined = torch.cat([kept, resized.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)], dim=1)
    return joined if positions.ndim == 3 else joined[0]


def _with_rows(source: Tensor, own: Tensor, where: str) -> Tensor:
    if source.shape[0] > own.shape[0]:
        raise WeightsError(
            f"{where} has {source.shape[0]} rows, the model {own.shape[0]}: the tokenizer is not the one that these "
            "weights were trained with."
        )
    return torch.cat([source.to(own.dtype), own[source.shape[0] :].cpu()])

"""Pretrained weights from a hub, a local folder or a package into our network, every tensor accounted for."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import (
    AutoModelForCausalLM,
    Dinov2Model,
    Dinov2WithRegistersModel,
    PreTrainedModel,
    SiglipVisionModel,
)

from vla.actions import BINS
from vla.errors import WeightsError, listed
from vla.model.config import LanguageConfig, VisionEncoderConfig
from vla.model.network import MotionVLA
from vla.weights.onnx import dinov2_from_onnx
from vla.weights.packages import package_file

State = dict[str, Tensor]

UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError),
    *(pickle.UnpicklingError, SafetensorError, StrictDataclassError),
)
"""What PyTorch, `transformers` and `safetensors` raise for files and settings that they cannot use."""

_TABLE, _HEAD = "model.embed_tokens.weight", "lm_head.weight"

_ENCODER_CLASSES: Mapping[str, type[PreTrainedModel]] = {
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
    """Load every vision encoder and the language model from their sources; "" leaves random weights.

    Raises:
        WeightsError: a source cannot be reached, or its tensors do not fit.
    """
    for encoder in model.config.vision_encoders:
        load_vision_encoder(model, encoder)
    language = model.config.language
    if language.source:
        load_language(model, language_state(language), language.source)


def load_vision_encoder(model: MotionVLA, config: VisionEncoderConfig) -> None:
    """Load one vision encoder from its source, and note the hash of what was published; "" leaves random weights."""
    if config.source:
        encoder = model.vision_encoders[config.name]
        published = _used(vision_encoder_state(config), config)
        load_exactly(
            encoder.network,
            fit_vision_encoder(published, config, model.config.image_size),
            f"Vision encoder {config.name!r} from {config.source!r}",
        )
        encoder.published_hash = fingerprint(published.items())


def vision_encoder_state(config: VisionEncoderConfig) -> State:
    """Read a published encoder's tensors, with the names of `transformers` and at its own image size."""
    if config.source.startswith("package:"):
        return dinov2_from_onnx(package_file(config.source), config.layers)
    return _from_hub(_ENCODER_CLASSES[config.kind], config.source, {"pretrained_model_name_or_path": config.source})


def language_state(config: LanguageConfig) -> State:
    """Read a published language model's tensors, in float32."""
    if config.source.startswith("package:"):
        path = package_file(config.source)
        where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    else:
        where = {"pretrained_model_name_or_path": config.source}
    return _from_hub(AutoModelForCausalLM, config.source, {**where, "dtype": torch.float32})


def fit_vision_encoder(state: Mapping[str, Tensor], config: VisionEncoderConfig, image_size: int) -> State:
    """Leave out what our vision encoder does not run, and resample position embeddings to another grid.

    Bicubic with antialiasing, as timm does when Prismatic builds its vision encoders at 224 px.
    """
    fitted = _used(state, config)
    name = _POSITIONS[config.kind]
    if name in fitted:
        prefix = 0 if config.kind == "siglip" else 1
        fitted[name] = _resampled(fitted[name], prefix, image_size // config.patch)
    return fitted


def load_language(model: MotionVLA, state: Mapping[str, Tensor], where: str) -> None:
    """Load a language model's tensors; token rows that the source lacks (action tokens) keep their random values.

    Raises:
        WeightsError: tensors that do not fit, too few or too many token rows, or an output layer that differs from the
            token table in a model that has one for both.
    """
    own = model.language.state_dict()
    grown = dict(state)
    for name in (_TABLE, _HEAD):
        if name in own and name in state:
            grown[name] = _with_rows(state[name], own[name], model.vocabulary, f"{where}: {name}")
    if model.language.config.tie_word_embeddings:
        grown = _tied(grown, where)
    load_exactly(model.language, grown, f"Language model from {where!r}")


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], what: str, spared: tuple[str, ...] = ()) -> None:
    """Load tensors, or say which are missing, unexpected, of another shape, no real numbers or not finite.

    Args:
        module: to load into.
        state: its tensors by name.
        what: what error messages call it.
        spared: beginnings of names that are loaded otherwise.

    Raises:
        WeightsError: any is; nothing has been loaded then.
    """
    check_fit(module, state, what, spared)
    bad = {name: str(value[~value.isfinite()][0].item()) for name, value in state.items() if not _all_finite(value)}
    if bad:
        raise WeightsError(
            f"{what} holds values that are not finite ({len(bad)} of {len(state)} tensors): "
            f"{listed(f'{name} ({value})' for name, value in bad.items())}. Training had diverged, or the values were "
            "too large for the format they were stored in: take an earlier checkpoint, or store it as float32."
        )
    module.load_state_dict(dict(state), strict=not spared)


def check_fit(module: nn.Module, state: Mapping[str, Tensor], what: str, spared: tuple[str, ...] = ()) -> None:
    """Refuse tensors that `load_exactly` could not load, by name, shape and kind; their values are not looked at.

    Raises:
        WeightsError: which do not fit.
    """
    own = {name: value for name, value in module.state_dict().items() if not name.startswith(spared or ("\0",))}
    both = own.keys() & state.keys()
    problems = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "of another shape": {
            f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
            for name in both
            if own[name].shape != state[name].shape
        },
        "not of real numbers": {
            f"{name} {str(state[name].dtype).removeprefix('torch.')}"
            for name in both
            if own[name].is_floating_point() and not state[name].is_floating_point()
        },
    }
    lines = [f"  {kind} ({len(names)}): {listed(names)}" for kind, names in problems.items() if names]
    if lines:
        raise WeightsError(f"{what} does not fit the model:\n" + "\n".join(lines))


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash named tensors, order aside, to 64 hex digits of SHA-256; float32 values, so storage precision shows."""
    total = hashlib.sha256()
    for name, value in sorted(tensors, key=lambda item: item[0]):
        total.update(f"{name} {tuple(value.shape)}".encode())
        total.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return total.hexdigest()


def _from_hub(kind: type[PreTrainedModel], source: str, where: Mapping[str, Any]) -> State:
    """Read tensors through `transformers`, which fills in what the files lack at random, and only warns."""
    try:
        network, found = kind.from_pretrained(**where, output_loading_info=True)
    except (*UNREADABLE, ImportError) as error:
        what = "folder" if Path(source).is_dir() else "hub id"
        raise WeightsError(
            f"Cannot load pretrained weights from the {what} {source!r}: {error} Give a local folder that holds "
            "them, or train from random weights."
        ) from error
    if found["missing_keys"]:
        raise WeightsError(
            f"The weights in {source!r} lack {listed(found['missing_keys'])}: they are not those of a "
            f"{type(network).__name__}. Give the folder or hub id of one."
        )
    return dict(network.state_dict())


def _used(state: Mapping[str, Tensor], config: VisionEncoderConfig) -> State:
    """Leave out the published tensors that our vision encoder does not run."""
    skipped = range(config.layers_run, config.layers)
    blocks = tuple(f"encoder.{name}.{index}." for name in ("layer", "layers") for index in skipped)
    unused = (*blocks, "layernorm.", "post_layernorm.", "head.", "embeddings.mask_token", "embeddings.position_ids")
    return {name: value for name, value in state.items() if not name.startswith(unused)}


def _all_finite(value: Tensor) -> bool:
    return bool(value.isfinite().all())


def _tied(state: State, where: str) -> State:
    """Return the token table as output layer too."""
    table, head = state.get(_TABLE), state.get(_HEAD)
    if table is None:
        return state
    if head is not None and not _same(head, table):
        raise WeightsError(
            f"{where}: {_HEAD} {list(head.shape)} and {_TABLE} {list(table.shape)} differ, and this model has one "
            "table for both (tie_word_embeddings): one of the two would be lost. Give weights whose output layer is "
            "the token table, or leave out the one that is not wanted."
        )
    return {**state, _HEAD: table}


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


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether values are equal, in whatever precision each is stored; NaN equals itself."""
    return one.shape == other.shape and bool((one.float().nan_to_num() == other.float().nan_to_num()).all())


def _with_rows(source: Tensor, own: Tensor, vocabulary: int, where: str) -> Tensor:
    """Return a table with the source's rows, and our own behind them."""
    if source.ndim != own.ndim or not source.is_floating_point():
        return source  # `check_fit` says so
    rows = source.shape[0]
    if rows > own.shape[0]:
        raise WeightsError(
            f"{where} has {rows} rows, the model {own.shape[0]}: the tokenizer is not the one that these weights were "
            "trained with. Give the preset (--model.preset) and the tokenizer (--model.tokenizer) of these weights; "
            "rows that only pad the table must be cut off."
        )
    if rows < vocabulary - BINS:
        raise WeightsError(
            f"{where} has {rows} rows, the tokenizer {vocabulary - BINS} tokens besides those of actions: the others "
            "would be random. Give the tokenizer of these weights with --model.tokenizer."
        )
    return torch.cat([source.to(own.dtype), own[rows:].cpu()])

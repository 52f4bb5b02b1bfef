"""DINOv2 tensors out of an ONNX file that `torch.onnx` exported from `transformers`.

Biases and norms keep their names; weights of linear layers are anonymous, and are found through the node that
uses them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vla.errors import WeightsError

_ROOT = "backbone."
_LINEAR = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_DIRECT = (
    "norm1.weight",
    "norm1.bias",
    "norm2.weight",
    "norm2.bias",
    "layer_scale1.lambda1",
    "layer_scale2.lambda1",
)


def dinov2_from_onnx(path: Path, layers: int) -> dict[str, Tensor]:
    """Read a DINOv2 backbone.

    Args:
        path: ONNX file whose backbone is called `backbone`.
        layers: blocks to read.

    Returns:
        Tensors with the names of `transformers.Dinov2Model`, without its final norm.

    Raises:
        WeightsError: `onnx` is not installed, the file is damaged, or the graph is laid out otherwise.
    """
    tensors, inputs = _graph(path)
    try:
        state = {
            "embeddings.cls_token": tensors[_ROOT + "embeddings.cls_token"],
            "embeddings.position_embeddings": _positions(tensors, inputs),
        }
        for end in ("weight", "bias"):
            name = f"embeddings.patch_embeddings.projection.{end}"
            state[name] = tensors[_ROOT + name]
        for layer in range(layers):
            state |= _block(layer, tensors, inputs)
    except (KeyError, StopIteration) as error:
        raise WeightsError(f"{path} does not hold a DINOv2 backbone of {layers} blocks: no {error}.") from error
    return state


def _graph(path: Path) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Return all initial tensors by name, and every node's inputs by its name."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # it has no stubs
    except ImportError as error:
        raise WeightsError(f"Reading {path} needs the package onnx: `pip install onnx`.") from error
    try:
        graph = onnx.load(path).graph
    except (OSError, ValueError, DecodeError) as error:
        raise WeightsError(
            f"{path} cannot be read as ONNX: {error}. Install the package that holds it again."
        ) from error
    tensors = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in graph.initializer}
    return tensors, {node.name: list(node.input) for node in graph.node}


def _positions(tensors: dict[str, Tensor], inputs: dict[str, list[str]]) -> Tensor:
    """Join the class token's position and the grid's, which the graph resizes before it joins them."""
    width = tensors[_ROOT + "embeddings.cls_token"].shape[-1]
    names = [name for node, used in inputs.items() if node.startswith("/backbone/embeddings/") for name in used]
    of_class = next(
        tensors[name] for name in names if name in tensors and _is_other(name, tensors[name], (1, 1, width))
    )
    grid = next(
        tensors[name] for name in names if name in tensors and tensors[name].ndim == 3 and len(tensors[name][0]) > 1
    )
    return torch.cat([of_class, grid], dim=1)


def _is_other(name: str, tensor: Tensor, shape: tuple[int, ...]) -> bool:
    return tuple(tensor.shape) == shape and not name.endswith("cls_token")


def _block(layer: int, tensors: dict[str, Tensor], inputs: dict[str, list[str]]) -> dict[str, Tensor]:
    stem = f"encoder.layer.{layer}."
    state = {stem + name: tensors[f"{_ROOT}{stem}{name}"] for name in _DIRECT}
    for ours, theirs in _LINEAR.items():
        node = f"/backbone/encoder/layer.{layer}/{theirs.replace('.', '/')}/MatMul"
        state[f"{stem}{ours}.weight"] = tensors[inputs[node][1]].T.contiguous()
        state[f"{stem}{ours}.bias"] = tensors[f"{_ROOT}{stem}{theirs}.bias"]
    return state

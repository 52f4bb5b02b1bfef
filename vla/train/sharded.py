"""Training with weights, gradients and optimizer state divided among processes (PyTorch's FSDP2).

    torchrun --nproc-per-node 8 -m vla.cli train --shard ...
    accelerate launch --config_file vla/configs/fsdp_8gpu.yaml -m vla.cli train ...

A transformer block is gathered when it is computed. Matrix products may be rounded to bfloat16; weights, the sums of
gradients and all buffers (RoPE frequencies, image means) stay float32: buffers in bfloat16 would turn the angles of
far positions by a third of a radian.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from transformers.modeling_layers import GradientCheckpointingLayer

from vla.errors import TrainingError

_ASKED = "ACCELERATE_USE_FSDP"
_NEEDED = {"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "false", "FSDP_ACTIVATION_CHECKPOINTING": "false"}
_INSTEAD = {
    "FSDP_VERSION": "Version 1 rounds RoPE's frequencies and sums of gradients to bfloat16: write `fsdp_version: 2`.",
    "FSDP_OFFLOAD_PARAMS": "Write `fsdp_offload_params: false`.",
    "FSDP_ACTIVATION_CHECKPOINTING": "Leave it out, and give --gradient-checkpointing.",
}
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def launcher_shards() -> bool:
    """Whether `accelerate launch` was configured for FSDP.

    Raises:
        TrainingError: with settings other than ours.
    """
    if os.environ.get(_ASKED, "false").lower() != "true":
        return False
    for name, needed in _NEEDED.items():
        got = os.environ.get(name, needed).lower()
        if got != needed:
            raise TrainingError(
                f"The configuration of accelerate has {name.lower()}: {got}. {_INSTEAD[name]} "
                "vla/configs/fsdp_8gpu.yaml is one that works."
            )
    return True


@contextlib.contextmanager
def launcher_silenced() -> Iterator[None]:
    """Keep an `Accelerator` from dividing the model itself, which it does not do on a CPU."""
    asked = os.environ.pop(_ASKED, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[_ASKED] = asked


def shard(model: nn.Module, accelerator: Accelerator) -> None:
    """Divide a model among all processes, in place; every process then has the main process's weights and buffers.

    Args:
        model: on the main process with its weights, on the others with weights or on the meta device.
        accelerator: decides the device, and whether matrix products are rounded.
    """
    whole = {name: value.detach() for name, value in model.state_dict().items()} if dist.get_rank() == 0 else {}
    buffers = {name: value.detach() for name, value in model.named_buffers()} if dist.get_rank() == 0 else {}
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    rounded = torch.bfloat16 if accelerator.mixed_precision == "bf16" else None
    policy = MixedPrecisionPolicy(param_dtype=rounded, reduce_dtype=torch.float32)
    model.to("meta")
    _tie(model)
    for block in blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for method in ("hidden", "logits"):  # what held-out scores call besides `forward`
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)
    model.to_empty(device=accelerator.device)
    set_model_state_dict(model, whole, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    _broadcast(dict(model.named_buffers()), buffers)


def materialize(model: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the main process's weights and buffers, in place and whole."""
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    first = {name: value.detach() for name, value in own.items()} if accelerator.is_main_process else {}
    if not accelerator.is_main_process:
        model.to_empty(device=accelerator.device)
        _tie(model)
    model.to(accelerator.device)
    _broadcast({**dict(model.named_parameters()), **dict(model.named_buffers())}, first)


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the transformer blocks of the vision encoders and of the language model."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` has divided a model."""
    return isinstance(model, FSDPModule)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Gather the weights on the main process's CPU; empty on the others. All processes must call it."""
    weights: dict[str, Tensor] = get_model_state_dict(model, options=_WHOLE)
    return weights


def whole(value: Tensor) -> Tensor:
    """Return a number that processes hold parts of, such as a gradient's norm, as one that each of them has."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def save_shards(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Write weights and optimizer state, every process its own part. All processes must call it."""
    weights, moments = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=folder)


def load_shards(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Load what `save_shards` wrote, on any number of processes, divided or not."""
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # one process needs none
        dcp.load(state, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])


def _broadcast(own: dict[str, Tensor], first: dict[str, Tensor]) -> None:
    """Copy the main process's tensors into those of all processes."""
    for name, value in own.items():
        if name in first:
            value.detach().copy_(first[name])
        dist.broadcast(value.detach(), src=0)


def _tie(model: nn.Module) -> None:
    language = getattr(model, "language", None)
    if language is not None:
        language.tie_weights()

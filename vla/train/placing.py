"""Where the model that is trained lies: whole on every device, or divided among them."""

from __future__ import annotations

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from vla.model.network import MotionVLA
from vla.train.config import LoopConfig
from vla.train.optim import make_optimizer
from vla.train.sharded import launcher_shards, materialize, shard


def place(model: nn.Module, config: LoopConfig, accelerator: Accelerator) -> tuple[nn.Module, Optimizer]:
    """Put the model on the devices, whole or divided, with an optimizer of its weights there."""
    if accelerator.num_processes > 1 and (config.shard or launcher_shards()):
        shard(model, accelerator)
        wrapped = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
        return wrapped, accelerator.prepare_optimizer(make_optimizer(model, config.optim))
    if accelerator.num_processes > 1:
        materialize(model, accelerator)
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(model, config.optim))
    return wrapped, optimizer


def checkpoint_activations(model: MotionVLA) -> None:
    """Keep no activations within the blocks that are trained: they are computed again when the gradient needs them."""
    networks = [model.language, *(encoder.network for encoder in model.vision_encoders.values())]
    for network in networks:
        if any(weight.requires_grad for weight in network.parameters()):
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

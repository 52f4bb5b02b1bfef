"""The optimizer and its learning rate, a function of the step alone."""

from __future__ import annotations

import math

import torch
from torch import nn

from vla.train.config import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Make AdamW over what is trained; matrices decay, vectors do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    # One kernel for all weights on GPUs; on a CPU the sums of former runs are kept.
    fused = bool(trained) and all(parameter.is_cuda for parameter in trained)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, fused=fused or None)


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Return the learning rate of a step, counted from 0."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup) / max(1, steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate

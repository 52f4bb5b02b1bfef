"""What training minimises instead of the mean cross-entropy: weighted, and soft over neighbouring action bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from vla.actions import BINS
from vla.model.prompt import ACTION, MOTION
from vla.statistics import DIMENSIONS, GRIPPER


@dataclass(frozen=True)
class Objective:
    """A weighted cross-entropy whose targets may be soft.

    Attributes:
        first_bin: smallest token id of the 256 action tokens, whose ids follow the order of their bins, up or down.
        soft_bins: standard deviation of the soft targets in bins; 0 for hard ones. The gripper's targets stay hard:
            its level has an open and a closed end and hardly anything between.
        motion: weight of motion tokens.
        action: weight of action tokens and their stop, and of an L1 head's errors.
        dimensions: seven further weights of actions by dimension, or none.
    """

    first_bin: int
    soft_bins: float = 0.0
    motion: float = 1.0
    action: float = 1.0
    dimensions: Sequence[float] = ()

    def loss(self, scores: Tensor, wanted: Tensor, hard: Tensor, kinds: Tensor, dimension: Tensor) -> Tensor:
        """Sum the loss over tokens.

        Args:
            scores: `[N, V]` float32 logits.
            wanted: `[N]` the right token ids.
            hard: `[N]` their cross-entropy in nats.
            kinds: `[N]` what each token belongs to (`vla.model.prompt`).
            dimension: `[N]` dimension of each action token (`dimensions_of`), -1 for every other.

        Returns:
            A number with gradient; equal to `hard.sum()` where every weight is 1 and targets are hard.
        """
        losses = hard
        softened = (dimension >= 0) & (dimension != GRIPPER)
        if self.soft_bins and softened.any():
            table = soft_targets(self.soft_bins).to(scores)
            log_probabilities = log_softmax(scores[softened], dim=-1)[:, self.first_bin : self.first_bin + BINS]
            soft = -(table[wanted[softened] - self.first_bin] * log_probabilities).sum(dim=-1)
            losses = losses.masked_scatter(softened, soft)
        weights = torch.ones_like(losses)
        weights[kinds == MOTION] = self.motion
        weights[kinds == ACTION] = self.action
        if self.dimensions:
            by_dimension = torch.tensor([*self.dimensions, 1.0], device=weights.device, dtype=weights.dtype)
            weights = weights * by_dimension[dimension]
        return (losses * weights).sum()

    def regression(self, errors: Tensor) -> Tensor:
        """Sum the weighted absolute errors `[N, 7]` of an L1 head's actions."""
        weights = errors.new_tensor(self.dimensions or (1.0,) * len(DIMENSIONS))
        return self.action * (errors * weights).sum()

    def dimensions_of(self, targets: Tensor, kinds: Tensor) -> Tensor:
        """Return the dimension of every action token, `[B, T]`, and -1 elsewhere: they recur in each row's order.

        Args:
            targets: `[B, T]` token ids.
            kinds: `[B, T]` what each of them belongs to.
        """
        bins = (kinds == ACTION) & (targets >= self.first_bin) & (targets < self.first_bin + BINS)
        order = bins.cumsum(dim=1) - 1
        return torch.where(bins, order % len(DIMENSIONS), -1)


@lru_cache(maxsize=4)
def soft_targets(deviation: float) -> Tensor:
    """Return the target distributions of HL-Gauss, `[256, 256]`: row `b` is that of a value in the middle of bin `b`.

    A Gaussian around the bin's middle, integrated over each bin, cut at the ends and scaled to a sum of 1.
    Source: Imani and White 2018; Farebrother et al. 2024, section 3.

    Args:
        deviation: standard deviation in bins.
    """
    edges = torch.arange(BINS + 1, dtype=torch.float64) - 0.5
    centres = torch.arange(BINS, dtype=torch.float64)
    below = 0.5 * (1 + torch.erf((edges[None] - centres[:, None]) / (deviation * math.sqrt(2))))
    mass = below.diff(dim=1)
    return (mass / mass.sum(dim=1, keepdim=True)).float()

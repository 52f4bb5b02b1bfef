r"""Heads that predict all actions of an answer in one pass, where the paper's model says one token after another.

    ... <STOP>\n<START>assistant\n [query 1] [query 2] ... [query P - 1]
                                |       |         |               |
    position of an action:      0       1         2             P - 1

Where the tokens of actions would stand, the language model reads queries that are learnt: one for each dimension, or
for each action of an L1 head; which action of the horizon is meant, it tells by the position. The last token of the
header predicts the first position and every query the next one, so targets are shifted by one as those of words are.
Attention stays causal: no mask is needed, and the first actions are the same for every horizon. After OpenVLA-OFT
(Kim et al. 2025), whose parallel decoding has attention in both directions and empty queries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla.model.config import ModelConfig
from vla.statistics import DIMENSIONS

_SPREAD = 0.02


class OnePassHead(nn.Module):  # type: ignore[misc] # PyTorch is not type-checked here
    """The queries of actions, and for an L1 head what reads their values.

    Args:
        config: with another action head than "autoregressive".
        width: `L`, of the language model's hidden states.

    Attributes:
        queries: `[Q, L]`; as many as an action has positions.
        values: maps `[..., L]` hidden states to `[..., 7]` normalised actions; None where tokens are predicted, which
            the output layer of the language model does.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(_SPREAD * torch.randn(config.action_positions // config.action_horizon, width))
        self.values = None
        if config.action_head == "l1":
            self.values = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, len(DIMENSIONS)))

    def at(self, positions: Tensor) -> Tensor:
        """Return the queries `[..., L]` that stand at positions `[...]`, counted from 0."""
        queries: Tensor = self.queries[positions % len(self.queries)]
        return queries

    def placed(self, embedded: Tensor, actions: Tensor) -> Tensor:
        """Put queries into `[B, T, L]` embeddings, where `[B, T]` is true."""
        positions = (actions.cumsum(dim=1) - 1)[actions]
        return embedded.masked_scatter(actions[..., None], self.at(positions).to(embedded.dtype))


def one_pass_head(config: ModelConfig, width: int) -> OnePassHead | None:
    """Build the head of a configuration; None for the autoregressive one, which has no weights of its own."""
    return None if config.action_head == "autoregressive" else OnePassHead(config, width)

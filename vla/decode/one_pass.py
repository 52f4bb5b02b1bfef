"""Reading all actions of an answer off one pass (`vla.model.action_head`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear

from vla.actions import BINS
from vla.errors import ModelError, NotFiniteError
from vla.model.network import MotionVLA
from vla.model.prompt import PromptBuilder


class Actions(NamedTuple):
    """Actions of one answer, as tokens or as values.

    Attributes:
        ids: `[7 * action_horizon]` action tokens; empty for an L1 head.
        values: `[7 * action_horizon]` normalised actions in [-1, 1]; empty for tokens.
    """

    ids: tuple[int, ...]
    values: tuple[float, ...]


class ActionReader:
    """Knows what stands in front of the model where actions are asked, and what its hidden states mean.

    Args:
        model: with a one-pass head, whose weights do not change meanwhile.
        prompts: of the model's tokenizer and configuration.

    Attributes:
        queries: `[P - 1, L]`, to be run behind the header of the action turn; `P` is `config.action_positions`.

    Raises:
        ModelError: the model has no such head.
    """

    def __init__(self, model: MotionVLA, prompts: PromptBuilder) -> None:
        if model.action_head is None:
            raise ModelError("A model with the action head 'autoregressive' does not predict its actions in one pass.")
        output = model.language.get_output_embeddings()
        self._first = prompts.actions.first_token_id
        rows = slice(self._first, self._first + BINS)
        self._weight = output.weight.detach()[rows]
        self._bias = output.bias.detach()[rows] if output.bias is not None else None
        self._head = model.action_head.values
        self.queries = model.action_head.at(torch.arange(prompts.config.action_positions - 1)).detach()

    def read(self, hidden: Tensor) -> Actions:
        """Read actions off `[P, L]` hidden states: of the header's last token and of the queries.

        Raises:
            NotFiniteError: a score or value is NaN or infinite.
        """
        with torch.inference_mode():
            read = self._head(hidden) if self._head is not None else linear(hidden, self._weight, self._bias)
        scores = read.float().cpu().numpy()
        check_finite(scores)
        if self._head is None:
            return Actions(tuple((scores.argmax(axis=1) + self._first).tolist()), ())
        return Actions((), tuple(np.clip(scores, -1, 1).ravel().tolist()))


def check_finite(scores: NDArray[np.float32]) -> None:
    """Refuse scores of which `argmax` would make an answer as good as any other.

    Raises:
        NotFiniteError: one is NaN or infinite.
    """
    bad = int(scores.size - np.isfinite(scores).sum())
    if bad:
        raise NotFiniteError(
            f"{bad} of {scores.size} scores of the model's next token are NaN or infinite, so it has no answer. Either "
            "the state it was given is not finite, or its weights are too large for its arithmetic: take a checkpoint "
            "from before training diverged."
        )

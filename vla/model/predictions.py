"""What a model predicts for demonstrated steps: the figures that held-out data are judged by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vla.actions import BINS
from vla.errors import ActionDataError
from vla.model.network import Batch, MotionVLA
from vla.model.prompt import ACTION, MOTION, PromptBuilder
from vla.statistics import DIMENSIONS


class MotionPredictions(NamedTuple):
    """Predictions of the motion of `B` rows, where all tokens before are given.

    Attributes:
        nll: `[B]` float32, nats: what the motion sentence and its stop cost in all.
        tokens: `[B]` int64: their number; 0 where a row says no motion.
        exact: `[B]` bool: whether each of them is ranked first, so that greedy decoding says just that sentence; true
            where there is none.
    """

    nll: Tensor
    tokens: Tensor
    exact: Tensor


class ActionPredictions(NamedTuple):
    """Predictions for a batch of `B` rows and `H` = `action_horizon`, where all words and tokens before are given.

    Attributes:
        actions: `[B, H, 7]` float32, normalised as `Batch.actions`: the centre of the bin whose token is ranked first
            among the action tokens, or the value of an L1 head, clipped to [-1, 1].
        nll: `[B, H, 7]` float32, nats: what the demonstrated tokens cost, among all tokens; None for an L1 head.
        motion: of the motion before them.
    """

    actions: Tensor
    nll: Tensor | None
    motion: MotionPredictions


def predict_motion(model: MotionVLA, batch: Batch) -> MotionPredictions:
    """Predict the motion of a batch, without gradients and in the model's mode (call `eval()` first)."""
    with torch.no_grad():
        return _motion(model, batch, model.hidden(batch)[:, :-1])


def predict_actions(model: MotionVLA, prompts: PromptBuilder, batch: Batch) -> ActionPredictions:
    """Predict motion and actions of a batch, without gradients and in the model's mode (call `eval()` first).

    An autoregressive head is given the demonstrated actions before each one; so only the first dimension of the first
    action is what the policy would do after the same motion. A one-pass head is given the motion alone, and predicts
    what the policy does.

    Args:
        model: with any action head.
        prompts: of the model.
        batch: every row with actions.

    Raises:
        ActionDataError: a row holds no actions.
    """
    kinds, targets = batch.kinds[:, 1:], batch.token_ids[:, 1:]
    wanted = _action_positions(kinds, prompts)
    shape = (len(kinds), prompts.config.action_horizon, len(DIMENSIONS))
    with torch.no_grad():
        hidden = model.hidden(batch)[:, :-1]
        motion = _motion(model, batch, hidden)
        states = hidden[wanted]
        if model.action_head is not None and model.action_head.values is not None:
            values: Tensor = model.action_head.values(states).float().clamp(-1, 1)
            return ActionPredictions(values.view(shape), None, motion)
        scores = model.logits(states).float()
        nll = -scores.log_softmax(dim=-1).gather(1, targets[wanted][:, None])
    first = prompts.actions.first_token_id
    best = scores[:, first : first + BINS].argmax(dim=1) + first
    centres = torch.from_numpy(prompts.actions.decode(best.cpu().numpy())).float().to(scores.device)
    return ActionPredictions(centres.view(shape), nll.view(shape), motion)


def _motion(model: MotionVLA, batch: Batch, hidden: Tensor) -> MotionPredictions:
    kinds, targets = batch.kinds[:, 1:], batch.token_ids[:, 1:]
    said = kinds == MOTION
    scores = model.logits(hidden[said]).float()
    right = torch.ones_like(said)
    right[said] = scores.argmax(dim=-1) == targets[said]
    nll = torch.zeros(said.shape, device=scores.device)
    nll[said] = -scores.log_softmax(dim=-1).gather(1, targets[said][:, None])[:, 0]
    return MotionPredictions(nll.sum(dim=1), said.sum(dim=1), right.all(dim=1))


def _action_positions(kinds: Tensor, prompts: PromptBuilder) -> Tensor:
    """Return where actions are predicted, without the stop behind them: `[B, T - 1]` bool."""
    actions = kinds == ACTION
    positions = prompts.config.action_positions
    counted = actions & (actions.cumsum(dim=1) <= positions)
    lacking = (counted.sum(dim=1) != positions).nonzero()[:, 0].tolist()
    if lacking:
        raise ActionDataError(
            f"The rows {lacking} of a batch do not hold the actions of {positions} positions that are to be compared."
        )
    return counted

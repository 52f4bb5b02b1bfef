"""The plain loop that `vla.decode.decoder` must equal: no cache, no batch, no skipped token; one pass a token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vla.decode.grammar import Grammar
from vla.decode.one_pass import ActionReader, Actions
from vla.model.network import MotionVLA
from vla.model.prompt import PromptBuilder


def plain_decode(
    model: MotionVLA,
    prompts: PromptBuilder,
    grammar: Grammar,
    observed: Tensor,
    instruction: str,
    motion: str | None = None,
) -> tuple[int, ...]:
    """Say, token by token, the highest-scored one that the grammar allows.

    Args:
        model: in eval mode.
        prompts: of the model's tokenizer and configuration.
        grammar: what may be said.
        observed: `[1, observation_tokens, L]`, from `MotionVLA.observation`.
        instruction: the task in words.
        motion: sentence that the model is made to say; None lets it say its own.

    Returns:
        All token ids of the answer.
    """
    with torch.inference_mode():
        said = [] if motion is None else [*prompts.motion_ids(motion), prompts.stop_id]
        state = grammar.after(said, grammar.start)
        while state != grammar.done:
            scores = model.logits(_hidden(model, prompts, observed, instruction, said)[-1]).float()
            allowed = torch.from_numpy(grammar.allowed(state)).to(scores.device)
            token = int(allowed[scores[allowed].argmax()])
            said.append(token)
            state = grammar.edges[state][token]
        return tuple(said)


def plain_actions(
    model: MotionVLA, prompts: PromptBuilder, observed: Tensor, instruction: str, said: Sequence[int]
) -> Actions:
    """Predict the actions of a one-pass head, without a cache.

    Args:
        model: in eval mode.
        prompts: of the model's tokenizer and configuration.
        observed: `[1, observation_tokens, L]`, from `MotionVLA.observation`.
        instruction: the task in words.
        said: all that `plain_decode` said.
    """
    reader = ActionReader(model, prompts)
    with torch.inference_mode():
        hidden = _hidden(model, prompts, observed, instruction, said, reader.queries)
        return reader.read(hidden[-1 - len(reader.queries) :])


def _hidden(
    model: MotionVLA,
    prompts: PromptBuilder,
    observed: Tensor,
    instruction: str,
    said: Sequence[int],
    queries: Tensor | None = None,
) -> Tensor:
    """Run a whole sequence, and return the hidden states `[*, L]` of its text behind the observation."""
    prompt = prompts.prompt(instruction, prompts.config.motion)
    before = model.embed_tokens(torch.tensor([prompt.before], device=observed.device))
    after = model.embed_tokens(torch.tensor([[*prompt.after, *said]], device=observed.device))
    parts = [before, observed.to(before.dtype), after, *([] if queries is None else [queries[None]])]
    hidden: Tensor = model.decoder(inputs_embeds=torch.cat(parts, dim=1), use_cache=False).last_hidden_state
    return hidden[0]

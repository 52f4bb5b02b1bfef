"""The plain loop that `vla.decode.decoder` must equal: no cache, no batch, no skipped token; one pass a token."""

from __future__ import annotations

import torch
from torch import Tensor

from vla.decode.grammar import Grammar
from vla.model.network import MotionVLA
from vla.model.prompt import PromptBuilder


def plain_decode(
    model: MotionVLA, prompts: PromptBuilder, grammar: Grammar, observed: Tensor, instruction: str
) -> tuple[int, ...]:
    """Say, token by token, the highest-scored one that the grammar allows.

    Args:
        model: in eval mode.
        prompts: of the model's tokenizer and configuration.
        grammar: what may be said.
        observed: `[1, observation_tokens, L]`, from `MotionVLA.observation`.
        instruction: the task in words.

    Returns:
        All token ids of the answer.
    """
    with torch.inference_mode():
        prompt = prompts.prompt(instruction, prompts.config.motion)
        state, said = grammar.start, list[int]()
        while state != grammar.done:
            before = model.embed_tokens(torch.tensor([prompt.before], device=observed.device))
            after = model.embed_tokens(torch.tensor([[*prompt.after, *said]], device=observed.device))
            embedded = torch.cat([before, observed.to(before.dtype), after], dim=1)
            hidden = model.decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
            scores = model.logits(hidden[0, -1]).float()
            allowed = torch.from_numpy(grammar.allowed(state)).to(scores.device)
            token = int(allowed[scores[allowed].argmax()])
            said.append(token)
            state = grammar.edges[state][token]
        return tuple(said)

"""What an answer costs by action head: CPU seconds of the language model, motion and actions, side by side in one run.

    python benchmarks/model_heads.py --horizons 4 8

The shape is that of the released model (`tiny`, 8 numbers of state); weights are random, and all heads share them, so
that all say the same motion. "held" is an answer whose motion is that of the last step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from vla.decode.decoder import Decoder
from vla.decode.grammar import grammar
from vla.model.config import ActionHead
from vla.model.network import MotionVLA
from vla.model.presets import preset
from vla.model.prompt import PromptBuilder
from vla.model.tokenizer import make_tokenizer

INSTRUCTION = "pick up the black bowl between the plate and the ramekin and place it on the plate"
STATE = 8
SHARPNESS = 8.0


@dataclass(frozen=True)
class Config:
    """Measure the action heads.

    Attributes:
        horizons: Actions of an answer.
        repeats: Answers per figure; the median is shown.
    """

    horizons: tuple[int, ...] = (4, 8)
    repeats: int = 15


def main() -> None:
    """Print the table."""
    config = tyro.cli(Config)
    torch.set_num_threads(1)
    table = Table(title="Milliseconds of CPU time of the language model for one answer (forward passes)")
    for name in ("horizon", "head", "motion changed", "of autoregressive", "motion held", "of autoregressive"):
        table.add_column(name, justify="right")
    for horizon in config.horizons:
        decoders = {head: decoder(head, horizon) for head in get_args(ActionHead)}
        times = measure(decoders, config.repeats)
        for head, figures in times.items():
            cells = []
            for (seconds, passes), (usual, _) in zip(figures, times["autoregressive"], strict=True):
                cells += [f"{1000 * seconds:.1f} ({passes})", f"{seconds / usual:.2f}"]
            table.add_row(str(horizon), head, *cells)
    Console(width=120).print(table)


def decoder(head: ActionHead, horizon: int) -> Decoder:
    """Build a decoder with random weights, the same for every head as far as they share them."""
    config = replace(preset("tiny"), action_head=head, action_horizon=horizon, proprio_dim=STATE)
    tokenizer = make_tokenizer(config.language.tokenizer, [INSTRUCTION])
    torch.manual_seed(0)
    model = MotionVLA(config, tokenizer.get_vocab_size()).eval()
    with torch.no_grad():
        for parameter in model.language.parameters():
            parameter.mul_(SHARPNESS if parameter.ndim > 1 else 1)
    prompts = PromptBuilder(tokenizer, config)
    return Decoder(model, prompts, grammar(prompts, motion=True, action=True))


def measure(decoders: dict[ActionHead, Decoder], repeats: int) -> dict[ActionHead, list[tuple[float, int]]]:
    """Return seconds and passes of an answer, with the motion changed and held; heads take turns, so load is shared."""
    taken: dict[ActionHead, list[list[float]]] = {head: [[], []] for head in decoders}
    passes: dict[ActionHead, list[int]] = {head: [0, 0] for head in decoders}
    width = next(iter(decoders.values()))._model.language.config.hidden_size
    tokens = next(iter(decoders.values()))._prompts.config.observation_tokens
    for _ in range(repeats + 1):
        seen = torch.randn(1, tokens, width)
        for head, one in decoders.items():
            draft: list[tuple[int, ...]] = [()]
            for way in range(2):
                start = time.process_time()
                answer = one.decode(seen, [INSTRUCTION], draft)[0]
                taken[head][way].append(time.process_time() - start)
                passes[head][way] = answer.passes
                said = answer.tokens if head != "autoregressive" else _other_actions(one, answer.tokens)
                draft = [said]
    return {head: [(float(np.median(taken[head][way][1:])), passes[head][way]) for way in range(2)] for head in taken}


def _other_actions(one: Decoder, tokens: tuple[int, ...]) -> tuple[int, ...]:
    """Return an answer with every action changed: a step on which the motion held and nothing else."""
    first, count = one._prompts.actions.first_token_id, one._prompts.action_tokens
    actions = [first + (token - first + 128) % 256 for token in tokens[-1 - count : -1]]
    return (*tokens[: -1 - count], *actions, tokens[-1])


if __name__ == "__main__":
    main()

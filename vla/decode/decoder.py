"""Greedy decoding of motion and actions: constrained by the grammar, cached, batched, with lossless speculation.

What comes out is what the plain loop (`vla.decode.plain`) says, token for token; only the number of passes differs:

- a token that the grammar forces costs no pass;
- the prompt's constant prefix is run once per instruction;
- a draft (the last step's answer) is verified in the pass that runs anyway. A drafted token stays only if greedy
  decoding says the same, so every accepted token saves a pass and none changes the answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear

from vla.decode.grammar import Grammar
from vla.decode.kv_cache import Block, RaggedCache
from vla.errors import NotFiniteError
from vla.model.network import MotionVLA
from vla.model.prompt import Prompt, PromptBuilder

_REMEMBERED_PREFIXES = 256


@dataclass(frozen=True)
class Decoded:
    """One answer.

    Attributes:
        tokens: everything said, forced tokens and stops included.
        motion: the motion sentence, or None where none is said.
        action_ids: the action tokens, `[7 * action_horizon]`; empty where no action is said.
        passes: forward passes of the language model, the prefix that is cached per instruction not counted.
        accepted: tokens chosen without a pass of their own, because a draft was right.
    """

    tokens: tuple[int, ...]
    motion: str | None
    action_ids: tuple[int, ...]
    passes: int
    accepted: int


@dataclass
class _Row:
    """An answer in the making: `pending` is said but not run, `draft` is guessed to follow it."""

    guess: Sequence[int]
    said: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    state: int = Grammar.start
    passes: int = 0
    accepted: int = 0


class Decoder:
    """Decodes batches of observations with one model, whose weights do not change meanwhile.

    Args:
        model: in eval mode.
        prompts: of the model's tokenizer and configuration.
        grammar: what may be said; with a motion turn if `prompts.config.motion`.
        skip_forced: False runs every token in a pass of its own, as a plain loop with a cache does (for measurements).
    """

    def __init__(self, model: MotionVLA, prompts: PromptBuilder, grammar: Grammar, skip_forced: bool = True) -> None:
        self._model = model
        self._prompts = prompts
        self._grammar = grammar
        self._skip_forced = skip_forced
        self._prefixes: OrderedDict[tuple[int, ...], RaggedCache] = OrderedDict()
        output = model.language.get_output_embeddings()
        self._device = output.weight.device
        self._vocabulary = grammar.vocabulary
        rows = torch.from_numpy(self._vocabulary).to(self._device)
        self._weight = output.weight.detach()[rows]
        self._bias = output.bias.detach()[rows] if output.bias is not None else None

    def decode(
        self, observed: Tensor, instructions: Sequence[str], drafts: Sequence[Sequence[int]] | None = None
    ) -> list[Decoded]:
        """Answer a batch of observations.

        Args:
            observed: `[B, observation_tokens, L]`, from `MotionVLA.observation`.
            instructions: one a row.
            drafts: `Decoded.tokens` of the last step, one a row, or empty where there is no guess. They change how many
                passes an answer takes, never what it says.

        Returns:
            One answer a row.

        Raises:
            NotFiniteError: a score is NaN or infinite, so that no token is the best one.
        """
        with torch.inference_mode():
            return self._decode(observed, instructions, drafts or [()] * len(instructions))

    def _decode(self, observed: Tensor, instructions: Sequence[str], guesses: Sequence[Sequence[int]]) -> list[Decoded]:
        prompts = [self._prompts.prompt(text, self._prompts.config.motion) for text in instructions]
        rows = [_Row(guess) for guess in guesses]
        for row in rows:
            row.draft = self._verifiable(self._grammar.walk(row.guess), row.state)
        cache = RaggedCache.joined([self._prefix(prompt.before) for prompt in prompts])
        block = self._first_block(observed, prompts, rows)
        while True:
            hidden = cache.run(self._model.decoder, block)
            rejected = self._read(rows, hidden, block)
            if all(row.state == self._grammar.done for row in rows):
                return [self._decoded(row) for row in rows]
            cache.drop(rejected, block)
            block = self._block([[*row.pending, *row.draft] for row in rows])

    def _prefix(self, before: tuple[int, ...]) -> RaggedCache:
        """Run the part of a prompt that precedes the observation, once per instruction."""
        if before not in self._prefixes:
            cache = RaggedCache.empty(1, self._device)
            cache.run(self._model.decoder, self._block([before]))
            self._prefixes[before] = cache
            if len(self._prefixes) > _REMEMBERED_PREFIXES:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(before)
        return self._prefixes[before]

    def _first_block(self, observed: Tensor, prompts: Sequence[Prompt], rows: Sequence[_Row]) -> Block:
        """Observation, rest of the prompt, and the draft to be verified."""
        text = self._block([[*prompt.after, *row.draft] for prompt, row in zip(prompts, rows, strict=True)])
        embedded = torch.cat([observed.to(text.embedded.dtype), text.embedded], dim=1)
        return Block(embedded, text.lengths + observed.shape[1])

    def _block(self, tokens: Sequence[Sequence[int]]) -> Block:
        width = max(map(len, tokens))
        padded = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens], device=self._device)
        return Block(self._model.embed_tokens(padded), torch.tensor([len(row) for row in tokens], device=self._device))

    def _read(self, rows: Sequence[_Row], hidden: Tensor, block: Block) -> Tensor:
        """Let every row say what its hidden states say; return how many drafted tokens of each were wrong, `[B]`."""
        running = [(index, row) for index, row in enumerate(rows) if row.state != self._grammar.done]
        ends = block.lengths.tolist()
        spans = [torch.arange(ends[index] - 1 - len(row.draft), ends[index]) for index, row in running]
        which = torch.cat([torch.full((len(span),), index) for span, (index, _) in zip(spans, running, strict=True)])
        chosen = hidden[which.to(self._device), torch.cat(spans).to(self._device)]
        scores = linear(chosen, self._weight, self._bias).float().cpu().numpy()
        _check_finite(scores)
        rejected = torch.zeros(len(rows), dtype=torch.int64)
        first = 0
        for (index, row), span in zip(running, spans, strict=True):
            rejected[index] = self._say(row, scores[first : first + len(span)])
            first += len(span)
        return rejected.to(self._device)

    def _say(self, row: _Row, scores: NDArray[np.float32]) -> int:
        """Extend one answer as far as scores `[1 + draft, vocabulary]` reach, and return the wrong drafted tokens."""
        agreed, choices = 0, 0
        row.passes += 1
        while row.state != self._grammar.done:
            token = self._grammar.forced(row.state)
            if token is None:
                columns = self._grammar.columns(row.state)
                token = int(self._vocabulary[columns[scores[agreed, columns].argmax()]])
                choices += 1
            self._append(row, token)
            if agreed == len(row.draft) or row.draft[agreed] != token:
                break
            agreed += 1
        row.accepted += max(choices - 1, 0)
        row.pending = row.said[-1:]
        while self._skip_forced and (token := self._grammar.forced(row.state)) is not None:
            self._append(row, token)
            row.pending.append(token)
        rejected = len(row.draft) - agreed
        row.draft = self._next_draft(row)
        if row.state == self._grammar.done:
            row.pending = []
        return rejected

    def _append(self, row: _Row, token: int) -> None:
        row.said.append(token)
        row.state = self._grammar.edges[row.state][token]

    def _next_draft(self, row: _Row) -> list[int]:
        """Guess the actions still to be said from the last step's; a motion that changed is not guessed."""
        said = self._grammar.actions_said(row.state)
        if said is None or not row.guess:
            return []
        rest = row.guess[len(row.guess) - 1 - self._prompts.action_tokens + said :]
        return self._verifiable(self._grammar.walk(rest, row.state), row.state)

    def _verifiable(self, tokens: Sequence[int], state: int) -> list[int]:
        """Cut a draft before its last choice: running that token would tell nothing that is still asked."""
        last = 0
        for index, token in enumerate(tokens):
            if self._grammar.forced(state) is None:
                last = index
            state = self._grammar.edges[state][token]
        return list(tokens[: last if state == self._grammar.done else len(tokens)])

    def _decoded(self, row: _Row) -> Decoded:
        actions: tuple[int, ...] = ()
        if self._grammar.first_action is not None:
            actions = tuple(row.said[-1 - self._prompts.action_tokens : -1])
        motion = None
        if self._prompts.config.motion:
            sentence = row.said[: row.said.index(self._prompts.stop_id)]
            motion = self._prompts.tokenizer.decode(sentence)
        return Decoded(tuple(row.said), motion, actions, row.passes, row.accepted)


def _check_finite(scores: NDArray[np.float32]) -> None:
    """Refuse scores of which `argmax` would make an answer as good as any other."""
    bad = int(scores.size - np.isfinite(scores).sum())
    if bad:
        raise NotFiniteError(
            f"{bad} of {scores.size} scores of the model's next token are NaN or infinite, so it has no answer. Either "
            "the state it was given is not finite, or its weights are too large for its arithmetic: take a checkpoint "
            "from before training diverged."
        )

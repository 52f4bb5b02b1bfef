"""Greedy decoding of motion and actions: constrained by the grammar, cached, batched, with lossless speculation.

What comes out is what the plain loop (`vla.decode.plain`) says, token for token; only the number of passes differs:

- a token that the grammar forces costs no pass;
- actions of a one-pass head (`vla.model.action_head`) are predicted in the pass that runs the end of what is said;
- the prompt's constant prefix is run once per instruction;
- a draft (the last step's answer) is verified in the pass that runs anyway. A drafted token stays only if greedy
  decoding says the same, so every accepted token saves a pass and none changes the answer. Of a one-pass head the
  draft is a motion, and the actions are asked for in the same pass: if the motion holds, an answer takes one pass.
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
from vla.decode.one_pass import ActionReader, Actions, check_finite
from vla.model.network import MotionVLA
from vla.model.prompt import Prompt, PromptBuilder

_REMEMBERED_PREFIXES = 256


@dataclass(frozen=True)
class Decoded:
    """One answer.

    Attributes:
        tokens: everything said, forced tokens and stops included; not the actions of a one-pass head.
        motion: the motion sentence, or None where none is said.
        action_ids: the action tokens, `[7 * action_horizon]`; empty where no action is said, and for an L1 head.
        passes: forward passes of the language model, the prefix that is cached per instruction not counted.
        accepted: tokens chosen without a pass of their own, because a draft was right.
        values: normalised actions of an L1 head, `[7 * action_horizon]` in [-1, 1]; empty for other heads.
    """

    tokens: tuple[int, ...]
    motion: str | None
    action_ids: tuple[int, ...]
    passes: int
    accepted: int
    values: tuple[float, ...] = ()


@dataclass
class _Row:
    """An answer in the making: `pending` is said but not run, `draft` is guessed to follow it.

    If `asks`, the queries of a one-pass head follow both; `actions` is what came of them.
    """

    guess: Sequence[int]
    said: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    state: int = Grammar.start
    passes: int = 0
    accepted: int = 0
    asks: bool = False
    actions: Actions | None = None


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
        self._reader = ActionReader(model, prompts) if grammar.one_pass else None

    def decode(
        self,
        observed: Tensor,
        instructions: Sequence[str],
        drafts: Sequence[Sequence[int]] | None = None,
        motions: Sequence[str | None] | None = None,
    ) -> list[Decoded]:
        """Answer a batch of observations.

        Args:
            observed: `[B, observation_tokens, L]`, from `MotionVLA.observation`.
            instructions: one a row.
            drafts: `Decoded.tokens` of the last step, one a row, or empty where there is no guess. They change how many
                passes an answer takes, never what it says.
            motions: motion sentences that the model is made to say, one a row; None where it says its own.

        Returns:
            One answer a row.

        Raises:
            NotFiniteError: a score is NaN or infinite, so that no token is the best one.
        """
        with torch.inference_mode():
            rows = [_Row(guess) for guess in drafts or [()] * len(instructions)]
            for row, motion in zip(rows, motions or [None] * len(rows), strict=True):
                self._begin(row, motion)
            return self._decode(observed, instructions, rows)

    def _begin(self, row: _Row, motion: str | None) -> None:
        """Put what a row is made to say, and what it is guessed to say, in front of its first pass."""
        if motion is None:
            row.draft = self._verifiable(self._grammar.walk(row.guess), row.state)
        else:
            for token in (*self._prompts.motion_ids(motion), self._prompts.stop_id):
                self._append(row, token)
            self._append_forced(row)
            row.pending = list(row.said)
            row.draft = self._next_draft(row)
        row.asks = self._ends_saying(row)

    def _decode(self, observed: Tensor, instructions: Sequence[str], rows: Sequence[_Row]) -> list[Decoded]:
        prompts = [self._prompts.prompt(text, self._prompts.config.motion) for text in instructions]
        cache = RaggedCache.joined([self._prefix(prompt.before) for prompt in prompts])
        block = self._first_block(observed, prompts, rows)
        while True:
            hidden = cache.run(self._model.decoder, block)
            rejected = self._read(rows, hidden, block)
            if all(map(self._finished, rows)):
                return [self._decoded(row) for row in rows]
            cache.drop(rejected, block)
            block = self._block([[*row.pending, *row.draft] for row in rows], [row.asks for row in rows])

    def _prefix(self, before: tuple[int, ...]) -> RaggedCache:
        """Run the part of a prompt that precedes the observation, once per instruction."""
        if before not in self._prefixes:
            cache = RaggedCache.empty(1, self._device)
            cache.run(self._model.decoder, self._block([before], [False]))
            self._prefixes[before] = cache
            if len(self._prefixes) > _REMEMBERED_PREFIXES:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(before)
        return self._prefixes[before]

    def _first_block(self, observed: Tensor, prompts: Sequence[Prompt], rows: Sequence[_Row]) -> Block:
        """Observation, rest of the prompt, what the row is made to say, and the draft to be verified."""
        said = [[*prompt.after, *row.pending, *row.draft] for prompt, row in zip(prompts, rows, strict=True)]
        text = self._block(said, [row.asks for row in rows])
        embedded = torch.cat([observed.to(text.embedded.dtype), text.embedded], dim=1)
        return Block(embedded, text.lengths + observed.shape[1])

    def _block(self, tokens: Sequence[Sequence[int]], asks: Sequence[bool]) -> Block:
        """Embed tokens `[B][*]`, with the queries of actions behind those of the rows that ask for them."""
        queries = self._reader.queries if self._reader else ()
        ends = [len(row) + len(queries) * asked for row, asked in zip(tokens, asks, strict=True)]
        padded = torch.tensor([[*row, *[0] * (max(ends) - len(row))] for row in tokens], device=self._device)
        embedded = self._model.embed_tokens(padded)
        for index in range(len(tokens)):
            if asks[index]:
                embedded[index, len(tokens[index]) : ends[index]] = queries
        return Block(embedded, torch.tensor(ends, device=self._device))

    def _read(self, rows: Sequence[_Row], hidden: Tensor, block: Block) -> Tensor:
        """Let every row say what its hidden states say; return how many drafted tokens of each were wrong, `[B]`."""
        running = [(index, row) for index, row in enumerate(rows) if not self._finished(row)]
        asked = len(self._reader.queries) if self._reader else 0
        ends = [end - asked * row.asks for end, row in zip(block.lengths.tolist(), rows, strict=True)]
        spans = [torch.arange(ends[index] - 1 - len(row.draft), ends[index]) for index, row in running]
        which = torch.cat([torch.full((len(span),), index) for span, (index, _) in zip(spans, running, strict=True)])
        chosen = hidden[which.to(self._device), torch.cat(spans).to(self._device)]
        scores = linear(chosen, self._weight, self._bias).float().cpu().numpy()
        check_finite(scores)
        rejected = torch.zeros(len(rows), dtype=torch.int64)
        first = 0
        for (index, row), span in zip(running, spans, strict=True):
            wrong = self._say(row, scores[first : first + len(span)])
            rejected[index] = wrong + asked * row.asks
            if self._reader and row.asks and not wrong:
                row.actions = self._reader.read(hidden[index, ends[index] - 1 : ends[index] + asked])
            if self._finished(row):
                row.pending = []
            row.asks = self._ends_saying(row)
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
        row.pending = [*row.said[-1:], *(self._append_forced(row) if self._skip_forced else [])]
        rejected = len(row.draft) - agreed
        row.draft = self._next_draft(row)
        return rejected

    def _finished(self, row: _Row) -> bool:
        return row.state == self._grammar.done and (self._reader is None or row.actions is not None)

    def _ends_saying(self, row: _Row) -> bool:
        """Whether actions of one pass are still asked, and may follow what is pending and drafted."""
        if self._reader is None or row.actions is not None:
            return False
        return self._grammar.after(row.draft, row.state) == self._grammar.done

    def _append_forced(self, row: _Row) -> list[int]:
        """Say the tokens among which there is no choice, and return them."""
        forced = []
        while (token := self._grammar.forced(row.state)) is not None:
            self._append(row, token)
            forced.append(token)
        return forced

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
        """Cut a draft before its last choice: running that token would tell nothing that is still asked.

        Where the actions of one pass follow it, they are asked.
        """
        if self._reader:
            return list(tokens)
        last = 0
        for index, token in enumerate(tokens):
            if self._grammar.forced(state) is None:
                last = index
            state = self._grammar.edges[state][token]
        return list(tokens[: last if state == self._grammar.done else len(tokens)])

    def _decoded(self, row: _Row) -> Decoded:
        actions = row.actions or Actions((), ())
        if self._grammar.first_action is not None:
            actions = Actions(tuple(row.said[-1 - self._prompts.action_tokens : -1]), ())
        motion = None
        if self._prompts.config.motion:
            sentence = row.said[: row.said.index(self._prompts.stop_id)]
            motion = self._prompts.tokenizer.decode(sentence)
        return Decoded(tuple(row.said), motion, actions.ids, row.passes, row.accepted, actions.values)

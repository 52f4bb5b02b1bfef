"""What the model may say, as an automaton over token ids: a motion sentence, then actions, nothing else.

Where only one token may follow, it is forced and costs no forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vla.actions import BINS
from vla.model.prompt import PromptBuilder
from vla.motion.language import all_motions, describe


@dataclass(frozen=True)
class Grammar:
    """All answers of one kind, as a trie whose leaves run into one tail; actions of one pass follow its end.

    Attributes:
        edges: per state, token id -> next state. The last state, `done`, has none.
        first_action: first of the states that an action token leaves, or None if no action is said.
        one_pass: whether all actions follow in one pass (`vla.model.action_head`) when everything is said.
    """

    edges: tuple[dict[int, int], ...]
    first_action: int | None
    one_pass: bool = False
    _columns: dict[int, NDArray[np.intp]] = field(default_factory=dict, compare=False, repr=False)

    start = 0

    @property
    def done(self) -> int:
        """State in which the answer is complete."""
        return len(self.edges) - 1

    def allowed(self, state: int) -> NDArray[np.int64]:
        """Token ids that may follow, ascending."""
        return np.array(sorted(self.edges[state]), dtype=np.int64)

    def forced(self, state: int) -> int | None:
        """Return the one token that may follow, or None if there is a choice (or nothing left to say)."""
        following = self.edges[state]
        return next(iter(following)) if len(following) == 1 else None

    def after(self, tokens: Sequence[int], state: int) -> int:
        """Return the state that tokens, which may be said, lead to."""
        for token in tokens:
            state = self.edges[state][token]
        return state

    def walk(self, tokens: Sequence[int], state: int = 0) -> list[int]:
        """Return the longest beginning of `tokens` that may be said from `state`."""
        said: list[int] = []
        for token in tokens:
            following = self.edges[state].get(token)
            if following is None:
                break
            said.append(token)
            state = following
        return said

    @cached_property
    def vocabulary(self) -> NDArray[np.int64]:
        """`[V]` ids of all tokens among which there is ever a choice, ascending."""
        choices = [token for following in self.edges if len(following) > 1 for token in following]
        return np.array(sorted(set(choices)), dtype=np.int64)

    def columns(self, state: int) -> NDArray[np.intp]:
        """Positions in `vocabulary` of the tokens that may follow, ascending."""
        if state not in self._columns:
            self._columns[state] = np.searchsorted(self.vocabulary, self.allowed(state))
        return self._columns[state]

    def actions_said(self, state: int) -> int | None:
        """How many action tokens have been said in a state, or None while the motion is not over."""
        if self.first_action is None or state < self.first_action:
            return None
        return state - self.first_action


def grammar(prompts: PromptBuilder, motion: bool, action: bool) -> Grammar:
    """Build the grammar of an answer.

    Args:
        prompts: knows the tokens.
        motion: whether the answer begins with a motion sentence.
        action: whether it ends with actions.
    """
    edges: list[dict[int, int]] = [{}]
    sentence_ends: list[int] = []
    if motion:
        for sentence in map(describe, all_motions()):
            state = 0
            for token in prompts.motion_ids(sentence):
                if token not in edges[state]:
                    edges.append({})
                    edges[state][token] = len(edges) - 1
                state = edges[state][token]
            sentence_ends.append(state)
    tail = len(edges) if motion else 0
    for state in sentence_ends:
        edges[state][prompts.stop_id] = tail
    if motion:
        edges.append({})
    if action:
        first_action = _append_action(edges, prompts, motion)
        return Grammar(tuple(edges), first_action, one_pass=first_action is None)
    return Grammar(tuple(edges), None)


def _append_action(edges: list[dict[int, int]], prompts: PromptBuilder, header: bool) -> int | None:
    """Append header, action tokens and stop behind the last state, and return the first state that says an action.

    Where all actions are predicted in one pass, append the header alone and return None.
    """

    def then(tokens: Sequence[int]) -> None:
        edges.append({})
        edges[-2].update(dict.fromkeys(tokens, len(edges) - 1))

    if header:
        for token in prompts.action_header:
            then([token])
    if prompts.config.action_head != "autoregressive":
        return None
    first_action = len(edges) - 1
    for _ in range(prompts.action_tokens):
        then(range(prompts.actions.first_token_id, prompts.actions.first_token_id + BINS))
    then([prompts.stop_id])
    return first_action

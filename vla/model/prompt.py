r"""From an instruction, a motion and an action to token ids, and back (the paper's tables 1 and 2).

    <START>system\n{system}<STOP>\n
    <START>user\n{observation}What action should the robot take to {instruction}?<STOP>\n
    <START>motion\n{motion}<STOP>\n
    <START>assistant\n{action tokens}<STOP>

Loss falls on the motion sentence, the action tokens and their stops. Where all actions are predicted in one pass
(`vla.model.action_head`), queries stand in place of the action tokens, and no stop behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer

from vla.actions import AnyActionTokenizer
from vla.errors import PromptError
from vla.model.config import ModelConfig
from vla.model.tokenizer import END_OF_TEXT, START, STOP, action_tokenizer, encode

MOTION, ACTION, TEXT = 1, 2, 3
"""What a token that carries loss belongs to: a motion sentence, actions, or any other text."""


@dataclass(frozen=True)
class TokenSequence:
    """One training sequence.

    Attributes:
        token_ids: `[T]` int64; 0 where the observation stands.
        kinds: `[T]` int8; `MOTION`, `ACTION` or `TEXT` at tokens that carry loss, 0 elsewhere.
        observation: `[T]` bool; where the observation's embeddings stand.
    """

    token_ids: NDArray[np.int64]
    kinds: NDArray[np.int8]
    observation: NDArray[np.bool_]


@dataclass(frozen=True)
class Prompt:
    """What the model reads before it speaks.

    Attributes:
        before: token ids in front of the observation; equal for equal instructions, whatever the observation is.
        after: token ids behind it, up to the header of the first turn that the model writes.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class PromptBuilder:
    """Writes prompts and training sequences for one tokenizer and one model configuration.

    Attributes:
        tokenizer: with action tokens.
        config: of the model.
    """

    tokenizer: Tokenizer
    config: ModelConfig
    _pieces: dict[str, list[int]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def actions(self) -> AnyActionTokenizer:
        """Turn normalised actions into action tokens and back."""
        return action_tokenizer(self.tokenizer, kind=self.config.action_tokenizer)

    @property
    def action_tokens(self) -> int:
        """Positions of one answer at which actions are predicted: tokens, or whole actions of an L1 head."""
        return self.config.action_positions

    def action_ids(self, normalized: ArrayLike) -> list[int]:
        """Turn `[action_horizon, 7]` normalised actions into what `sequence` takes; of an L1 head, ids without meaning.

        Raises:
            ActionDataError: a value is not finite.
        """
        ids: list[int] = self.actions.encode(normalized).ravel().tolist()
        return [0] * self.action_tokens if self.config.action_head == "l1" else ids

    @cached_property
    def stop_id(self) -> int:
        """Id of `<STOP>`."""
        return self._encode(STOP)[0]

    @cached_property
    def end_id(self) -> int:
        """Id of what ends a text: `<|endoftext|>`, or `<STOP>` where the tokenizer has none."""
        end = self.tokenizer.token_to_id(END_OF_TEXT)
        return self.stop_id if end is None else int(end)

    @cached_property
    def action_header(self) -> tuple[int, ...]:
        """What stands between the stop of the motion and the first action token."""
        return tuple(self._encode("\n") + self._encode(f"{START}assistant\n"))

    def prompt(self, instruction: str, motion: bool) -> Prompt:
        """Write what precedes the answer.

        Args:
            instruction: the task in words.
            motion: whether the answer begins with a motion sentence (else with the action tokens).

        Raises:
            PromptError: the instruction is empty, or prompt and longest answer exceed the model's context.
        """
        question = f"What action should the robot take to {canonical_instruction(instruction)}?"
        head = self._encode(f"{START}system\n{self.config.system}{STOP}\n{START}user\n")
        header = self._encode("\n") + self._encode(f"{START}{'motion' if motion else 'assistant'}\n")
        tail = [self.stop_id, *header]
        text = [*head, *self._encode(question), *tail]
        at = {"after_first_token": 1, "before_question": len(head), "after_question": len(text) - len(tail)}
        seen = at[self.config.image_position]
        prompt = Prompt(tuple(text[:seen]), tuple(text[seen:]))
        self._check_length(prompt, instruction)
        return prompt

    def sequence(self, instruction: str, motion: str | None, action_ids: Sequence[int] | None) -> TokenSequence:
        """Write a training sequence.

        Args:
            instruction: the task in words.
            motion: the motion sentence; None leaves the motion turn out.
            action_ids: of actions (`action_ids`); None leaves the action turn out (pretraining on motion).
        """
        prompt = self.prompt(instruction, motion is not None)
        ids = [*prompt.before, *[0] * self.config.observation_tokens, *prompt.after]
        kinds = [0] * len(ids)
        if motion is not None:
            said = [*self._encode(motion), self.stop_id]
            ids += said
            kinds += [MOTION] * len(said)
        if action_ids is not None:
            header = self.action_header if motion is not None else ()
            done = [*action_ids, self.stop_id] if self.config.action_head == "autoregressive" else [*action_ids]
            ids += [*header, *done]
            kinds += [0] * len(header) + [ACTION] * len(done)
        observation = np.zeros(len(ids), dtype=bool)
        observation[len(prompt.before) : len(prompt.before) + self.config.observation_tokens] = True
        return TokenSequence(np.array(ids, dtype=np.int64), np.array(kinds, dtype=np.int8), observation)

    def caption(self, text: str, image: bool, longest: int) -> TokenSequence:
        """Write a caption and its end alone, as Prismatic aligns its projector; no question, no turns.

        The first token carries no loss: nothing stands before it but, in other layouts than Prismatic's, the image.

        Args:
            text: of the caption.
            image: whether there is an image.
            longest: tokens after which the sequence is cut.
        """
        words = [*self._encode(text), self.end_id]
        seen = self.config.observation_tokens * image
        first = 1 if self.config.image_position == "after_first_token" else 0
        ids = [*words[:first], *[0] * seen, *words[first:]]
        kinds = [*[0] * (first + seen), *[TEXT] * (len(words) - first)]
        kinds[0] = 0
        observation = [first <= at < first + seen for at in range(len(ids))]
        cut = slice(0, longest)
        return TokenSequence(np.array(ids[cut]), np.array(kinds[cut], dtype=np.int8), np.array(observation[cut]))

    def conversation(self, turns: Sequence[tuple[str, str]], image: bool, longest: int) -> TokenSequence:
        """Write a conversation about an image, or about nothing; loss falls on what the assistant says and on the end.

        Args:
            turns: (question, answer) pairs; the image belongs to the first question.
            image: whether there is one.
            longest: tokens after which the sequence is cut.
        """
        position, patches = self.config.image_position, [0] * self.config.observation_tokens
        ids, kinds, observation = list[int](), list[int](), list[bool]()

        def add(tokens: Sequence[int], kind: int = 0, seen: bool = False) -> None:
            ids.extend(tokens)
            kinds.extend([kind] * len(tokens))
            observation.extend([seen] * len(tokens))

        system = self._encode(f"{START}system\n{self.config.system}{STOP}\n")
        add(system[:1])
        add(patches * (image and position == "after_first_token"), seen=True)
        add(system[1:])
        for index, (question, answer) in enumerate(turns):
            shown = image and index == 0
            add(self._encode(f"{START}user\n"))
            add(patches * (shown and position == "before_question"), seen=True)
            add(self._encode(question))
            add(patches * (shown and position == "after_question"), seen=True)
            add([self.stop_id, *self._encode("\n"), *self._encode(f"{START}assistant\n")])
            add([*self._encode(answer), self.stop_id], TEXT)
            last = index == len(turns) - 1
            add(self._encode("\n"), TEXT * last)
        add([self.end_id], TEXT)
        cut = slice(0, longest)
        return TokenSequence(np.array(ids[cut]), np.array(kinds[cut], dtype=np.int8), np.array(observation[cut]))

    def motion_ids(self, sentence: str) -> tuple[int, ...]:
        """Token ids of a motion sentence, without its stop."""
        return tuple(self._encode(sentence))

    def _encode(self, text: str) -> list[int]:
        """Encode a piece; pieces recur by the million while there are few different ones."""
        if text not in self._pieces:
            if len(self._pieces) > 100_000:
                self._pieces.clear()
            self._pieces[text] = encode(self.tokenizer, text)
        return self._pieces[text]

    def _check_length(self, prompt: Prompt, instruction: str) -> None:
        answer = _LONGEST_MOTION * self.config.motion + len(self.action_header) + self.action_tokens + 2
        total = len(prompt.before) + self.config.observation_tokens + len(prompt.after) + answer
        if total > self.config.language.context:
            raise PromptError(
                f"The instruction {instruction[:60]!r}... needs {total} tokens with image and answer; the model's "
                f"context is {self.config.language.context}. Shorten the instruction."
            )


_LONGEST_MOTION = 48
"""Tokens kept free for a motion sentence; the longest has 13 words."""


@lru_cache(maxsize=4096)
def canonical_instruction(instruction: str) -> str:
    """Lower-case an instruction and strip a final full stop, as OpenVLA does.

    Raises:
        PromptError: nothing is left.
    """
    text = " ".join(instruction.lower().split()).removesuffix(".").rstrip()
    if not text:
        raise PromptError("The instruction is empty: the model acts on words.")
    return text

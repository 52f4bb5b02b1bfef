"""Requests of many workers become one policy call."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from evals.contract import Policy
from evals.engine.messages import Answer
from evals.types import ActionChunk, Observation


class Batcher:
    """Asks the policy about everything that is waiting, and finds the culprit when a batch fails.

    Args:
        policy: the policy.
        exact: ask one observation at a time, so that a model whose sums depend on the batch size answers the same
            whoever waits beside it.
    """

    def __init__(self, policy: Policy, exact: bool) -> None:
        self._policy = policy
        self._exact = exact

    def answer(self, observations: Sequence[Observation]) -> list[Answer]:
        """Return one answer an observation, in order. An observation on which the policy raises gets its traceback."""
        if not observations:
            return []
        if self._exact or len(observations) == 1:
            return [self._one(observation) for observation in observations]
        try:
            chunks = self._policy.act(observations)
        except Exception:  # noqa: BLE001 - the border between a policy and the record; asked again one by one
            return [self._one(observation) for observation in observations]
        return _paired(chunks, len(observations))

    def _one(self, observation: Observation) -> Answer:
        try:
            chunks = self._policy.act([observation])
        except Exception:  # noqa: BLE001 - the border between a policy and the record
            return Answer(None, traceback.format_exc(limit=-8))
        return _paired(chunks, 1)[0]


def _paired(chunks: list[ActionChunk], expected: int) -> list[Answer]:
    if not isinstance(chunks, list) or len(chunks) != expected:
        got = f"{len(chunks)} chunks" if isinstance(chunks, list) else type(chunks).__name__
        error = f"Policy.act returned {got} for {expected} observations; expected a list with one chunk for each."
        return [Answer(None, error)] * expected
    return [Answer(chunk) for chunk in chunks]

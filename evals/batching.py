"""Turns the requests of many workers into one call of the policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from evals.caller import Caller, PolicyFailedError
from evals.checks import paired
from evals.contract import Policy
from evals.engine.messages import Answer
from evals.errors import PolicyOutputError
from evals.types import ActionChunk, Observation

Check = Callable[[object], ActionChunk]


class Batcher:
    """Asks the policy about all waiting observations at once, and one by one if that fails, to find the culprit.

    Args:
        policy: the policy.
        exact: ask about one observation at a time, since the sums of a model may depend on the size of the batch.
        check: returns a chunk as plain data, or raises PolicyOutputError.
        caller: calls the policy on its thread.
    """

    def __init__(self, policy: Policy, exact: bool, check: Check, caller: Caller) -> None:
        self._policy, self._exact, self._check, self._caller = policy, exact, check, caller

    def answer(self, observations: Sequence[Observation]) -> list[Answer]:
        """Return one answer for each observation, in order: a chunk, or the traceback of what the policy raised.

        Raises:
            RunIncompleteError: the policy does not answer in time.
        """
        if self._exact or len(observations) <= 1:
            return [self._one(observation) for observation in observations]
        try:
            return self._caller.call("act()", self._ask, [fresh(observation) for observation in observations])
        except PolicyFailedError:  # asked again one by one, each about what the failed call has not touched
            return [self._one(observation) for observation in observations]

    def _one(self, observation: Observation) -> Answer:
        try:
            [answer] = self._caller.call("act()", self._ask, [observation])
        except PolicyFailedError as error:
            return Answer(None, str(error))
        return answer

    def _ask(self, observations: list[Observation]) -> list[Answer]:
        """Ask and check; runs on the policy's thread, because objects in its answer may run code of the policy."""
        expected = len(observations)  # the list is the policy's from now on
        try:
            chunks = paired(self._policy.act(observations), expected)
        except PolicyOutputError as error:
            return [Answer(None, str(error))] * expected
        return [self._checked(chunk) for chunk in chunks]

    def _checked(self, chunk: object) -> Answer:
        try:
            return Answer(self._check(chunk))
        except PolicyOutputError as error:
            return Answer(None, str(error))
        except Exception as error:  # noqa: BLE001 - the border between a policy and the record
            return Answer(None, str(PolicyFailedError.of(error)))


def fresh(observation: Observation) -> Observation:
    """Return a copy of an observation that shares no mutable data with the original."""
    return replace(
        observation,
        episode=replace(observation.episode),
        images={name: image.copy() for name, image in observation.images.items()},
        state=observation.state.copy(),
    )

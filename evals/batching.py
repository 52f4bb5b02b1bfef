"""Requests of many workers become one policy call."""

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
    """Asks the policy about everything that is waiting, and finds the culprit when a batch fails.

    Args:
        policy: the policy.
        exact: ask one observation at a time, so that a model whose sums depend on the batch size answers the same
            whoever waits beside it.
        check: returns a chunk as plain data, or raises PolicyOutputError.
        caller: on whose thread the policy is asked.
    """

    def __init__(self, policy: Policy, exact: bool, check: Check, caller: Caller) -> None:
        self._policy, self._exact, self._check, self._caller = policy, exact, check, caller

    def answer(self, observations: Sequence[Observation]) -> list[Answer]:
        """Return one answer an observation, in order. An observation on which the policy raises gets its traceback.

        Raises:
            RunIncompleteError: the policy does not come back.
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
        """Run on the policy's thread, where whatever its answer does when it is looked at is still the policy's."""
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
    """Return an equal observation that shares nothing which can be changed with it."""
    return replace(
        observation,
        episode=replace(observation.episode),
        images={name: image.copy() for name, image in observation.images.items()},
        state=observation.state.copy(),
    )

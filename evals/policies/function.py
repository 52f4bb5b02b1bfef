"""A function of one observation as a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evals.spaces import ActionSpace, StateSpace
from evals.types import ActionChunk, Episode, FloatArray, Observation


@dataclass(frozen=True)
class FunctionPolicy:
    """Asks a function about one observation after the other; `evals.policy` makes it.

    Attributes:
        name: names the run folder.
        function: an `Observation` to `[7]` or `[K, 7]` numbers, or to an `ActionChunk`.
        action_space: what the numbers mean.
        state_space: what the function reads from `Observation.state`, or None.
        cameras: names of the cameras that it looks at.
        replan_every: actions of an answer that are run before it is asked again.
    """

    name: str
    function: Callable[[Observation], ActionChunk | FloatArray]
    action_space: ActionSpace
    state_space: StateSpace | None
    cameras: tuple[str, ...]
    replan_every: int

    def begin(self, episode: Episode) -> None:
        """Keep nothing."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer each observation on its own."""
        return [self._answer(observation) for observation in observations]

    def end(self, episode: Episode) -> None:
        """Keep nothing."""

    def _answer(self, observation: Observation) -> ActionChunk:
        answer = self.function(observation)
        if isinstance(answer, ActionChunk):
            return answer
        return ActionChunk(np.atleast_2d(np.asarray(answer, dtype=np.float64)))

"""A policy that is told what to say: the harness's side of `vla.decode.interventions`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evals.contract import Env, Policy, PrivilegedPolicy
from evals.errors import UsageError
from evals.policies.expert import expert
from evals.types import Episode, Observation, Suite
from vla.decode.interventions import EXPERT, OPPOSITE, OWN, Intervention, opposite, shuffled


class Speech:
    """Chooses the sentences of a policy; what it remembers of an episode is forgotten at the next one's beginning.

    The expert grasps as in demonstrations of one way for a task (`consistent_grasp`), which the released model learnt.

    Args:
        suite: that is acted in.
        intervention: whose words are said.

    Raises:
        UsageError: the expert is to speak, and the suite has none that says what it means.
    """

    def __init__(self, suite: Suite, intervention: Intervention) -> None:
        self._intervention = intervention
        self._said: dict[str, list[str]] = {}
        speaks = intervention.kind == EXPERT
        self._expert: Policy | None = expert(suite, consistent_grasp=True) if speaks else None
        self._asked_at = -1

    def attach(self, env: Env) -> None:
        """Give the env to the expert."""
        if not isinstance(self._expert, PrivilegedPolicy):
            raise UsageError("say=expert: the suite's expert reads no env, so it knows no words.")
        self._expert.attach(env)

    def begin(self, episode: Episode) -> None:
        """Forget what was said in an earlier attempt at the episode, and let the expert begin."""
        self._said.pop(episode.id, None)
        if self._expert is not None:
            self._expert.begin(episode)
            self._asked_at = -1

    def end(self, episode: Episode) -> None:
        """Forget the episode."""
        self._said.pop(episode.id, None)
        if self._expert is not None:
            self._expert.end(episode)

    def motions(
        self, observations: Sequence[Observation], own: Callable[[], Sequence[str]]
    ) -> Sequence[str | None] | None:
        """Choose a sentence for every observation; None where the policy says its own.

        Args:
            observations: of a batch.
            own: decodes what the policy would say itself, one sentence an observation.
        """
        kind = self._intervention.kind
        if kind == OWN:
            return None
        if kind == EXPERT:
            return [self._expert_words(observation) for observation in observations]
        if kind == OPPOSITE:
            return [opposite(sentence) for sentence in own()]
        if kind == "given":
            return [self._intervention.given(observation.step) for observation in observations]
        return [
            shuffled(sentence, self._said.setdefault(seen.episode.id, []), seen.episode.rng(f"say, step {seen.step}"))
            for sentence, seen in zip(own(), observations, strict=True)
        ]

    def _expert_words(self, observation: Observation) -> str:
        """Ask the expert what it would do from here.

        It counts steps (until the fingers are closed, say), so it is asked once for every step since it was last asked;
        what it answers at the last one counts.
        """
        assert self._expert is not None
        words = None
        for _ in range(observation.step - self._asked_at):
            words = self._expert.act([observation])[0].motion
        self._asked_at = observation.step
        if not words:
            raise UsageError("say=expert: the suite's expert gives no ActionChunk.motion, so it has no words.")
        return words

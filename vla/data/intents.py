"""What is known of the motion in demonstrations: the recorded intents of experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla.data.demonstration import Demonstration
from vla.errors import LabellerError, listed
from vla.motion.hmm import HmmLabeller
from vla.motion.labellers import Labeller, Slots
from vla.motion.language import MotionSyntaxError, parse, slots_from_motions
from vla.motion.tuning import LabelledEpisode
from vla.statistics import ActionStatistics

_MOST_STEPS = 200_000
"""Steps of a data set that are compared: the paper annotated 3 to 5 % of each."""


@dataclass(frozen=True)
class IntentLabeller(Labeller):
    """What the experts meant to do, as it was recorded.

    Attributes:
        sentences: motion sentences of every step, by the name of the episode.
    """

    sentences: Mapping[str, tuple[str, ...]]

    def slots(self, actions: ArrayLike, statistics: ActionStatistics, episode: str = "") -> Slots:
        """See `Labeller.slots`; of the arguments only the episode's name is used."""
        return slots_from_motions([parse(sentence) for sentence in self.sentences[episode]])


def intents_of(episodes: Sequence[Demonstration]) -> IntentLabeller:
    """Return the recorded intents of episodes as their labels.

    Raises:
        LabellerError: an episode has none, or one that is no motion sentence.
    """
    without = [f"{episode.dataset}: {episode.where}" for episode in episodes if not episode.intents]
    if without:
        raise LabellerError(
            f"--motion intent: {len(without)} of {len(episodes)} episodes have no recorded intents: {listed(without)}. "
            "Demonstrations of vla-eval record have them; for other data give a labeller, e.g. --motion adaptive."
        )
    for episode in episodes:
        for sentence in set(episode.intents):
            try:
                parse(sentence)
            except MotionSyntaxError as error:
                raise LabellerError(f"{episode.where}: an intent is no motion sentence. {error}") from error
    return IntentLabeller({str(episode.where): episode.intents for episode in episodes})


def known_motion(episodes: Sequence[Demonstration], statistics: ActionStatistics) -> tuple[list[LabelledEpisode], str]:
    """Return what is known of the motion of a data set, and by whom: "intents", else "hmm".

    Recorded intents stand for the paper's annotations; where there are none, the labels of the labeller that agrees
    best with intents elsewhere. Of a large data set, evenly spaced episodes are taken.
    """
    with_intents = [episode for episode in episodes if episode.intents]
    some = _spaced(with_intents or episodes)
    if with_intents:
        slots = [intents_of([episode]).slots((), statistics, str(episode.where)) for episode in some]
    else:
        named = {str(episode.where): episode.actions for episode in some}
        slots = HmmLabeller().slots_of_episodes(named, statistics)
    known = []
    for episode, truth in zip(some, slots, strict=True):
        counted = np.ones(len(episode), dtype=bool) if episode.is_expert is None else episode.is_expert
        known.append(LabelledEpisode(episode.actions, truth, counted))
    return known, "intents" if with_intents else "hmm"


def _spaced(episodes: Sequence[Demonstration]) -> Sequence[Demonstration]:
    every = -(-sum(map(len, episodes)) // _MOST_STEPS)
    return episodes[:: max(1, every)]

"""What can be said of motion labels without a truth: do they survive other units and control rates, do they agree?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.motion.corpus import Corpus, LabelledEpisode
from studies.motion.scores import labelled
from vla.data.rlds import read_rlds
from vla.motion.labellers import Labeller, Slots
from vla.motion.language import describe, motions_from_slots
from vla.statistics import GRIPPER

RESCALINGS = (0.1, 0.3, 0.7, 1.5, 3.0, 10.0)
BRIDGE_HZ = 5.0


def bridge_corpus(directory: Path) -> Corpus:
    """Read an RLDS folder of Bridge V2 as a corpus whose intents are unknown (its slots are zero)."""
    actions = [episode.actions.astype(np.float64) for episode in read_rlds(directory)]
    episodes = tuple(LabelledEpisode(one, np.zeros((len(one), 6), dtype=np.int8)) for one in actions)
    return Corpus("bridge_v2", BRIDGE_HZ, episodes)


def rescaled(corpus: Corpus, factor: float) -> Corpus:
    """Return the same motion recorded in other units: every action but the gripper's multiplied by `factor`."""
    factors = np.where(np.arange(7) == GRIPPER, 1.0, factor)
    return _with_actions(corpus, [episode.actions * factors for episode in corpus.episodes])


def at_half_rate(corpus: Corpus) -> Corpus:
    """Return the same motion at half the control rate: pairs of deltas are summed, the later gripper level stays."""
    halved = []
    for episode in corpus.episodes:
        pairs = episode.actions[: len(episode.actions) // 2 * 2].reshape(-1, 2, 7)
        actions = pairs.sum(axis=1)
        actions[:, GRIPPER] = pairs[:, 1, GRIPPER]
        halved.append(LabelledEpisode(actions, episode.slots[: 2 * len(pairs) : 2]))
    return Corpus(corpus.name, corpus.rate_hz / 2, tuple(halved))


def survival_of_rescaling(labeller: Labeller, corpus: Corpus, factors: Iterable[float] = RESCALINGS) -> float:
    """Fraction of sentences that stay the same when the data set's units change, averaged over factors."""
    before = np.concatenate(labelled(labeller, corpus))
    after = [np.concatenate(labelled(labeller, rescaled(corpus, factor))) for factor in factors]
    return float(np.mean([same(before, one).mean() for one in after]))


def survival_of_half_rate(labeller: Labeller, corpus: Corpus) -> float:
    """Fraction of sentences at half the control rate that either of the two merged steps had before."""
    agreeing = []
    for before, after in zip(labelled(labeller, corpus), labelled(labeller, at_half_rate(corpus)), strict=True):
        first, second = before[: 2 * len(after) : 2], before[1 : 2 * len(after) : 2]
        agreeing.append(same(first, after) | same(second, after))
    return float(np.concatenate(agreeing).mean())


def agreement(one: Sequence[Slots], other: Sequence[Slots]) -> float:
    """Fraction of steps on which two labellers say the same sentence."""
    return float(same(np.concatenate(one), np.concatenate(other)).mean())


def commonest(labels: Sequence[Slots], count: int = 8) -> list[tuple[str, float]]:
    """Return the most frequent sentences with their share of all steps."""
    sentences = Counter(describe(motion) for motion in motions_from_slots(np.concatenate(labels)))
    return [(sentence, times / sentences.total()) for sentence, times in sentences.most_common(count)]


def same(one: Slots, other: Slots) -> NDArray[np.bool_]:
    """Where two arrays of slots `[T, 6]` are the same sentence, `[T]`."""
    equal: NDArray[np.bool_] = (one == other).all(axis=1)
    return equal


def _with_actions(corpus: Corpus, actions: Sequence[NDArray[np.float64]]) -> Corpus:
    episodes = [replace(episode, actions=one) for episode, one in zip(corpus.episodes, actions, strict=True)]
    return Corpus(corpus.name, corpus.rate_hz, tuple(episodes))

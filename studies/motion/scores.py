"""How good motion labels are: against known intents, and on their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.motion.corpus import Corpus
from vla.motion.labellers import Labeller, Slots
from vla.motion.language import SLOTS

LabellerOf = Callable[[Corpus], Labeller]
"""Which labeller a corpus gets: the same one for a global setting, its own for a tuned baseline."""


class MotionScore(NamedTuple):
    """Scores of one labeller on one corpus.

    Attributes:
        accuracy: fraction of steps whose whole sentence is right.
        boundary_seconds: mean distance from a true change of sentence to the nearest labelled one.
        flicker_hz: changes of sentence per second; `true_flicker_hz` is that of the intents.
        true_flicker_hz: see there.
    """

    accuracy: float
    boundary_seconds: float
    flicker_hz: float
    true_flicker_hz: float


def labelled(labeller: Labeller, corpus: Corpus) -> list[Slots]:
    """Label every episode of a corpus, `[T, 6]` each."""
    named = {str(number): episode.actions for number, episode in enumerate(corpus.episodes)}
    return labeller.slots_of_episodes(named, corpus.statistics)


def accuracy(labeller: Labeller, corpus: Corpus) -> float:
    """Fraction of the corpus's steps whose whole sentence is right."""
    return float(np.mean(np.concatenate(episode_hits(labelled(labeller, corpus), corpus))))


def episode_hits(labels: Sequence[Slots], corpus: Corpus) -> list[NDArray[np.bool_]]:
    """Which steps have the whole sentence right, `[T]` for each episode."""
    return [(got == episode.slots).all(axis=1) for got, episode in zip(labels, corpus.episodes, strict=True)]


def tolerant_accuracy(labels: Sequence[Slots], corpus: Corpus, steps: int) -> float:
    """Fraction of steps whose whole sentence is true of some step at most `steps` away; 0 is exact.

    At a border nobody can be right to the step: a command and its effect are apart.
    """
    hits = []
    for got, episode in zip(labels, corpus.episodes, strict=True):
        right = np.zeros(len(got), dtype=bool)
        for shift in range(-min(steps, len(got) - 1), min(steps, len(got) - 1) + 1):
            here = slice(max(0, -shift), len(got) - max(0, shift))
            there = slice(max(0, shift), len(got) - max(0, -shift))
            right[here] |= (got[here] == episode.slots[there]).all(axis=1)
        hits.append(right)
    return float(np.mean(np.concatenate(hits)))


def score(labels: Sequence[Slots], corpus: Corpus) -> MotionScore:
    """Score labels `[T, 6]` of each episode of a corpus."""
    truth = [episode.slots for episode in corpus.episodes]
    distances = [boundary_distances(true, got) for true, got in zip(truth, labels, strict=True)]
    boundaries = np.concatenate(distances)
    return MotionScore(
        accuracy=float(np.mean(np.concatenate(episode_hits(labels, corpus)))),
        boundary_seconds=float(boundaries.mean()) / corpus.rate_hz if len(boundaries) else 0.0,
        flicker_hz=flicker(labels, corpus.rate_hz),
        true_flicker_hz=flicker(truth, corpus.rate_hz),
    )


def boundary_distances(truth: Slots, labels: Slots) -> NDArray[np.float64]:
    """Distance in steps from every true change of sentence to the nearest labelled one.

    Without any labelled change the distance is the episode's length.
    """
    true, got = _changes(truth), _changes(labels)
    if not len(got):
        return np.full(len(true), float(len(truth)))
    nearest: NDArray[np.float64] = np.abs(true[:, None] - got).min(axis=1).astype(np.float64)
    return nearest


def flicker(labels: Sequence[Slots], rate_hz: float) -> float:
    """Return the changes of sentence per second."""
    seconds = sum(len(one) for one in labels) / rate_hz
    return sum(len(_changes(one)) for one in labels) / seconds


def slot_table(labels: Sequence[Slots], truth: Sequence[Slots]) -> pd.DataFrame:
    """Precision, recall and F1 of the words of each slot, over all steps given.

    A word counts as found where the slot has the same sign in both; a wrong sign is both a false word and a missed one.
    """
    got, true = np.concatenate(labels), np.concatenate(truth)
    hits = ((got == true) & (true != 0)).sum(axis=0)
    precision = hits / np.maximum((got != 0).sum(axis=0), 1)
    recall = hits / np.maximum((true != 0).sum(axis=0), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return pd.DataFrame({"slot": SLOTS, "precision": precision, "recall": recall, "f1": f1})


def difference_interval(
    one: Sequence[float], other: Sequence[float], rng: np.random.Generator, draws: int = 10_000
) -> tuple[float, float, float]:
    """Mean difference of two labellers over embodiments, with a 95 % bootstrap interval over embodiments."""
    differences = np.subtract(one, other)
    means = rng.choice(differences, size=(draws, len(differences))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(differences.mean()), float(low), float(high)


def _changes(slots: Slots) -> NDArray[np.intp]:
    return np.flatnonzero((np.diff(slots, axis=0) != 0).any(axis=1))

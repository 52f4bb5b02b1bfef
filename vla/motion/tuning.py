"""How far motion labels agree with known ones, and the raw labeller's threshold that agrees best; NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla.motion.labellers import Floats, Labeller, RawLabeller, Slots
from vla.statistics import ActionStatistics

RAW_THRESHOLDS: tuple[float, ...] = tuple(np.geomspace(1e-5, 3.0, 56).tolist())
"""Thresholds that are tried, in a data set's own units: from far below every robot's jitter to above every motion."""


class LabelledEpisode(NamedTuple):
    """Actions of an episode and what is known of its motion.

    Attributes:
        actions: `[T, 7]`.
        slots: `[T, 6]` known motion.
        counted: `[T]` bool, the steps that count.
    """

    actions: NDArray[np.float32] | Floats
    slots: Slots
    counted: NDArray[np.bool_]


def agreement(labeller: Labeller, episodes: Sequence[LabelledEpisode], statistics: ActionStatistics) -> float:
    """Return the share of the steps whose whole sentence is the known one.

    Args:
        labeller: whose labels are compared.
        episodes: with known motion, at least one counted step among them.
        statistics: of their data set.
    """
    named: Mapping[str, NDArray[np.float32] | Floats] = {str(n): one.actions for n, one in enumerate(episodes)}
    labels = labeller.slots_of_episodes(named, statistics)
    pairs = zip(labels, episodes, strict=True)
    hits = [(got == known.slots).all(axis=1)[known.counted] for got, known in pairs]
    return float(np.concatenate(hits).mean())


def tuned_raw(episodes: Sequence[LabelledEpisode], statistics: ActionStatistics) -> RawLabeller:
    """Return the raw labeller with the threshold that agrees best with what is known of a data set.

    The paper tunes the baseline's threshold for each data set, on annotations of a few percent of it.
    """
    candidates = [RawLabeller(threshold) for threshold in RAW_THRESHOLDS]
    return max(candidates, key=lambda labeller: agreement(labeller, episodes, statistics))

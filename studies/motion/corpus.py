"""Episodes whose motion is known at every step, and the statistics that a labeller may see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vla.statistics import ActionStatistics, statistics_of


@dataclass(frozen=True, eq=False)
class LabelledEpisode:
    """Actions with the intent behind each of them.

    Attributes:
        actions: `[T, 7]` in the embodiment's own units; gripper 1 = open.
        slots: `[T, 6]` intended motion in the order of `vla.motion.language.SLOTS`.
    """

    actions: NDArray[np.float64]
    slots: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Corpus:
    """One split of one embodiment.

    Attributes:
        name: the embodiment.
        rate_hz: control rate.
        episodes: at least one.
    """

    name: str
    rate_hz: float
    episodes: tuple[LabelledEpisode, ...]

    @cached_property
    def statistics(self) -> ActionStatistics:
        """Statistics of the split's actions: what is known about a data set without labels."""
        return statistics_of(self.name, [episode.actions for episode in self.episodes])

"""The motion labels of a training run: a labeller's, or the recorded intents of the experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from vla.data.intents import intents_of, known_motion
from vla.data.mixture import Source
from vla.motion.labellers import Labeller, RawLabeller, Slots
from vla.motion.registry import INTENT, NO_MOTION, RAW, labeller
from vla.motion.tuning import agreement, tuned_raw
from vla.statistics import ActionStatistics


class Labels(NamedTuple):
    """Who labels, and what was searched for it.

    Attributes:
        labeller: None where no motion is said.
        told: threshold of the raw labeller by data set, as plain JSON data: for the checkpoint.
    """

    labeller: Labeller | None
    told: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ByDataset(Labeller):
    """A labeller of its own for each data set.

    Attributes:
        labellers: by the data set's name.
    """

    labellers: Mapping[str, Labeller]

    def slots(self, actions: ArrayLike, statistics: ActionStatistics, episode: str = "") -> Slots:
        """See `Labeller.slots`."""
        return self.labellers[statistics.dataset].slots(actions, statistics, episode)


def labels_of(motion: str, sources: Sequence[Source], raw_threshold: float | None = None) -> Labels:
    """Return who labels the sources.

    Args:
        motion: name of a labeller, "intent" or "none".
        sources: what is labelled.
        raw_threshold: of the raw labeller; None searches one for each data set.

    Raises:
        LabellerError: there is no such labeller, an episode has no intents, or one that is no motion sentence.
    """
    if motion == NO_MOTION:
        return Labels(None, {})
    if motion == INTENT:
        return Labels(intents_of([episode for source in sources for episode in source.episodes]), {})
    if motion != RAW:
        return Labels(labeller(motion), {})
    if raw_threshold is not None:
        return Labels(RawLabeller(raw_threshold), {one.name: {"threshold": raw_threshold} for one in sources})
    tuned, told = {}, {}
    for source in sources:
        known, judge = known_motion(source.episodes, source.statistics)
        tuned[source.name] = found = tuned_raw(known, source.statistics)
        share = agreement(found, known, source.statistics)
        told[source.name] = {"threshold": found.threshold, "agreement": share, "with": judge}
    return Labels(ByDataset(tuned), told)


def labels_as_trained(training: Mapping[str, Any], source: Source) -> Labeller | None:
    """Return who labels a source as a checkpoint's training labelled its own, by what the checkpoint says.

    Raises:
        LabellerError: it learnt from intents, and an episode has none.
    """
    motion = training.get("motion", "adaptive")
    told = training.get("raw_thresholds", {}).get(source.name, {})
    # Before thresholds were searched, the raw labeller had its own.
    threshold = told.get("threshold", RawLabeller.threshold)
    return labels_of(motion, [source], threshold).labeller

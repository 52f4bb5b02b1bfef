"""What each input of a model is worth: held-out scores with one input taken from elsewhere, or taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla.data.frames import Image
from vla.data.mixture import Sample
from vla.model.network import MotionVLA
from vla.statistics import ActionStatistics
from vla.train.collate import Collate
from vla.train.scoring import Scores, features_of, score

AS_IT_IS = "as it is"


def probed(model: MotionVLA, collate: Collate, samples: Sequence[Sample]) -> dict[str, Scores]:
    """Score samples of one data set as they are, and with each input broken in turn.

    The other image, state or motion is that of another sample of the same instruction, drawn at random but the same one
    each time. Where an instruction has one sample only, or there is one instruction only, that input is left as it is.

    Args:
        model: in eval mode.
        collate: as in training, without what changes at random.
        samples: with images.
    """
    rows = features_of(model, samples)
    found = {AS_IT_IS: score(model, collate, rows)}
    for name, changed in _variants(model, collate, samples, rows).items():
        if changed:
            found[name] = score(model, collate, changed)
    return found


def _variants(
    model: MotionVLA, collate: Collate, samples: Sequence[Sample], rows: Sequence[Sample]
) -> dict[str, list[Sample]]:
    statistics = collate.statistics[samples[0].dataset]
    moment, task = _other_moments(rows), _other_instructions(rows)
    variants: dict[str, list[Sample]] = {}
    if moment:
        variants["other image"] = [replace(row, seen=moment[at].seen) for at, row in enumerate(rows)]
    blank = features_of(model, [replace(samples[0], seen=_mean_image(samples))])[0].seen
    variants["mean image"] = [replace(row, seen=blank) for row in rows]
    if collate.prompts.config.proprio_dim:
        if moment:
            variants["other state"] = [replace(row, state=moment[at].state) for at, row in enumerate(rows)]
        variants["zero state"] = [replace(row, state=_middle(statistics)) for row in rows]
    if collate.target == "motion_action" and moment:
        variants["other motion"] = [replace(row, motion=moment[at].motion) for at, row in enumerate(rows)]
    if task:
        variants["other instruction"] = [replace(row, instruction=task[at].instruction) for at, row in enumerate(rows)]
    return variants


def _other_moments(rows: Sequence[Sample]) -> list[Sample]:
    """Return for each sample another one of its instruction; none at all where one has no other."""
    rng = np.random.default_rng(0)
    by_instruction: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        by_instruction.setdefault(row.instruction, []).append(at)
    if min(map(len, by_instruction.values())) < 2:
        return []
    other: dict[int, int] = {}
    for places in by_instruction.values():
        order = rng.permutation(places).tolist()
        # Each takes the place of the next one in a ring, so none keeps its own.
        other |= dict(zip(order, [*order[1:], order[0]], strict=True))
    return [rows[other[at]] for at in range(len(rows))]


def _other_instructions(rows: Sequence[Sample]) -> list[Sample]:
    """Return for each sample one of another instruction; none at all where there is one instruction."""
    rng = np.random.default_rng(1)
    names = sorted({row.instruction for row in rows})
    if len(names) < 2:
        return []
    first = {name: next(row for row in rows if row.instruction == name) for name in names}
    return [first[str(rng.choice([name for name in names if name != row.instruction]))] for row in rows]


def _mean_image(samples: Sequence[Sample]) -> tuple[Image, ...]:
    cameras = zip(*(sample.seen for sample in samples), strict=True)
    return tuple(np.mean(np.stack(images), axis=0).round().astype(np.uint8) for images in cameras)


def _middle(statistics: ActionStatistics) -> NDArray[np.float32]:
    """Return the state whose normalised numbers are all 0."""
    middle: NDArray[np.float64] = (np.array(statistics.state_q01) + np.array(statistics.state_q99)) / 2
    return middle.astype(np.float32)

"""Scores of a model on held-out steps, where the words and tokens before each prediction are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla.actions import unnormalize_affine
from vla.data.mixture import Mixture, MixtureConfig, Sample, Source, View
from vla.model.network import Batch, MotionVLA
from vla.model.predictions import ActionPredictions, predict_actions, predict_motion
from vla.model.prompt import PromptBuilder
from vla.motion.labellers import Labeller
from vla.statistics import DIMENSIONS, ActionStatistics
from vla.train.collate import Collate

AT_ONCE = 32
"""Samples that run through the model together."""


@dataclass(frozen=True)
class Scores:
    """Of a model on samples of one data set. What the model does not predict is None.

    Attributes:
        dataset: name of the data set.
        samples: number of samples.
        motion_nll: cost of the motion sentences, nats a token.
        motion_exact: share of the samples whose whole sentence is ranked first.
        action_nll: cost of the action tokens, nats a token, with hard targets whatever was minimised.
        action_nll_by_dimension: the same for x, y, z, roll, pitch, yaw and gripper.
        tokens_right: share of the action tokens that are ranked first.
        action_l1: mean absolute error of all actions of the horizon, normalised: of a range of 2.
        first_action_l1: mean absolute error of the first action by dimension, in the robot's own units.
    """

    dataset: str
    samples: int
    motion_nll: float | None = None
    motion_exact: float | None = None
    action_nll: float | None = None
    action_nll_by_dimension: tuple[float, ...] | None = None
    tokens_right: float | None = None
    action_l1: float | None = None
    first_action_l1: tuple[float, ...] | None = None

    @property
    def judged(self) -> tuple[str, float]:
        """What models are compared by, and its value: the smaller, the better."""
        for name in ("action_nll", "action_l1", "motion_nll"):
            value = getattr(self, name)
            if value is not None:
                return name, value
        raise ValueError(f"Nothing was scored on data set {self.dataset!r}.")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)


def held_samples(
    source: Source, labeller: Labeller | None, config: MixtureConfig, view: View | None, count: int
) -> list[Sample]:
    """Read at most `count` samples of a source, spread over it at random, the same ones each time."""
    mixture = Mixture([source], labeller, config, view)
    return [mixture[position] for position in range(min(count, len(mixture)))]


def score(model: MotionVLA, collate: Collate, samples: Sequence[Sample]) -> Scores:
    """Score samples of one data set; the model is in eval mode and stays on its device.

    Args:
        model: to be scored.
        collate: as in training, without what changes at random.
        samples: at least one, all of one data set.
    """
    sums = _Sums(collate.prompts, collate.statistics[samples[0].dataset])
    device = model.projector[0].weight.device
    for batch, rows in _batches(collate, samples):
        moved = batch.to(device)
        if collate.target == "motion":
            sums.add_motion(predict_motion(model, moved))
        else:
            sums.add(predict_actions(model, collate.prompts, moved), moved, rows)
    return sums.scores(samples[0].dataset, collate.target)


def overall(scores: Sequence[Scores]) -> tuple[str, float]:
    """Return what a model is judged by over all data sets, and the mean of its values."""
    names = {one.judged[0] for one in scores}
    return names.pop(), float(np.mean([one.judged[1] for one in scores]))


class _Sums:
    """Sums over samples, from which scores are means."""

    def __init__(self, prompts: PromptBuilder, statistics: ActionStatistics) -> None:
        self._prompts, self._statistics = prompts, statistics
        self._count, self._motion_nll, self._motion_tokens, self._exact = 0, 0.0, 0, 0
        self._nll: NDArray[np.float64] | None = None
        self._right, self._l1 = 0.0, 0.0
        self._first = np.zeros(len(DIMENSIONS))

    def add_motion(self, motion: Any) -> None:  # noqa: ANN401 - a named tuple of tensors
        self._count += len(motion.exact)
        self._motion_nll += float(motion.nll.sum())
        self._motion_tokens += int(motion.tokens.sum())
        self._exact += int(motion.exact.sum())

    def add(self, predicted: ActionPredictions, batch: Batch, samples: Sequence[Sample]) -> None:
        self.add_motion(predicted.motion)
        assert batch.actions is not None
        self._l1 += float((predicted.actions - batch.actions).abs().mean(dim=(1, 2)).sum())
        guessed, wanted = predicted.actions.cpu().numpy(), batch.actions.cpu().numpy()
        if predicted.nll is not None:
            nll = predicted.nll.double().mean(dim=1).sum(dim=0).cpu().numpy()
            self._nll = nll if self._nll is None else self._nll + nll
            encode = self._prompts.actions.encode
            self._right += float((encode(guessed) == encode(wanted)).mean(axis=(1, 2)).sum())
        meant = np.stack([sample.actions[0] for sample in samples])
        self._first += np.abs(unnormalize_affine(guessed[:, 0], self._statistics) - meant).sum(axis=0)

    def scores(self, dataset: str, target: str) -> Scores:
        says, acts = target != "action", target != "motion"
        nll = None if self._nll is None else self._nll / self._count
        return Scores(
            dataset,
            self._count,
            motion_nll=self._motion_nll / self._motion_tokens if says else None,
            motion_exact=self._exact / self._count if says else None,
            action_nll=None if nll is None else float(nll.mean()),
            action_nll_by_dimension=None if nll is None else tuple(nll.tolist()),
            tokens_right=None if nll is None else self._right / self._count,
            action_l1=self._l1 / self._count if acts else None,
            first_action_l1=tuple((self._first / self._count).tolist()) if acts else None,
        )


def _batches(collate: Collate, samples: Sequence[Sample]) -> Iterator[tuple[Batch, Sequence[Sample]]]:
    for first in range(0, len(samples), AT_ONCE):
        rows = samples[first : first + AT_ONCE]
        yield collate(rows).batch, rows


@torch.no_grad()  # type: ignore[untyped-decorator]
def features_of(model: MotionVLA, samples: Sequence[Sample]) -> list[Sample]:
    """Return samples that carry features in place of their images, so that encoders run once for many scorings."""
    device = model.projector[0].weight.device
    found: list[Sample] = []
    for first in range(0, len(samples), AT_ONCE):
        rows = samples[first : first + AT_ONCE]
        images = torch.from_numpy(np.stack([np.stack(list(row.seen)) for row in rows])).to(device)
        computed = model.features(images).float().cpu().numpy()
        found += [replace(row, seen=one) for row, one in zip(rows, computed, strict=True)]
    return found

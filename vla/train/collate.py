"""Samples of a mixture to training batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vla.actions import normalize_affine, normalize_state
from vla.data.mixture import Sample
from vla.model.network import Batch
from vla.model.prompt import PromptBuilder, TokenSequence
from vla.statistics import ActionStatistics
from vla.train.augment import embedding_dropout, perturbed_state
from vla.train.features import stacked_features
from vla.train.recipe import RecipeConfig


class Placed(NamedTuple):
    """A batch and, for error messages, the place of each row."""

    batch: Batch
    places: list[str]


Target = Literal["motion", "action", "motion_action"]


@dataclass(frozen=True)
class Collate:
    """Writes the sequences of samples and pads them; picklable, for loader workers.

    Attributes:
        prompts: of the model.
        statistics: by dataset, to normalise actions and states.
        target: what the model learns to say.
        recipe: how states and embeddings change at random; by default they do not.
        seed: of these changes.
        cropped: whether the samples' images are crops already.
    """

    prompts: PromptBuilder
    statistics: Mapping[str, ActionStatistics]
    target: Target
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    seed: int = 0
    cropped: bool = False

    def __call__(self, samples: Sequence[Sample]) -> Placed:
        """Return the batch on the CPU with the place of each row."""
        sequences = [self._sequence(sample) for sample in samples]
        features = stacked_features(samples)
        images = None
        if features is None:
            images = torch.from_numpy(np.stack([np.stack(list(sample.seen)) for sample in samples]))
        state = None
        if self.prompts.config.proprio_dim:
            state = torch.from_numpy(np.stack([self._state(sample) for sample in samples]))
        places = [f"{sample.dataset}, {sample.episode}, step {sample.step}" for sample in samples]
        batch = replace(padded(sequences, images, features, state), cropped=self.cropped)
        if self.recipe.dropout:
            width = int(self.prompts.config.language.model["hidden_size"])
            positions = [sample.position for sample in samples]
            factors = embedding_dropout(batch.lengths.tolist(), width, self.recipe.dropout, self.seed, positions)
            batch = replace(batch, dropout=factors)
        return Placed(batch, places)

    def _state(self, sample: Sample) -> NDArray[np.float32]:
        normalized = normalize_state(sample.state, self.statistics[sample.dataset])
        return perturbed_state(normalized, self.recipe, self.seed, sample.position)

    def _sequence(self, sample: Sample) -> TokenSequence:
        actions = None
        if self.target != "motion":
            normalized = normalize_affine(sample.actions, self.statistics[sample.dataset])
            actions = self.prompts.actions.encode(normalized).ravel().tolist()
        return self.prompts.sequence(sample.instruction, sample.motion if self.target != "action" else None, actions)


def padded(
    sequences: Sequence[TokenSequence],
    images: torch.Tensor | None = None,
    features: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
) -> Batch:
    """Pad sequences on the right to the longest."""
    width = max(len(sequence.token_ids) for sequence in sequences)
    return Batch(
        token_ids=torch.from_numpy(_stacked([sequence.token_ids for sequence in sequences], width)),
        kinds=torch.from_numpy(_stacked([sequence.kinds for sequence in sequences], width)),
        observation=torch.from_numpy(_stacked([sequence.observation for sequence in sequences], width)),
        lengths=torch.tensor([len(sequence.token_ids) for sequence in sequences]),
        images=images,
        features=features,
        state=state,
    )


def _stacked(rows: Sequence[NDArray[np.generic]], width: int) -> NDArray[np.generic]:
    stacked = np.zeros((len(rows), width), dtype=rows[0].dtype)
    for filled, row in zip(stacked, rows, strict=True):
        filled[: len(row)] = row
    return stacked

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
from vla.motion.language import all_motions, describe
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
        width: tokens to which sequences are padded at least (`widest`); 0 pads to the longest of a batch.
        recipe: how states and embeddings change at random; by default they do not.
        seed: of these changes.
        cropped: whether the samples' images are crops already.
    """

    prompts: PromptBuilder
    statistics: Mapping[str, ActionStatistics]
    target: Target
    width: int = 0
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
        actions = None
        if self.target != "motion":
            actions = torch.from_numpy(np.stack([self._normalized(sample) for sample in samples]).astype(np.float32))
        places = [f"{sample.dataset}, {sample.episode}, step {sample.step}" for sample in samples]
        batch = padded(sequences, images, features, state, actions, self.width)
        batch = replace(batch, cropped=self.cropped)
        if self.recipe.dropout:
            width = int(self.prompts.config.language.model["hidden_size"])
            positions = [sample.position for sample in samples]
            factors = embedding_dropout(batch.lengths.tolist(), width, self.recipe.dropout, self.seed, positions)
            rest = batch.token_ids.shape[1] - factors.shape[1]
            batch = replace(batch, dropout=torch.nn.functional.pad(factors, (0, 0, 0, rest), value=1))
        return Placed(batch, places)

    def _state(self, sample: Sample) -> NDArray[np.float32]:
        normalized = normalize_state(sample.state, self.statistics[sample.dataset])
        return perturbed_state(normalized, self.recipe, self.seed, sample.position)

    def _sequence(self, sample: Sample) -> TokenSequence:
        actions = None
        if self.target != "motion":
            actions = self.prompts.action_ids(self._normalized(sample))
        return self.prompts.sequence(sample.instruction, sample.motion if self.target != "action" else None, actions)

    def _normalized(self, sample: Sample) -> NDArray[np.float64]:
        return normalize_affine(sample.actions, self.statistics[sample.dataset])


def widest(prompts: PromptBuilder, instructions: Sequence[str], target: Target) -> int:
    """Return the tokens of the longest sequence that instructions can make, whatever the motion is.

    Args:
        prompts: of the model.
        instructions: of all data.
        target: what the model learns to say.
    """
    motion = None
    if target != "action":
        motion = max(map(describe, all_motions()), key=lambda sentence: len(prompts.motion_ids(sentence)))
    actions = [0] * prompts.action_tokens if target != "motion" else None
    return max(len(prompts.sequence(text, motion, actions).token_ids) for text in instructions)


def padded(
    sequences: Sequence[TokenSequence],
    images: torch.Tensor | None = None,
    features: torch.Tensor | None = None,
    state: torch.Tensor | None = None,
    actions: torch.Tensor | None = None,
    width: int = 0,
) -> Batch:
    """Pad sequences on the right to the longest, or to `width` tokens if that is more."""
    width = max(width, *(len(sequence.token_ids) for sequence in sequences))
    return Batch(
        token_ids=torch.from_numpy(_stacked([sequence.token_ids for sequence in sequences], width)),
        kinds=torch.from_numpy(_stacked([sequence.kinds for sequence in sequences], width)),
        observation=torch.from_numpy(_stacked([sequence.observation for sequence in sequences], width)),
        lengths=torch.tensor([len(sequence.token_ids) for sequence in sequences]),
        images=images,
        features=features,
        state=state,
        actions=actions,
    )


def _stacked(rows: Sequence[NDArray[np.generic]], width: int) -> NDArray[np.generic]:
    stacked = np.zeros((len(rows), width), dtype=rows[0].dtype)
    for filled, row in zip(stacked, rows, strict=True):
        filled[: len(row)] = row
    return stacked

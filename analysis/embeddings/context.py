"""Contextual features: last hidden states on held-out demonstrations, which the paper does not look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from analysis.embeddings.vectors import GROUPS, LabelledVectors, is_word, labelled, motion_token_ids, token_text
from evals.errors import UsageError
from vla.data.mixture import Mixture, MixtureConfig, Sample, Source
from vla.data.read import ReadOptions
from vla.model.checkpoint import Checkpoint
from vla.model.network import Batch
from vla.model.prompt import ACTION, MOTION, PromptBuilder, canonical_instruction
from vla.model.tokenizer import encode
from vla.statistics import DIMENSIONS
from vla.train.collate import Collate, Target
from vla.train.config import LoopConfig, TrainConfig
from vla.train.labels import labels_as_trained
from vla.train.sources import cameras_of, read_data, statistics_to_learn

_BATCH = 8


class HeldOut(NamedTuple):
    """Observations that no checkpoint was trained on.

    Attributes:
        data: dataset folder.
        view: drawn images of it to use, where there are several.
        observations: how many.
        per_group: positions of each group that are kept.
        seed: of the choice of both.
    """

    data: Path
    view: str | None = None
    observations: int = 64
    per_group: int = 128
    seed: int = 0


def context_vectors(checkpoint: Checkpoint, condition: str, held_out: HeldOut) -> LabelledVectors:
    """Return last hidden states (after the final norm) where tokens stand, the true answers being read.

    Action tokens and the words of motion sentences are read at the answer's positions, ordinary words in the
    instruction. A model without a motion turn has no motion group.

    Raises:
        UsageError: a checkpoint that never learnt to act, or no statistics for the data set.
        DataError: the data cannot be read.
    """
    if checkpoint.stage not in ("finetune", "action"):
        raise UsageError(f"{condition} ended in stage {checkpoint.stage!r}: it has no action tokens in context.")
    samples = held_out_samples(checkpoint, held_out)
    target: Target = "motion_action" if checkpoint.config.motion else "action"
    statistics = {sample.dataset: checkpoint.action_statistics(sample.dataset) for sample in samples}
    collate = Collate(checkpoint.prompts, statistics, target)
    states: list[torch.Tensor] = []
    labels: list[tuple[str, str, int]] = []
    for first in range(0, len(samples), _BATCH):
        some = samples[first : first + _BATCH]
        batch = collate(some).batch
        with torch.inference_mode():
            hidden = checkpoint.model.hidden(batch)
        for row, sample in enumerate(some):
            for position, group, text in _places(checkpoint.prompts, batch, row, sample.instruction):
                states.append(hidden[row, position])
                labels.append((group, text, first + row))
    kept = _sampled([group for group, _, _ in labels], held_out)
    return labelled(condition, "context", torch.stack([states[i] for i in kept]), [labels[i] for i in kept])


def held_out_samples(checkpoint: Checkpoint, held_out: HeldOut) -> list[Sample]:
    """Return the first observations of a shuffled mixture, labelled as the checkpoint's training labelled them."""
    config = TrainConfig(
        data=(held_out.data,),
        loop=LoopConfig(out=held_out.data),
        read=ReadOptions(view=held_out.view),
        check_images=False,
    )
    episodes = read_data(config)[0].episodes
    statistics = statistics_to_learn(episodes)
    seen = tuple(checkpoint.training.get("sources", {}).get(statistics.dataset, ()))
    source = Source(episodes, statistics, cameras_of(episodes, len(checkpoint.config.cameras), seen))
    options = MixtureConfig(held_out.seed, checkpoint.config.image_size, checkpoint.config.action_horizon)
    mixture = Mixture([source], labels_as_trained(checkpoint.training, source), options)
    return [mixture[position] for position in range(min(held_out.observations, len(mixture)))]


def _places(prompts: PromptBuilder, batch: Batch, row: int, instruction: str) -> Iterator[tuple[int, str, str]]:
    """Yield (position, group, text) of the tokens of one sequence that are looked at."""
    spoken = set(motion_token_ids(prompts))
    ids, kinds = batch.token_ids[row].tolist(), batch.kinds[row].tolist()
    answered = 0
    for position, (token, kind) in enumerate(zip(ids, kinds, strict=True)):
        if kind == ACTION and token != prompts.stop_id:
            yield position, "action", DIMENSIONS[answered % len(DIMENSIONS)]
            answered += 1
        elif kind == MOTION and token in spoken:
            yield position, "motion", token_text(prompts, token)
    words = encode(prompts.tokenizer, " " + canonical_instruction(instruction))
    first = next(i for i in range(len(ids)) if ids[i : i + len(words)] == words)
    for position, token in enumerate(words, start=first):
        if token not in spoken and is_word(prompts, token):
            yield position, "word", token_text(prompts, token)


def _sampled(groups: Sequence[str], held_out: HeldOut) -> list[int]:
    rng = np.random.default_rng(held_out.seed)
    kept: list[int] = []
    for group in GROUPS:
        members = [i for i, other in enumerate(groups) if other == group]
        kept += sorted(rng.choice(members, min(held_out.per_group, len(members)), replace=False).tolist())
    return kept

"""What a training run works on: data, model and loader, put together from the options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from vla.data.loader import MixtureLoader, usual_workers
from vla.data.mixture import Mixture, MixtureConfig, Sample, Source, View
from vla.data.whole import Whole
from vla.errors import TrainingError
from vla.model.checkpoint import Checkpoint
from vla.model.losses import Objective
from vla.model.prompt import PromptBuilder
from vla.motion.registry import INTENT, NO_MOTION
from vla.train.augment import training_view
from vla.train.collate import Collate, Placed, Target, widest
from vla.train.compact import Basis
from vla.train.config import TrainConfig, recorded
from vla.train.features import StoredFeatures, basis_for, feature_files
from vla.train.harness import HarnessEvaluations, eval_spec, statistics_key
from vla.train.holdout import joined, scene_of, split
from vla.train.initialize import initial_checkpoint
from vla.train.labels import Labels, labels_of
from vla.train.lora import add_lora, merged
from vla.train.recipe import RecipeConfig, check_state
from vla.train.scoring import held_samples
from vla.train.selection import HeldOut
from vla.train.sources import (
    conventions_by_name,
    held_sources,
    instructions_of,
    left_out_of,
    make_sources,
    read_data,
    say_left_out,
    statistics_by_name,
)


@dataclass(frozen=True)
class TrainingRun:
    """Everything that a training loop needs.

    Attributes:
        checkpoint: the model to train, with what is saved beside it.
        loader: micro batches of this process, endless and resumable.
        heldout: what scores the model on data that are held out, or None.
        harness: what runs the harness on saved checkpoints, or None.
        merge: makes a checkpoint's weights of those that are trained.
        basis: in which the features that it learns from are stored compactly, or None.
    """

    checkpoint: Checkpoint
    loader: MixtureLoader[Placed]
    heldout: HeldOut | None = None
    harness: HarnessEvaluations | None = None
    merge: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict
    basis: Basis | None = None


def prepare(config: TrainConfig, accelerator: Accelerator) -> TrainingRun:
    """Read the data, build the model and put both together."""
    with accelerator.main_process_first():
        data = read_data(config)
        data, held = hold_out(config, data)
    texts = instructions_of((*data, *held))
    checkpoint = initial_checkpoint(
        config.init, config.model, texts, config.stage, config.says_motion, config.loop.seed
    )
    check_state(config.recipe, checkpoint.config.proprio_dim)
    sources = make_sources(config, data, checkpoint.prompts)
    labels = labels_of(config.motion if config.says_motion else NO_MOTION, sources, config.raw_threshold)
    model = checkpoint.config
    view, basis = _view(config, checkpoint, sources, accelerator)
    drawn = MixtureConfig(config.loop.seed, model.image_size, model.action_horizon)
    if accelerator.is_main_process:
        say_left_out(sources, data)
    seen = {source.name: list(source.cameras) for source in sources}
    meant = {name: convention.to_json() for name, convention in conventions_by_name(sources).items()}
    told = {**recorded(config), **checkpoint.training, "processes": accelerator.num_processes, "sources": seen}
    told |= {"conventions": meant, "left_out": left_out_of(data)}
    told |= {"raw_thresholds": labels.told} if labels.told else {}
    told |= {"held_out": {one.episodes[0].dataset: sorted(map(scene_of, one.episodes)) for one in held}} if held else {}
    checkpoint = replace(checkpoint, statistics=statistics_by_name(sources, config.recipe.axis_floor), training=told)
    target: Target = "motion" if config.stage == "motion" else "motion_action" if config.says_motion else "action"
    width = widest(checkpoint.prompts, texts, target) if config.loop.compile else 0
    checkpoint.model.objective = objective_of(config.recipe, checkpoint.prompts)
    collate = Collate(
        checkpoint.prompts,
        checkpoint.statistics,
        target,
        width,
        config.recipe,
        seed=config.loop.seed,
        cropped=model.image_crop < 1,
    )
    loader = MixtureLoader(
        Mixture(sources, labels.labeller, drawn, view),
        collate,
        config.loop.optim.micro_batch,
        shard=(accelerator.process_index, accelerator.num_processes),
        workers=workers_of(config.loop.workers, accelerator),
        pin=accelerator.device.type == "cuda",
    )
    heldout = None
    if held:
        apart = held_sources(held, sources, checkpoint.prompts)
        scored = Collate(checkpoint.prompts, checkpoint.statistics, target, width)
        samples = _held_samples(config, apart, checkpoint, labels, accelerator, basis)
        every = config.held.eval_every or config.loop.save_every
        heldout = HeldOut(config.loop.out, config.held, scored, samples, every)
    harness = None
    if config.held.eval and accelerator.is_main_process:
        spec = eval_spec(config.held.eval)
        harness = HarnessEvaluations(config.loop.out, spec, statistics_key(spec, checkpoint.statistics))
    if config.lora.rank:
        add_lora(checkpoint.model, config.lora, config.loop.seed)
        return TrainingRun(checkpoint, loader, heldout, harness, partial(merged, scale=config.lora.scale), basis)
    return TrainingRun(checkpoint, loader, heldout, harness, basis=basis)


def workers_of(asked: int | None, accelerator: Accelerator) -> int:
    """Return how many processes load data ahead for each training process."""
    here = min(accelerator.num_processes, max(1, torch.cuda.device_count()))  # one for each GPU of this machine
    return usual_workers(accelerator.device.type == "cuda", here) if asked is None else asked


def _view(
    config: TrainConfig, checkpoint: Checkpoint, sources: Sequence[Source], accelerator: Accelerator
) -> tuple[View | None, Basis | None]:
    """Return what training sees of the sources, and in which basis; None for their images as they are."""
    area = checkpoint.config.image_crop
    if not config.cache:
        return training_view(config.shift, area, config.recipe), None
    if area < 1:
        raise TrainingError(
            f"--cache keeps features of whole images, and the model learns from crops of {area:g} of their area. Leave "
            "--cache out, or give --model.image-crop 1."
        )
    with accelerator.main_process_first(), accelerator.autocast():
        network = checkpoint.model.to(accelerator.device)
        basis = basis_for(network, sources, config.cache) if config.compact_cache else None
        return StoredFeatures(feature_files(network, sources, config.cache, basis), basis), basis


def objective_of(recipe: RecipeConfig, prompts: PromptBuilder) -> Objective | None:
    """Return what a recipe minimises; None for the mean cross-entropy of all tokens."""
    if not recipe.weighs:
        return None
    ends = prompts.actions.encode([-1.0, 1.0])
    weights = recipe.motion_weight, recipe.action_weight, recipe.dimension_weights
    return Objective(int(ends.min()), recipe.soft_bins, *weights)


def hold_out(config: TrainConfig, data: Sequence[Whole]) -> tuple[tuple[Whole, ...], tuple[Whole, ...]]:
    """Divide the data into what is trained on and what is held out.

    Raises:
        TrainingError: nothing would be left or held out, or a further folder does not fit the data.
    """
    trained, held = split(data, config.held.holdout) if config.held.holdout else (tuple(data), ())
    if config.held.holdout_data:
        held = joined(held, read_data(config, config.held.holdout_data), trained)
    return trained, held


def _held_samples(
    config: TrainConfig,
    apart: Sequence[Source],
    checkpoint: Checkpoint,
    labels: Labels,
    accelerator: Accelerator,
    basis: Basis | None,
) -> Mapping[str, Sequence[Sample]]:
    """Read the samples that a model is scored on, seen and labelled as training sees and labels its own."""
    model = checkpoint.config
    views: list[View | None] = [None] * len(apart)
    if config.cache:
        with accelerator.main_process_first(), accelerator.autocast():
            files = feature_files(checkpoint.model, apart, config.cache, basis)
        views = [StoredFeatures([file], basis) for file in files]
    labeller = labels.labeller
    if labeller is not None and config.motion == INTENT:
        labeller = labels_of(INTENT, apart).labeller
    drawn = MixtureConfig(0, model.image_size, model.action_horizon)
    found = {}
    for source, view in zip(apart, views, strict=True):
        found[source.name] = held_samples(source, labeller, drawn, view, config.held.eval_samples)
        if accelerator.is_main_process:
            count = len(source.episodes)
            sys.stderr.write(f"{source.name}: {count} episodes held out, {len(found[source.name])} samples of them\n")
    return found

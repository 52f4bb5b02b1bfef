"""The training loop, top to bottom.

    accelerate launch --config_file vla/configs/fsdp_8gpu.yaml -m vla.cli train --data DIR --out DIR ...   (8 GPUs)
    vla-train train --data DIR --out DIR ...                                                              (one device)

The batch of step `i` is a function of the seed and `i`, and losses are means over all tokens of a step, so the number
of processes and the size of a micro batch change rounding, nothing else; and a killed run goes on with the losses it
would have had.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from vla.data.loader import MixtureLoader
from vla.data.mixture import Mixture, MixtureConfig, Source, View
from vla.errors import DivergedError, StoppedError, TrainingError, listed
from vla.model.checkpoint import Checkpoint, save_checkpoint
from vla.model.losses import Objective
from vla.model.network import LossSums
from vla.model.prompt import PromptBuilder
from vla.motion.registry import NO_MOTION
from vla.train.augment import training_view
from vla.train.collate import Collate, Placed, Target
from vla.train.config import LoopConfig, OptimConfig, TrainConfig, recorded
from vla.train.features import StoredFeatures, feature_files
from vla.train.initialize import initial_checkpoint
from vla.train.labels import labels_of
from vla.train.lora import add_lora, merged
from vla.train.optim import learning_rate, make_optimizer, set_learning_rate
from vla.train.progress import Metrics, Progress
from vla.train.recipe import RecipeConfig, check_state
from vla.train.sources import (
    conventions_by_name,
    instructions_of,
    left_out_of,
    make_sources,
    read_data,
    say_left_out,
    statistics_by_name,
)
from vla.train.state import RunState
from vla.train.stopping import sigterm_noted


@dataclass(frozen=True)
class TrainingRun:
    """Everything that a training loop needs.

    Attributes:
        checkpoint: the model to train, with what is saved beside it.
        loader: micro batches of this process, endless and resumable.
        merge: makes a checkpoint's weights of those that are trained.
    """

    checkpoint: Checkpoint
    loader: MixtureLoader[Placed]
    merge: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict


def train(config: TrainConfig) -> None:
    """Train until the last step, from where the run in its folder stands.

    Raises:
        TrainingError: the folder holds another run, or another process trains in it.
        DivergedError: a loss or a gradient is not finite.
        StoppedError: SIGTERM came; everything is saved.
    """
    accelerator = make_accelerator(config.loop)
    accumulation(config.loop.optim, accelerator)
    state = RunState(config.loop.out, recorded(config))
    with state.claimed(accelerator):
        optimize(_prepare(config, accelerator), config.loop, accelerator, state)


def make_accelerator(config: LoopConfig) -> Accelerator:
    """Make the device handling: by default bfloat16 on a GPU, float32 on a CPU."""
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    rounds = on_gpu if config.precision == "auto" else config.precision == "bfloat16"
    return Accelerator(mixed_precision="bf16" if rounds else "no", cpu=not on_gpu)


def optimize(run: TrainingRun, config: LoopConfig, accelerator: Accelerator, state: RunState) -> None:
    """Run the optimizer steps that are left; parameters that ask for no gradient stay as they are."""
    model, optimizer = run.checkpoint.model, make_optimizer(run.checkpoint.model, config.optim)
    model.train()
    if config.gradient_checkpointing:
        model.language.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    prepared, optimizer = accelerator.prepare(model, optimizer)
    steps = config.steps_for(run.loader.epoch)
    if config.epochs is not None and accelerator.is_main_process:
        drawn = f"{run.loader.epoch} samples in batches of {config.optim.batch_size}"
        sys.stderr.write(f"--epochs {config.epochs:g}: {steps} steps ({drawn})\n")
    first = state.restore(accelerator, run.loader, steps)
    batches = iter(run.loader)
    accumulated = accumulation(config.optim, accelerator)
    told = dict(run.checkpoint.training)
    progress = Progress(config.out, steps, config.report, accelerator.is_main_process, told)
    with progress, sigterm_noted() as asked_to_stop:
        for step in range(first, steps):
            set_learning_rate(optimizer, learning_rate(step, steps, config.optim))
            micro = [_moved(next(batches), accelerator.device) for _ in range(accumulated)]
            metrics = _step(prepared, optimizer, micro, config.optim.clip, accelerator)
            if step % config.log_every == 0 or step + 1 == steps:
                progress.say(step, metrics, optimizer.param_groups[0]["lr"], config.optim.batch_size)
            stops = _any(asked_to_stop(), accelerator)
            if (step + 1) % config.save_every == 0 or step + 1 == steps or stops:
                _save(prepared, run, config, accelerator)
                state.save(accelerator, run.loader, step + 1)
            if stops and step + 1 < steps:
                raise StoppedError(f"SIGTERM came: stopped and saved after step {step + 1}; the same command goes on.")


def _prepare(config: TrainConfig, accelerator: Accelerator) -> TrainingRun:
    """Read the data, build the model and put both together."""
    with accelerator.main_process_first():
        data = read_data(config)
    checkpoint = initial_checkpoint(
        config.init, config.model, instructions_of(data), config.stage, config.says_motion, config.loop.seed
    )
    check_state(config.recipe, checkpoint.config.proprio_dim)
    sources = make_sources(config, data, checkpoint.prompts)
    labels = labels_of(config.motion if config.says_motion else NO_MOTION, sources, config.raw_threshold)
    model = checkpoint.config
    view = _view(config, checkpoint, sources, accelerator)
    drawn = MixtureConfig(config.loop.seed, model.image_size, model.action_horizon)
    if accelerator.is_main_process:
        say_left_out(sources, data)
    seen = {source.name: list(source.cameras) for source in sources}
    meant = {name: convention.to_json() for name, convention in conventions_by_name(sources).items()}
    told = {**recorded(config), **checkpoint.training, "processes": accelerator.num_processes, "sources": seen}
    told |= {"conventions": meant, "left_out": left_out_of(data)}
    told |= {"raw_thresholds": labels.told} if labels.told else {}
    checkpoint = replace(checkpoint, statistics=statistics_by_name(sources, config.recipe.axis_floor), training=told)
    target: Target = "motion" if config.stage == "motion" else "motion_action" if config.says_motion else "action"
    checkpoint.model.objective = objective_of(config.recipe, checkpoint.prompts)
    collate = Collate(
        checkpoint.prompts,
        checkpoint.statistics,
        target,
        config.recipe,
        seed=config.loop.seed,
        cropped=model.image_crop < 1,
    )
    loader = MixtureLoader(
        Mixture(sources, labels.labeller, drawn, view),
        collate,
        config.loop.optim.micro_batch,
        shard=(accelerator.process_index, accelerator.num_processes),
        workers=config.loop.workers,
    )
    if config.lora.rank:
        add_lora(checkpoint.model, config.lora, config.loop.seed)
        return TrainingRun(checkpoint, loader, partial(merged, scale=config.lora.scale))
    return TrainingRun(checkpoint, loader)


def _view(
    config: TrainConfig, checkpoint: Checkpoint, sources: Sequence[Source], accelerator: Accelerator
) -> View | None:
    """Return what training sees of the sources; None for their images as they are."""
    area = checkpoint.config.image_crop
    if not config.cache:
        return training_view(config.shift, area, config.recipe)
    if area < 1:
        raise TrainingError(
            f"--cache keeps features of whole images, and the model learns from crops of {area:g} of their area. Leave "
            "--cache out, or give --model.image-crop 1."
        )
    with accelerator.main_process_first(), accelerator.autocast():
        return StoredFeatures(feature_files(checkpoint.model.to(accelerator.device), sources, config.cache))


def objective_of(recipe: RecipeConfig, prompts: PromptBuilder) -> Objective | None:
    """Return what a recipe minimises; None for the mean cross-entropy of all tokens."""
    if not recipe.weighs:
        return None
    ends = prompts.actions.encode([-1.0, 1.0])
    weights = recipe.motion_weight, recipe.action_weight, recipe.dimension_weights
    return Objective(int(ends.min()), recipe.soft_bins, *weights)


def accumulation(config: OptimConfig, accelerator: Accelerator) -> int:
    """Return the micro batches that every process runs in one step.

    Raises:
        TrainingError: the batch does not divide into them.
    """
    at_once = config.micro_batch * accelerator.num_processes
    if config.batch_size % at_once:
        raise TrainingError(
            f"--optim.batch-size {config.batch_size} does not divide into {accelerator.num_processes} process(es) "
            f"times --optim.micro-batch {config.micro_batch}."
        )
    return int(config.batch_size // at_once)


def _step(
    model: nn.Module, optimizer: Optimizer, micro: Sequence[Placed], clip: float, accelerator: Accelerator
) -> Metrics:
    """Run one optimizer step; the loss is the mean over all tokens of all processes."""
    counted = torch.stack([(placed.batch.kinds > 0).sum() for placed in micro]).sum()
    tokens = accelerator.reduce(counted, reduction="sum")
    if not tokens:
        raise TrainingError(
            f"Nothing is to be learnt in a whole step: no token carries loss in {_named(micro)}. Where texts are cut "
            "before their answers, raise --longest."
        )
    sums = []
    for placed, last in _marked(micro):
        with contextlib.nullcontext() if last else accelerator.no_sync(model):
            part: LossSums = model(placed.batch)
            _check_finite(part, placed)
            # Processes average their gradients, so each one's share of the mean is scaled up by their number.
            accelerator.backward(part.optimised / tokens * accelerator.num_processes)
        sums.append(part)
    norm = accelerator.clip_grad_norm_(model.parameters(), clip)
    if not math.isfinite(norm):
        raise DivergedError(
            f"The gradient's norm is {float(norm)} on: {_named(micro)}. Training stopped before that step changed any "
            "weight. If these samples are sound, lower --optim.lr."
        )
    optimizer.step()
    optimizer.zero_grad()
    loss = accelerator.reduce(_total([part.loss.detach() for part in sums]), reduction="sum")
    counts = accelerator.reduce(_total([part.tokens for part in sums]), reduction="sum").tolist()
    right = accelerator.reduce(_total([part.correct for part in sums]), reduction="sum").tolist()
    motion, action, text = [hits / count if count else None for hits, count in zip(right, counts, strict=True)]
    other = None
    if sums[0].objective is not None:
        other = float(accelerator.reduce(_total([part.optimised.detach() for part in sums]), reduction="sum") / tokens)
    return Metrics(float(loss / tokens), motion, action, text, float(norm), other)


def _save(model: torch.nn.Module, run: TrainingRun, config: LoopConfig, accelerator: Accelerator) -> None:
    weights = run.merge(accelerator.get_state_dict(model))
    if accelerator.is_main_process:
        save_checkpoint(config.out / "checkpoint", run.checkpoint, weights, config.save_dtype)
    accelerator.wait_for_everyone()


def _check_finite(part: LossSums, placed: Placed) -> None:
    if not torch.isfinite(part.loss):
        bad = [
            place for place, loss in zip(placed.places, part.row_loss.tolist(), strict=True) if not loss < float("inf")
        ]
        raise DivergedError(
            f"The loss is {part.loss.item()} on: {'; '.join(bad or placed.places)}. Training stopped before that step "
            "changed any weight. If these samples are sound, lower --optim.lr."
        )


def _named(micro: Sequence[Placed]) -> str:
    return listed(place for placed in micro for place in placed.places)


def _any(here: bool, accelerator: Accelerator) -> bool:
    """Whether something is so in any process; all processes learn the same."""
    return bool(accelerator.reduce(torch.tensor(int(here), device=accelerator.device), reduction="sum"))


def _marked(micro: Sequence[Placed]) -> Iterator[tuple[Placed, bool]]:
    """Yield micro batches, the last one marked: gradients are exchanged with it."""
    for index, placed in enumerate(micro):
        yield placed, index == len(micro) - 1


def _moved(placed: Placed, device: torch.device) -> Placed:
    return Placed(placed.batch.to(device), placed.places)


def _total(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(dim=0)

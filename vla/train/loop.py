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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from vla.data.loader import MixtureLoader
from vla.data.mixture import Mixture, MixtureConfig, View
from vla.errors import DivergedError, StoppedError, TrainingError, listed
from vla.model.checkpoint import Checkpoint, save_checkpoint
from vla.model.network import LossSums, MotionVLA
from vla.train.collate import Collate, Placed, Target
from vla.train.config import LoopConfig, OptimConfig, TrainConfig, recorded
from vla.train.features import StoredFeatures, feature_files
from vla.train.initialize import initial_checkpoint
from vla.train.optim import learning_rate, make_optimizer, set_learning_rate
from vla.train.progress import Metrics, Progress
from vla.train.sharded import (
    is_sharded,
    launcher_shards,
    launcher_silenced,
    materialize,
    shard,
    whole,
    whole_weights,
)
from vla.train.sources import (
    Shifted,
    conventions_by_name,
    instructions_of,
    labeller_of,
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
    """

    checkpoint: Checkpoint
    loader: MixtureLoader[Placed]


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
    with launcher_silenced():
        return Accelerator(mixed_precision="bf16" if rounds else "no", cpu=not on_gpu)


def optimize(run: TrainingRun, config: LoopConfig, accelerator: Accelerator, state: RunState) -> None:
    """Run the optimizer steps that are left; parameters that ask for no gradient stay as they are."""
    model = run.checkpoint.model.train()
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    prepared, optimizer = prepare(model, config, accelerator)
    state.holds(prepared, optimizer)
    first = state.restore(accelerator, run.loader)
    batches = iter(run.loader)
    accumulated = accumulation(config.optim, accelerator)
    told = dict(run.checkpoint.training)
    progress = Progress(config.out, config.steps, config.report, accelerator.is_main_process, told)
    with progress, sigterm_noted() as asked_to_stop:
        for step in range(first, config.steps):
            set_learning_rate(optimizer, learning_rate(step, config.steps, config.optim))
            micro = [_moved(next(batches), accelerator.device) for _ in range(accumulated)]
            metrics = _step(prepared, optimizer, micro, config.optim.clip, accelerator)
            if step % config.log_every == 0 or step + 1 == config.steps:
                with state.saving():
                    progress.say(step, metrics, optimizer.param_groups[0]["lr"], config.optim.batch_size)
            stops = _any(asked_to_stop(), accelerator)
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps or stops:
                with state.saving():
                    _save(prepared, run, config, accelerator)
                    state.save(accelerator, run.loader, step + 1)
            if stops and step + 1 < config.steps:
                raise StoppedError(f"SIGTERM came: stopped and saved after step {step + 1}; the same command goes on.")


def prepare(model: nn.Module, config: LoopConfig, accelerator: Accelerator) -> tuple[nn.Module, Optimizer]:
    """Put the model on the devices, whole or divided, with an optimizer of its weights there."""
    if accelerator.num_processes > 1 and (config.shard or launcher_shards()):
        shard(model, accelerator)
        wrapped = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
        return wrapped, accelerator.prepare_optimizer(make_optimizer(model, config.optim))
    if accelerator.num_processes > 1:
        materialize(model, accelerator)
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(model, config.optim))
    return wrapped, optimizer


def checkpoint_activations(model: MotionVLA) -> None:
    """Keep no activations within the blocks that are trained: they are computed again when the gradient needs them."""
    networks = [model.language, *(encoder.network for encoder in model.vision_encoders.values())]
    for network in networks:
        if any(weight.requires_grad for weight in network.parameters()):
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _prepare(config: TrainConfig, accelerator: Accelerator) -> TrainingRun:
    """Read the data, build the model and put both together."""
    with accelerator.main_process_first():
        data = read_data(config)
    checkpoint = initial_checkpoint(
        config.init, config.model, instructions_of(data), config.stage, config.says_motion, config.loop.seed
    )
    sources = make_sources(config, data, checkpoint.prompts)
    view: View | None = Shifted(config.shift) if config.shift else None
    if config.cache:
        with accelerator.main_process_first(), accelerator.autocast():
            view = StoredFeatures(feature_files(checkpoint.model.to(accelerator.device), sources, config.cache))
    model = checkpoint.config
    drawn = MixtureConfig(config.loop.seed, model.image_size, model.action_horizon)
    if accelerator.is_main_process:
        say_left_out(sources, data)
    seen = {source.name: list(source.cameras) for source in sources}
    meant = {name: convention.to_json() for name, convention in conventions_by_name(sources).items()}
    told = {**recorded(config), **checkpoint.training, "processes": accelerator.num_processes, "sources": seen}
    told |= {"conventions": meant, "left_out": left_out_of(data)}
    checkpoint = replace(checkpoint, statistics=statistics_by_name(sources), training=told)
    target: Target = "motion" if config.stage == "motion" else "motion_action" if config.says_motion else "action"
    loader = MixtureLoader(
        Mixture(sources, labeller_of(config.motion), drawn, view),
        Collate(checkpoint.prompts, checkpoint.statistics, target),
        config.loop.optim.micro_batch,
        shard=(accelerator.process_index, accelerator.num_processes),
        workers=config.loop.workers,
    )
    return TrainingRun(checkpoint, loader)


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
            accelerator.backward(part.loss / tokens * accelerator.num_processes)
        sums.append(part)
    norm = whole(accelerator.clip_grad_norm_(model.parameters(), clip))
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
    seen = accelerator.reduce(_total([placed.batch.lengths.sum() for placed in micro]), reduction="sum")
    return Metrics(float(loss / tokens), motion, action, text, float(norm), int(seen))


def _save(model: torch.nn.Module, run: TrainingRun, config: LoopConfig, accelerator: Accelerator) -> None:
    weights = whole_weights(model) if is_sharded(model) else accelerator.get_state_dict(model)
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

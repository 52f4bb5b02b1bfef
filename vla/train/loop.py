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
from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from vla.errors import DivergedError, StoppedError, TrainingError, listed
from vla.model.checkpoint import save_checkpoint
from vla.model.network import LossSums
from vla.train.collate import Placed
from vla.train.config import LoopConfig, OptimConfig, TrainConfig, recorded
from vla.train.ema import moving_average
from vla.train.optim import learning_rate, set_learning_rate
from vla.train.placing import checkpoint_activations, place
from vla.train.prepare import TrainingRun, prepare
from vla.train.progress import Metrics, Progress
from vla.train.selection import BEST, flat
from vla.train.sharded import is_sharded, launcher_silenced, whole, whole_weights
from vla.train.speed import speed_up
from vla.train.state import RunState
from vla.train.stopping import sigterm_noted


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
        optimize(prepare(config, accelerator), config.loop, accelerator, state)


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
    speed_up(model, accelerator.device, config.compile)
    prepared, optimizer = place(model, config, accelerator)
    state.holds(prepared, optimizer)
    steps = config.steps_for(run.loader.epoch)
    if config.epochs is not None and accelerator.is_main_process:
        drawn = f"{run.loader.epoch} samples in batches of {config.optim.batch_size}"
        sys.stderr.write(f"--epochs {config.epochs:g}: {steps} steps ({drawn})\n")
    average = moving_average(model, config.ema, accelerator, divided=is_sharded(prepared))
    first = state.restore(accelerator, run.loader, steps)
    if run.heldout:
        run.heldout.restore(first, accelerator)
    batches = iter(run.loader)
    accumulated = accumulation(config.optim, accelerator)
    told = dict(run.checkpoint.training)
    progress = Progress(config.out, steps, config.report, accelerator.is_main_process, told)
    with progress, run.harness or contextlib.nullcontext(), sigterm_noted() as asked_to_stop:
        for step in range(first, steps):
            if run.heldout and run.heldout.exhausted:
                break
            set_learning_rate(optimizer, learning_rate(step, steps, config.optim))
            micro = [_moved(next(batches), accelerator.device) for _ in range(accumulated)]
            metrics = _step(prepared, optimizer, micro, config.optim.clip, accelerator)
            if average:
                average.update()
            done, stops = step + 1, _any(asked_to_stop(), accelerator)
            with state.saving(), average.in_place() if average else contextlib.nullcontext():
                if step % config.log_every == 0 or done == steps:
                    progress.say(step, metrics, optimizer.param_groups[0]["lr"], config.optim.batch_size)
                if run.heldout and run.heldout.due(done, steps):
                    if run.heldout.evaluate(model, done, accelerator):
                        _save(prepared, run, config, accelerator, BEST)
                    progress.note(done, flat(run.heldout.last))
                ends = done == steps or stops or bool(run.heldout and run.heldout.exhausted)
                if done % config.save_every == 0 or ends:
                    _save(prepared, run, config, accelerator)
            if done % config.save_every == 0 or ends:
                with state.saving():
                    state.save(accelerator, run.loader, done)
                if run.harness and not stops:
                    run.harness.start(done)
            if stops and done < steps:
                raise StoppedError(f"SIGTERM came: stopped and saved after step {done}; the same command goes on.")
    if run.heldout and accelerator.is_main_process:
        sys.stderr.write(run.heldout.report() + "\n")


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
    other = None
    if sums[0].objective is not None:
        other = float(accelerator.reduce(_total([part.optimised.detach() for part in sums]), reduction="sum") / tokens)
    seen = accelerator.reduce(_total([placed.batch.lengths.sum() for placed in micro]), reduction="sum")
    return Metrics(float(loss / tokens), motion, action, text, float(norm), int(seen), other)


def _save(
    model: nn.Module, run: TrainingRun, config: LoopConfig, accelerator: Accelerator, name: str = "checkpoint"
) -> None:
    weights = run.merge(whole_weights(model) if is_sharded(model) else accelerator.get_state_dict(model))
    if accelerator.is_main_process:
        weights = run.basis.folded(weights) if run.basis else weights
        save_checkpoint(config.out / name, run.checkpoint, weights, config.save_dtype)
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

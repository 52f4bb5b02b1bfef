"""What the model costs: parameters, time of an answer and of its parts, answers per second by batch size, memory.

    python benchmarks/model.py --presets tiny mini --batches 1 8
    python benchmarks/model.py --presets 0.5b 1.5b 3b --device cuda --batches 1 8 24

Weights are random: time does not depend on them. So are the answers, so speculation is measured in its two cases apart:
the motion sentence of the last step holds (its actions are new), or it does not. How often it holds is a property of
the data: `--data DIR` counts it.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from vla.data.read import read_episodes
from vla.decode.decoder import Decoded, Decoder
from vla.decode.grammar import grammar
from vla.model.network import MotionVLA
from vla.model.presets import preset
from vla.model.prompt import PromptBuilder
from vla.model.tokenizer import make_tokenizer
from vla.motion.labellers import AdaptiveLabeller
from vla.statistics import statistics_of

INSTRUCTION = "pick up the black bowl between the plate and the ramekin and place it on the plate"
SHARPNESS = 8.0


@dataclass(frozen=True)
class Config:
    """Measure the model.

    Attributes:
        presets: Which sizes.
        batches: Batch sizes.
        repeats: Answers per figure; the median is shown.
        device: "cpu" measures CPU time, "cuda" wall time after synchronising.
        dtype: Of the weights.
        tokenizer: Hub id or folder, instead of a preset's; a small one is trained where none can be loaded.
        data: Dataset folder in which to count how often the motion sentence holds from one step to the next.
    """

    presets: tuple[str, ...] = ("tiny",)
    batches: tuple[int, ...] = (1, 8)
    repeats: int = 5
    device: str = "cpu"
    dtype: str = "float32"
    tokenizer: str = "small:1536"
    data: Path | None = None


@dataclass(frozen=True)
class Row:
    """Figures of one preset at one batch size; seconds of a whole batch."""

    preset: str
    batch: int
    vision_encoders: float
    action_only: float
    plain: float
    changed: float
    held: float
    passes: tuple[float, float, float, float]


class GateContext:
    """One model with random weights and its decoders."""

    def __init__(self, name: str, config: Config) -> None:
        base = preset(name)
        tokenizer = make_tokenizer(config.tokenizer, [INSTRUCTION])
        torch.manual_seed(0)
        self.model = MotionVLA(base, tokenizer.get_vocab_size()).to(config.device, getattr(torch, config.dtype)).eval()
        with torch.no_grad():
            # Sharper than they are initialised, so that answers differ from image to image and sentences have all
            # lengths.
            for parameter in self.model.language.parameters():
                parameter.mul_(SHARPNESS if parameter.ndim > 1 else 1)
        self.device = config.device
        self.repeats = config.repeats
        acts = PromptBuilder(tokenizer, dataclasses.replace(base, motion=False))
        speaks = PromptBuilder(tokenizer, base)
        self.spoken = grammar(speaks, motion=True, action=True)
        self.action_only = Decoder(self.model, acts, grammar(acts, motion=False, action=True))
        self.plain = Decoder(self.model, speaks, self.spoken, skip_forced=False)
        self.fast = Decoder(self.model, speaks, self.spoken)

    def measure(self, name: str, batch: int) -> Row:
        """Time the parts of an answer to a batch of random images."""
        size = self.model.config.image_size
        images = torch.randint(0, 256, (batch, 1, size, size, 3), dtype=torch.uint8).to(self.device)
        with torch.inference_mode():
            seen = self.model.observation(self.model.features(images))
        instructions = [INSTRUCTION] * batch
        answers = self.fast.decode(seen, instructions)
        drafts = [self._other_actions(answer) for answer in answers]
        with torch.inference_mode():
            vision_encoders = self._median(lambda: self.model.observation(self.model.features(images)))
        ways: list[Callable[[], list[Decoded]]] = [
            lambda: self.action_only.decode(seen, instructions),
            lambda: self.plain.decode(seen, instructions),
            lambda: self.fast.decode(seen, instructions),
            lambda: self.fast.decode(seen, instructions, drafts),
        ]
        times = [self._median(way) for way in ways]
        passes = [float(np.mean([answer.passes for answer in way()])) for way in ways]
        return Row(name, batch, vision_encoders, times[0], times[1], times[2], times[3], (*passes,))  # type: ignore[arg-type]

    def _other_actions(self, answer: Decoded) -> tuple[int, ...]:
        """Return the answer with every action token changed: a step on which the motion held and nothing else."""
        first = self.fast._prompts.actions.first_token_id
        return tuple(
            first + (token - first + 128) % 256 if token in answer.action_ids else token for token in answer.tokens
        )

    def _median(self, work: Callable[[], object]) -> float:
        work()
        return float(np.median([self._timed(work) for _ in range(self.repeats)]))

    def _timed(self, work: Callable[[], object]) -> float:
        if self.device == "cpu":
            start = time.process_time()
            work()
            return time.process_time() - start
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start


def main() -> None:
    """Print the tables."""
    config = tyro.cli(Config)
    if config.device == "cpu":
        torch.set_num_threads(1)
    console = Console(width=160)
    if config.data:
        console.print(f"The motion sentence of the last step holds on {held_share(config.data):.1%} of the steps.")
    rows: list[Row] = []
    for name in config.presets:
        context = GateContext(name, config)
        rows += [context.measure(name, batch) for batch in config.batches]
        console.print(
            f"{name}: {sum(p.numel() for p in context.model.parameters()):,} parameters, {memory(config.device)}"
        )
        del context
    show(console, rows, config.device)


def show(console: Console, rows: Sequence[Row], device: str) -> None:
    """Print one line a preset and batch size; latencies also relative to acting without a motion."""
    table = Table(
        title=f"Milliseconds of {'CPU' if device == 'cpu' else 'wall'} time for a batch (forward passes an answer), "
        "relative to acting without motion (without / with the vision encoders)"
    )
    for name in (
        "preset",
        "batch",
        "encoders",
        "action only",
        "motion, plain",
        "motion changed",
        "motion held",
        "answers/s held",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [f"{1000 * row.action_only:.0f} ({row.passes[0]:.0f})"]
        for seconds, passes in ((row.plain, row.passes[1]), (row.changed, row.passes[2]), (row.held, row.passes[3])):
            whole = (row.vision_encoders + seconds) / (row.vision_encoders + row.action_only)
            cells.append(f"{1000 * seconds:.0f} ({passes:.1f}) {seconds / row.action_only:.2f}x / {whole:.2f}x")
        speed = f"{row.batch / (row.vision_encoders + row.held):.2f}"
        table.add_row(row.preset, str(row.batch), f"{1000 * row.vision_encoders:.0f}", *cells, speed)
    console.print(table)


def held_share(folder: Path) -> float:
    """Return the share of steps whose motion sentence is that of the step before."""
    episodes = list(read_episodes(folder))
    statistics = statistics_of(episodes[0].dataset, [episode.actions for episode in episodes])
    labels = [AdaptiveLabeller().label(episode.actions, statistics) for episode in episodes]
    held = sum(a == b for said in labels for a, b in pairwise(said))
    return held / sum(len(said) - 1 for said in labels)


def memory(device: str) -> str:
    """Say the most memory that was in use."""
    if device == "cpu":
        return f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB in use so far"
    return f"at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB in use so far"


if __name__ == "__main__":
    main()

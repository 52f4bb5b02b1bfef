"""What a training step of `tiny` costs on one core in bfloat16: samples per core-second, and how losses differ.

    python benchmarks/model_training.py --steps 50

The ways take turns within one run, so that the machine's load is shared: "sdpa" is how steps were computed before there
was `vla.train.speed` (PyTorch's fused attention, nothing compiled), "eager" is today's default on a CPU, "compiled" is
`--compile`. Features and sequences are random, in the shape of the released model's fine-tuning.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
import tyro

from vla.model.network import Batch, MotionVLA
from vla.model.presets import preset
from vla.model.prompt import PromptBuilder
from vla.model.tokenizer import make_tokenizer
from vla.motion.language import all_motions, describe
from vla.train.collate import padded, widest
from vla.train.config import OptimConfig
from vla.train.optim import make_optimizer
from vla.train.speed import speed_up

INSTRUCTIONS = (
    "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "pick up the black bowl on the stove and place it on the plate",
)
ROWS, STATE, HORIZON, DIFFERENT = 32, 8, 4, 8
WAYS = ("sdpa", "eager", "compiled")


@dataclass(frozen=True)
class Config:
    """Measure training steps.

    Attributes:
        steps: Steps of every way; the first two, in which is compiled, are not timed.
    """

    steps: int = 50


class Trained:
    """A model with random weights, alike in all ways, and its optimizer."""

    def __init__(self, way: str, prompts: PromptBuilder) -> None:
        torch.manual_seed(0)
        self.model = MotionVLA(prompts.config, prompts.tokenizer.get_vocab_size()).train()
        self.model.vision_encoders.requires_grad_(False)
        if way != "sdpa":
            speed_up(self.model, torch.device("cpu"), way == "compiled")
        self.optimizer = make_optimizer(self.model, OptimConfig(lr=3e-4))
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def step(self, batch: Batch) -> None:
        """Run one step, and note its time and its loss."""
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            sums = self.model(batch)
        loss = sums.loss / sums.tokens.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seconds.append(time.process_time() - start)
        self.losses.append(loss.item())


def batch_of(prompts: PromptBuilder, rng: np.random.Generator, width: int) -> Batch:
    """Make a batch of random steps."""
    motions = [describe(motion) for motion in all_motions()]
    actions = rng.uniform(-1, 1, (ROWS, HORIZON, 7))
    sequences = [
        prompts.sequence(str(rng.choice(INSTRUCTIONS)), str(rng.choice(motions)), prompts.action_ids(one))
        for one in actions
    ]
    features = rng.standard_normal((ROWS, prompts.config.image_tokens, prompts.config.feature_width))
    return padded(
        sequences,
        features=torch.from_numpy(features).float(),
        state=torch.zeros(ROWS, STATE),
        actions=torch.from_numpy(actions).float(),
        width=width,
    )


def main() -> None:
    """Print the figures."""
    config = tyro.cli(Config)
    torch.set_num_threads(1)
    shape = replace(preset("tiny"), action_horizon=HORIZON, proprio_dim=STATE)
    prompts = PromptBuilder(make_tokenizer(shape.language.tokenizer, INSTRUCTIONS), shape)
    fixed = widest(prompts, INSTRUCTIONS, "motion_action")
    trained = {way: Trained(way, prompts) for way in WAYS}
    for step in range(config.steps):
        for way, one in trained.items():
            rng = np.random.default_rng(step % DIFFERENT)
            one.step(batch_of(prompts, rng, fixed if way == "compiled" else 0))
    usual = trained["sdpa"]
    for way, one in trained.items():
        rate = ROWS / float(np.median(one.seconds[2:]))
        ratio = float(np.median(usual.seconds[2:])) / float(np.median(one.seconds[2:]))
        apart = float(np.abs(np.array(one.losses) - usual.losses).max())
        print(f"{way:9} {rate:5.1f} samples/core-s  {ratio:.2f}x  largest difference of a loss {apart:.1e}")


if __name__ == "__main__":
    main()

"""Trains the four conditions of the paper's figure 3 on one demonstration folder, and draws them.

    python studies/figure3/run.py --data data/demos/libero_spatial --work build/figure3 --steps 1000

With and without motion pretraining x with and without a motion turn. Every condition reads the same number of tokens
(image tokens included), so those with longer sequences, and those that are pretrained, take fewer fine-tuning steps.
The same command goes on after a kill; another --steps needs another --work.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from analysis.embeddings.command import command
from evals.errors import VlaEvalError
from vla.data.demos import MANIFEST
from vla.data.errors import DataError
from vla.data.mixture import Mixture, MixtureConfig, Source
from vla.data.read import ReadOptions
from vla.errors import ModelError, TrainingError
from vla.model.presets import preset
from vla.model.prompt import PromptBuilder
from vla.model.tokenizer import make_tokenizer
from vla.motion.registry import NO_MOTION, labeller
from vla.train.collate import Target
from vla.train.config import Arithmetic, LoopConfig, ModelOptions, OptimConfig, TrainConfig, TrainStage
from vla.train.initialize import configure
from vla.train.loop import train
from vla.train.sources import instructions_of, read_data, statistics_to_learn

PRETRAINING = "motion_pretraining"
_MEASURED_SAMPLES = 256


@dataclass(frozen=True)
class Figure3Config:
    """Train the four conditions and draw them.

    Attributes:
        data: Demonstration folder (`vla-eval record`), or with --held-out a dataset of any format.
        work: Folder for checkpoints and caches.
        out: Folder for the figures, the vectors and the numbers.
        held_out: Dataset of observations that are not trained on; by default every `holdout`-th initial state of data.
        view: Drawn images to use, where there are several.
        motion: Which labeller writes the motion sentences: raw, adaptive, hmm or a plugin's.
        preset: Size of the model.
        steps: Optimizer steps of the longest sequences (motion and action, no pretraining): they set the budget.
        pretraining: Part of the budget of the pretrained conditions that goes into pretraining.
        holdout: See `held_out`.
        optim: How weights are changed, in every condition.
        precision: Of the arithmetic, as `vla-train train` has it.
        seed: Of weights, shuffles and samples.
        draws: Bootstrap resamples.
    """

    data: Path
    work: Path = Path("build/figure3")
    out: Path = Path("results/figures")
    held_out: Path | None = None
    view: str | None = None
    motion: str = "adaptive"
    preset: str = "tiny"
    steps: int = 1000
    pretraining: float = 0.5
    holdout: int = 5
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-4, warmup=50, batch_size=16))
    precision: Arithmetic = "auto"
    seed: int = 0
    draws: int = 100

    def __post_init__(self) -> None:
        """Refuse a study of nothing."""
        if not 0 < self.pretraining < 1 or self.holdout < 2 or self.steps < 2:
            raise TrainingError("--pretraining lies between 0 and 1; --holdout and --steps are at least 2.")


@dataclass(frozen=True)
class Leg:
    """One training run.

    Attributes:
        name: Of its folder, and of the condition in the figure.
        stage: Of training.
        motion: Labels of the motion turn, or "none".
        steps: Optimizer steps.
        pretrained: Whether it goes on from the pretraining leg.
    """

    name: str
    stage: TrainStage
    motion: str
    steps: int
    pretrained: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study."""
    config = tyro.cli(Figure3Config, args=arguments)
    training, held_out = split(config)
    legs = plan(config, mean_lengths(config, training))
    for leg in legs:
        print(f"{leg.name}: {leg.steps} steps", flush=True)
        train(train_config(config, leg, training))
    conditions = [leg for leg in legs if leg.name != PRETRAINING]
    checkpoints = [str(config.work / leg.name / "checkpoint") for leg in conditions]
    options = [
        "--data",
        str(held_out),
        "--out",
        str(config.out),
        "--seed",
        str(config.seed),
        "--draws",
        str(config.draws),
    ]
    options += ["--view", config.view] if config.view else []
    return command([*checkpoints, *options])


def split(config: Figure3Config) -> tuple[Path, Path]:
    """Return the folders to train on and to look at.

    Demonstrations are split by initial state: no scene is in both. The parts are manifests of their own beside links
    to the recorded files.

    Raises:
        TrainingError: The data cannot be split, or a part is empty.
    """
    if config.held_out is not None:
        return config.data, config.held_out
    manifest_file = config.data / MANIFEST
    if not manifest_file.is_file():
        raise TrainingError(f"{config.data} has no {MANIFEST}, so it cannot be split by scene: name --held-out.")
    manifest: dict[str, Any] = json.loads(manifest_file.read_text())
    states = sorted({entry["initial_state"] for entry in manifest["episodes"]})
    chosen = set(states[config.holdout - 1 :: config.holdout])
    parts = []
    for name, is_held_out in (("train", False), ("held_out", True)):
        episodes = [entry for entry in manifest["episodes"] if (entry["initial_state"] in chosen) == is_held_out]
        if not episodes:
            raise TrainingError(
                f"{config.data} has {len(states)} initial states: too few for --holdout {config.holdout}."
            )
        folder = config.work / "split" / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in config.data.iterdir():
            if path.name != MANIFEST and not (folder / path.name).exists():
                os.symlink(path.resolve(), folder / path.name)
        (folder / MANIFEST).write_text(json.dumps({**manifest, "episodes": episodes}, indent=1) + "\n")
        parts.append(folder)
    return parts[0], parts[1]


def mean_lengths(config: Figure3Config, data: Path) -> dict[Target, float]:
    """Measure how many tokens a sequence of each kind has on average, image tokens included."""
    leg = Leg("", "finetune", config.motion, config.steps, pretrained=False)
    whole = read_data(train_config(config, leg, data))
    model = configure(ModelOptions(preset=config.preset), motion=True)
    prompts = PromptBuilder(make_tokenizer(model.language.tokenizer, instructions_of(whole)), model)
    source = Source(whole[0].episodes, statistics_to_learn(whole[0].episodes), ())
    mixture = Mixture([source], labeller(config.motion), MixtureConfig(seed=config.seed))
    samples = [mixture[position] for position in range(min(_MEASURED_SAMPLES, len(mixture)))]
    action = [prompts.actions.first_token_id] * prompts.action_tokens

    def mean(motion: bool, acts: bool) -> float:
        sequences = (
            prompts.sequence(sample.instruction, sample.motion if motion else None, action if acts else None)
            for sample in samples
        )
        return float(np.mean([len(sequence.token_ids) for sequence in sequences]))

    return {"motion": mean(True, False), "action": mean(False, True), "motion_action": mean(True, True)}


def plan(config: Figure3Config, lengths: dict[Target, float]) -> list[Leg]:
    """Divide equal budgets of tokens into optimizer steps."""
    budget = config.steps * lengths["motion_action"]
    rest = (1 - config.pretraining) * budget
    with_motion, without = lengths["motion_action"], lengths["action"]

    def steps(tokens: float, length: float) -> int:
        return max(round(tokens / length), 1)

    return [
        Leg(PRETRAINING, "motion", config.motion, steps(budget - rest, lengths["motion"]), pretrained=False),
        Leg("scratch_action", "finetune", NO_MOTION, steps(budget, without), pretrained=False),
        Leg("scratch_motion", "finetune", config.motion, steps(budget, with_motion), pretrained=False),
        Leg("pretrained_action", "finetune", NO_MOTION, steps(rest, without), pretrained=True),
        Leg("pretrained_motion", "finetune", config.motion, steps(rest, with_motion), pretrained=True),
    ]


def train_config(config: Figure3Config, leg: Leg, data: Path) -> TrainConfig:
    """Return what `vla-train train` is told for one leg."""
    frozen = all(encoder.frozen for encoder in preset(config.preset).vision_encoders)
    return TrainConfig(
        data=(data,),
        loop=LoopConfig(
            out=config.work / leg.name,
            optim=config.optim,
            steps=leg.steps,
            seed=config.seed,
            precision=config.precision,
            save_dtype="float16",
        ),
        stage=leg.stage,
        motion=leg.motion,
        init=str(config.work / PRETRAINING / "checkpoint") if leg.pretrained else "scratch",
        model=ModelOptions(preset=config.preset),
        read=ReadOptions(view=config.view),
        cache=config.work / "features" if frozen else None,
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DataError, ModelError, VlaEvalError) as error:
        sys.exit(f"error: {error}")

"""What is held out of training: which episodes, and how they are scored while training runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vla.data.demonstration import Demonstration
from vla.data.whole import Whole
from vla.errors import TrainingError
from vla.train.harness import eval_spec


@dataclass(frozen=True)
class HoldoutOptions:
    """Data that are held out of training, to see what was learned and what was learned by heart.

    Attributes:
        holdout: Share of the scenes of each dataset that is held out: 0.1 holds out about a tenth. A scene is a task
            with an initial state and a seed where demonstrations were recorded, and an episode elsewhere. Which scenes
            these are depends on their names alone, so they are the same for every seed of the training.
        holdout_data: Further folders of datasets that are held out as a whole; each must be of a dataset of --data.
        eval_every: Number of steps between evaluations on held-out data; by default that of --save-every. The last step
            is always evaluated.
        eval_samples: Largest number of held-out samples of each dataset that are evaluated.
        stop_after: Stop training when so many evaluations in a row bring no gain; 0 never stops.
        eval: Suite, tasks and trials to run the harness on, as SUITE:TASKS:TRIALS (such as libero_spatial:0,3:5), each
            time a checkpoint is saved. It runs beside the training, on the CPU, in a process of its own; training waits
            for the last one.
    """

    holdout: float = 0.0
    holdout_data: tuple[Path, ...] = ()
    eval_every: int | None = None
    eval_samples: int = 512
    stop_after: int = 0
    eval: str = ""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing, by the option's name."""
        if not 0 <= self.holdout < 1:
            raise TrainingError(f"--holdout is {self.holdout}; a number from 0 up to, not including, 1 is expected.")
        if self.eval_samples < 1 or self.stop_after < 0 or (self.eval_every is not None and self.eval_every < 1):
            raise TrainingError(
                f"--eval-samples {self.eval_samples}, --eval-every {self.eval_every} and --stop-after "
                f"{self.stop_after}: at least 1, 1 and 0 are expected."
            )
        if self.eval:
            eval_spec(self.eval)
        if self.stop_after and not self.given:
            raise TrainingError("--stop-after needs held-out data: give --holdout or --holdout-data.")

    @property
    def given(self) -> bool:
        """Whether anything is held out."""
        return bool(self.holdout or self.holdout_data)


def scene_of(episode: Demonstration) -> str:
    """Return the name of an episode's scene: two demonstrations in one scene are held out together."""
    name = episode.scene or f"{episode.where.file.name}, {episode.where.episode}"
    return f"{episode.dataset}, {name}"


def is_held_out(scene: str, share: float) -> bool:
    """Whether a scene is held out, by its name alone."""
    number = int.from_bytes(hashlib.sha256(scene.encode()).digest()[:8], "big")
    return number < share * 2**64


def split(data: Sequence[Whole], share: float) -> tuple[tuple[Whole, ...], tuple[Whole, ...]]:
    """Divide data sets into what is trained on and what is held out.

    Raises:
        TrainingError: nothing would be left of a data set, or nothing held out of it.
    """
    trained, held = [], []
    for whole in data:
        apart = [episode for episode in whole.episodes if is_held_out(scene_of(episode), share)]
        rest = [episode for episode in whole.episodes if not is_held_out(scene_of(episode), share)]
        if not apart or not rest:
            name, count = whole.episodes[0].dataset, len(whole.episodes)
            lacks = "holds no episode out" if not apart else "leaves no episode to learn from"
            raise TrainingError(
                f"--holdout {share:g} {lacks} of data set {name!r}, which has {count}. Give a "
                f"{'larger' if not apart else 'smaller'} share, or a folder with --holdout-data."
            )
        trained.append(replace(whole, episodes=rest))
        held.append(replace(whole, episodes=apart))
    return tuple(trained), tuple(held)


def joined(held: Sequence[Whole], more: Sequence[Whole], trained: Sequence[Whole]) -> tuple[Whole, ...]:
    """Put what was held out of each data set together with folders that are held out as a whole.

    Raises:
        TrainingError: a folder is of a data set that is not trained on, or has scenes that are.
    """
    known = {whole.episodes[0].dataset: {scene_of(one) for one in whole.episodes} for whole in trained}
    together = {whole.episodes[0].dataset: whole for whole in held}
    for whole in more:
        name = whole.episodes[0].dataset
        if name not in known:
            raise TrainingError(
                f"--holdout-data holds data set {name!r}, and --data holds {', '.join(known)}: without training data "
                "of the same name nothing says what its numbers mean to the model."
            )
        seen = sorted(known[name] & {scene_of(one) for one in whole.episodes})
        if seen:
            raise TrainingError(
                f"--holdout-data and --data both hold {len(seen)} scene(s) of {name!r}, such as {seen[0]!r}: what is "
                "trained on cannot be held out. Record other scenes (`vla-eval record --seed`), or leave these out."
            )
        before = together.get(name)
        together[name] = replace(whole, episodes=[*(before.episodes if before else []), *whole.episodes])
    return tuple(together.values())

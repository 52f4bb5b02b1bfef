"""Evaluation on held-out data while training runs: its history, the best checkpoint, and when to stop."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from vla.data.mixture import Sample
from vla.files import write_text
from vla.model.network import MotionVLA
from vla.train.collate import Collate
from vla.train.holdout import HoldoutOptions
from vla.train.scoring import overall, score

HELDOUT, BEST = "heldout.jsonl", "checkpoint-best"
"""In a run's folder: a line of JSON an evaluation, and the checkpoint whose held-out value is the smallest."""


class HeldOut:
    """Scores a model at intervals; what came of it is in `heldout.jsonl`, a line an evaluation.

    Every process scores all samples (a model that is divided among processes cannot run otherwise), and goes by the
    numbers of the first one.

    Args:
        folder: of the run.
        options: how often, and when to stop.
        collate: as in training, without what changes at random.
        samples: held-out samples of each data set.
        every: steps between evaluations.
    """

    def __init__(
        self,
        folder: Path,
        options: HoldoutOptions,
        collate: Collate,
        samples: Mapping[str, Sequence[Sample]],
        every: int,
    ) -> None:
        self._path = folder / HELDOUT
        self._options, self._collate, self._samples, self._every = options, collate, samples, every
        self._history: list[dict[str, Any]] = []

    def restore(self, done: int, accelerator: Accelerator) -> None:
        """Read the evaluations up to the step from which training goes on, and forget those after it."""
        if accelerator.is_main_process and self._path.is_file():
            lines = [line for text in self._path.read_text().splitlines() if (line := _line(text))]
            self._history = [line for line in lines if line["step"] <= done]
            write_text(self._path, "".join(json.dumps(line) + "\n" for line in self._history))
        [self._history] = broadcast_object_list([self._history])

    def due(self, done: int, steps: int) -> bool:
        """Whether to evaluate after `done` of so many steps."""
        return (done % self._every == 0 or done == steps) and not any(line["step"] == done for line in self._history)

    def evaluate(self, model: MotionVLA, done: int, accelerator: Accelerator) -> bool:
        """Score the model after `done` steps.

        Returns:
            Whether it is the best so far.
        """
        model.eval()
        with accelerator.autocast():
            scores = [score(model, self._collate, samples) for samples in self._samples.values()]
        model.train()
        name, value = overall(scores)
        line = {"step": done, "judged_by": name, "value": value if math.isfinite(value) else None}
        line["scores"] = [_finite(one.to_json()) for one in scores]
        [line] = broadcast_object_list([line])
        best = self.best
        self._history.append(line)
        if accelerator.is_main_process:
            with self._path.open("a") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
            sys.stderr.write(f"held out, step {done}: {_text(line)}\n")
        return line["value"] is not None and (best is None or line["value"] < best["value"])

    @property
    def last(self) -> Mapping[str, Any]:
        """The last evaluation, as its line in the file."""
        return self._history[-1]

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation with the smallest value, the first of equals; None before any."""
        judged = [line for line in self._history if line["value"] is not None]
        return min(judged, key=lambda line: float(line["value"])) if judged else None

    @property
    def exhausted(self) -> bool:
        """Whether so many evaluations in a row brought no gain that training is to stop."""
        best = self.best
        if not self._options.stop_after or best is None:
            return False
        return len([line for line in self._history if line["step"] > best["step"]]) >= self._options.stop_after

    def report(self) -> str:
        """Say in a line what the evaluations came to."""
        best, last = self.best, self._history[-1] if self._history else None
        if best is None or last is None:
            return "held out: no evaluation gave a number."
        name = f"held out {best['judged_by']}"
        if best["step"] == last["step"]:
            return f"{name}: {best['value']:.4f} at the last step ({last['step']}), the best; it may fall further."
        value = "no number" if last["value"] is None else f"{last['value']:.4f}"
        return (
            f"{name}: best at step {best['step']} ({best['value']:.4f}), {value} at the last step ({last['step']}): "
            f"no gain for {last['step'] - best['step']} steps. {BEST} holds the best, checkpoint the last."
        )


def flat(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an evaluation by name, for a tracker."""
    told: dict[str, float] = {}
    for scores in line["scores"]:
        for name, value in scores.items():
            values = enumerate(value) if isinstance(value, list) else [("", value)]
            told |= {
                f"heldout/{scores['dataset']}/{name}{f'/{index}' if index != '' else ''}": float(number)
                for index, number in values
                if isinstance(number, (int, float))
            }
    return told


def _line(text: str) -> dict[str, Any] | None:
    """Read a line; one that was cut when the process stopped is none."""
    try:
        line = json.loads(text)
        return line if isinstance(line["step"], int) and {"value", "judged_by", "scores"} <= line.keys() else None
    except (ValueError, KeyError, TypeError):
        return None


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON data
    """Return JSON data with null in place of what JSON cannot say."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(line: Mapping[str, Any]) -> str:
    value = "no number" if line["value"] is None else f"{line['value']:.4f}"
    parts = [f"{line['judged_by']} {value}"]
    for scores in line["scores"]:
        if scores["motion_exact"] is not None:
            parts.append(f"{scores['dataset']}: motion exact {scores['motion_exact']:.1%}")
    return ", ".join(parts)

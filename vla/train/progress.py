"""What a training run says while it runs: a line of JSON a step, and a bar for whoever watches."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from vla.train.trackers import Report, Tracker

METRICS = "metrics.jsonl"


class Metrics(NamedTuple):
    """Of one optimizer step.

    Attributes:
        loss: mean cross-entropy of all tokens with loss, nats.
        motion_accuracy: share of motion tokens ranked first, or None where there are none.
        action_accuracy: of action tokens.
        text_accuracy: of other text.
        gradient_norm: before clipping.
        tokens: of the sequences of all samples, images included and padding not; None where nobody counted.
        objective: mean of what is minimised where that is not the cross-entropy (soft targets, weights), else None.
    """

    loss: float
    motion_accuracy: float | None
    action_accuracy: float | None
    text_accuracy: float | None
    gradient_norm: float
    tokens: int | None = None
    objective: float | None = None


class Progress:
    """Writes metrics to `metrics.jsonl` and, if asked to, to a tracker; shows a bar on a terminal.

    Args:
        folder: of the run.
        steps: in all.
        report: "none", "wandb", "trackio" or "tensorboard".
        speaks: whether this process is the one that says anything.
        told: configuration, for the tracker.
    """

    def __init__(self, folder: Path, steps: int, report: Report, speaks: bool, told: dict[str, Any]) -> None:
        self._path = folder / METRICS
        self._steps = steps
        self._speaks = speaks
        self._tracker = Tracker(report, folder, told) if speaks and report != "none" else None
        console = Console(file=sys.stderr)
        self._bar = Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not (speaks and console.is_terminal),
        )
        self._task = self._bar.add_task("", total=steps)
        self._last: tuple[int, float] | None = None

    def __enter__(self) -> Progress:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar and close the tracker."""
        self._bar.stop()
        if self._tracker is not None:
            self._tracker.close()

    def say(self, step: int, metrics: Metrics, rate: float, batch_size: int) -> None:
        """Record a step, counted from 0."""
        if not self._speaks:
            return
        pace = self._pace(step)
        speed = {
            "samples_per_second": pace and pace * batch_size,
            "tokens_per_second": pace and metrics.tokens and pace * metrics.tokens,
            "seconds_left": pace and (self._steps - step - 1) / pace,
        }
        line = {"step": step, **metrics._asdict(), "learning_rate": rate, **speed}
        told = {name: _json(value) for name, value in line.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(told, allow_nan=False) + "\n")
        if self._tracker is not None:
            self._tracker.log(told, step)
        text = _text(metrics, speed)
        self._bar.update(self._task, completed=step + 1, description=text)
        if self._bar.disable:
            sys.stderr.write(f"step {step + 1}/{self._steps} {text}\n")

    def note(self, step: int, told: dict[str, float]) -> None:
        """Send further numbers of a step to the tracker."""
        if self._tracker is not None:
            self._tracker.log(told, step)

    def _pace(self, step: int) -> float | None:
        """Return the steps a second since the last one that was said."""
        now = time.perf_counter()
        last, self._last = self._last, (step, now)
        return (step - last[0]) / (now - last[1]) if last else None


def _json(value: float | None) -> float | None:
    """Return a number as JSON has it, which knows no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _text(metrics: Metrics, speed: Mapping[str, float | None]) -> str:
    shares = {"motion": metrics.motion_accuracy, "action": metrics.action_accuracy, "text": metrics.text_accuracy}
    said = [f"loss {metrics.loss:.4f}", *(f"{name} {share:.1%}" for name, share in shares.items() if share is not None)]
    for name, unit in (("samples_per_second", "samples/s"), ("tokens_per_second", "tokens/s")):
        if value := speed[name]:
            said.append(f"{value:.{1 if unit == 'samples/s' else 0}f} {unit}")
    left = speed["seconds_left"]
    return " ".join([*said, f"{timedelta(seconds=round(left))} left"] if left else said)

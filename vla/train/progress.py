"""What a training run says while it runs: a line of JSON a step, and a bar for whoever watches."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vla.errors import TrainingError

METRICS = "metrics.jsonl"


class Metrics(NamedTuple):
    """Of one optimizer step.

    Attributes:
        loss: mean cross-entropy of all tokens with loss, nats.
        motion_accuracy: share of motion tokens ranked first, or None where there are none.
        action_accuracy: of action tokens.
        text_accuracy: of other text.
        gradient_norm: before clipping.
        objective: mean of what is minimised where that is not the cross-entropy (soft targets, weights), else None.
    """

    loss: float
    motion_accuracy: float | None
    action_accuracy: float | None
    text_accuracy: float | None
    gradient_norm: float
    objective: float | None = None


class Progress:
    """Writes metrics to `metrics.jsonl` and, if asked to, to a tracking service; shows a bar on a terminal.

    Args:
        folder: of the run.
        steps: in all.
        report: "none", "wandb" or "trackio".
        speaks: whether this process is the one that says anything.
        told: configuration, for the service.
    """

    def __init__(self, folder: Path, steps: int, report: str, speaks: bool, told: dict[str, Any]) -> None:
        self._path = folder / METRICS
        self._steps = steps
        self._speaks = speaks
        self._service = _service(report, folder, told) if speaks else None
        console = Console(file=sys.stderr)
        self._bar = Bar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
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
        """Remove the bar and close the service."""
        self._bar.stop()
        if self._service is not None:
            self._service.finish()

    def say(self, step: int, metrics: Metrics, rate: float, batch_size: int) -> None:
        """Record a step, counted from 0."""
        if not self._speaks:
            return
        speed = self._speed(step, batch_size)
        line = {"step": step, **metrics._asdict(), "learning_rate": rate, "samples_per_second": speed}
        with self._path.open("a") as file:
            file.write(json.dumps({name: _json(value) for name, value in line.items()}, allow_nan=False) + "\n")
        if self._service is not None:
            self._service.log(line, step=step)
        text = _text(metrics, speed)
        self._bar.update(self._task, completed=step + 1, description=text)
        if self._bar.disable:
            sys.stderr.write(f"step {step + 1}/{self._steps} {text}\n")

    def note(self, step: int, told: dict[str, float]) -> None:
        """Send further numbers of a step to the service."""
        if self._service is not None:
            self._service.log(told, step=step)

    def _speed(self, step: int, batch_size: int) -> float | None:
        now = time.perf_counter()
        last, self._last = self._last, (step, now)
        return (step - last[0]) * batch_size / (now - last[1]) if last else None


def _json(value: float | None) -> float | None:
    """Return a number as JSON has it, which knows no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _text(metrics: Metrics, speed: float | None) -> str:
    shares = {"motion": metrics.motion_accuracy, "action": metrics.action_accuracy, "text": metrics.text_accuracy}
    said = [f"loss {metrics.loss:.4f}", *(f"{name} {share:.1%}" for name, share in shares.items() if share is not None)]
    return " ".join([*said, f"{speed:.1f} samples/s"] if speed else said)


def _service(report: str, folder: Path, told: dict[str, Any]) -> Any:  # noqa: ANN401 - a module of the user's choice
    if report == "none":
        return None
    try:
        service = __import__(report)
    except ImportError as error:
        raise TrainingError(f"--report {report} needs the package: `pip install {report}`.") from error
    service.init(project="motion-vla", name=folder.name, config=told)
    return service

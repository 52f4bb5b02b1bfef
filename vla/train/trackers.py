"""Metrics to a tracking service or to TensorBoard's files; what goes wrong there is said once and stops nothing."""

from __future__ import annotations

import importlib
import logging
import queue
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from vla.errors import TrainingError
from vla.files import write_text

Report = Literal["none", "wandb", "trackio", "tensorboard"]
Metric = Mapping[str, float | None]

RUN_ID = "tracker_id"
"""File in the folder of a run with its id there: a run that goes on after a restart is the same run."""
_PACKAGES = {"tensorboard": ("torch.utils.tensorboard", "tensorboard")}
_WAITING, _PATIENCE_SECONDS = 10_000, 30.0
_log = logging.getLogger("vla.train")


class Tracker:
    """Sends metrics from a thread of its own, so that a slow or dead service costs training no time.

    Args:
        report: which tracker.
        folder: of the run; keeps the id that the run has there.
        told: configuration, for the record there.

    Raises:
        TrainingError: its package is not installed.
    """

    def __init__(self, report: Report, folder: Path, told: Mapping[str, Any]) -> None:
        module, package = _PACKAGES.get(report, (report, report))
        try:
            self._module = importlib.import_module(module)
        except ImportError as error:
            raise TrainingError(f"--report {report} needs the package {package}: `pip install {package}`.") from error
        self._report = report
        self._waiting: queue.Queue[tuple[int, Metric] | None] = queue.Queue(_WAITING)
        self._dead = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder, dict(told)), name="tracker", daemon=True)
        self._thread.start()

    def log(self, metrics: Metric, step: int) -> None:
        """Send the metrics of a step, sooner or later."""
        if not self._dead.is_set():
            try:
                self._waiting.put_nowait((step, metrics))
            except queue.Full:
                self._give_up(f"{_WAITING} steps wait to be sent")

    def close(self) -> None:
        """Send what waits, for half a minute at most."""
        if not self._dead.is_set():
            try:
                self._waiting.put_nowait(None)
            except queue.Full:
                return self._give_up(f"{_WAITING} steps wait to be sent")
        self._thread.join(_PATIENCE_SECONDS)
        if self._thread.is_alive():
            self._give_up(f"no answer within {_PATIENCE_SECONDS:.0f} s at the end")
        return None

    def _run(self, folder: Path, told: dict[str, Any]) -> None:
        try:
            sink = _opened(self._report, self._module, folder, told)
            while (waiting := self._waiting.get()) is not None:
                step, metrics = waiting
                sink.log({name: value for name, value in metrics.items() if value is not None}, step)
            sink.finish()
        except Exception as error:  # noqa: BLE001 - a tracker is another's process border; it is said, and training goes on
            self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, why: str) -> None:
        if not self._dead.is_set():
            self._dead.set()
            _log.warning(
                "warning: --report %s has stopped (%s). Training goes on; metrics.jsonl holds everything.",
                self._report,
                why,
            )


class _Service:
    """A run of wandb or trackio, new or gone on with."""

    def __init__(self, report: str, module: Any, folder: Path, told: Mapping[str, Any]) -> None:  # noqa: ANN401
        name = _run_id(folder)
        known = {"id": name, "name": folder.name} if report == "wandb" else {"name": f"{folder.name}-{name}"}
        self._run = module.init(project="motion-vla", config=dict(told), resume="allow", **known)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def finish(self) -> None:
        self._run.finish()


class _Files:
    """TensorBoard's event files in the folder of the run."""

    def __init__(self, module: Any, folder: Path, told: Mapping[str, Any]) -> None:  # noqa: ANN401
        self._writer = module.SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("configuration", "\n".join(f"    {name}: {value}" for name, value in told.items()))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            if name != "step":
                self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


def _opened(report: Report, module: Any, folder: Path, told: Mapping[str, Any]) -> _Service | _Files:  # noqa: ANN401
    return _Files(module, folder, told) if report == "tensorboard" else _Service(report, module, folder, told)


def _run_id(folder: Path) -> str:
    """Return the id that a run has at a service, drawn when the run began."""
    path = folder / RUN_ID
    if not path.is_file():
        write_text(path, uuid.uuid4().hex[:12] + "\n")
    return path.read_text().strip()

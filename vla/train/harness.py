"""Success rates in the middle of a training: the harness runs on saved checkpoints, in a process of its own.

Training goes on meanwhile. One evaluation runs at a time: a save that comes while another is being evaluated is left
out, and that is said. What an evaluation does, crashes included, never ends the training.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from vla.errors import TrainingError, listed

EVALS = "evals.jsonl"
"""In a run's folder: a line of JSON for each evaluation; the episodes are in `evals/stepN/run`."""
_LAST_WORDS = 2_000


@dataclass(frozen=True)
class EvalSpec:
    """What `--eval` asks for.

    Attributes:
        suite: name of the suite.
        tasks: ids or names of its tasks; all if empty.
        trials: initial states of each task.
        key: data set by whose statistics actions are un-normalised; "" for the suite's own, or the only one.
    """

    suite: str
    tasks: tuple[str, ...] = ()
    trials: int = 1
    key: str = ""


def eval_spec(text: str) -> EvalSpec:
    """Read "SUITE[:TASKS[:TRIALS[:KEY]]]", such as "libero_spatial:0,3:5" or "libero_spatial::2".

    Raises:
        TrainingError: it is not of that form.
    """
    parts = text.split(":")
    suite, tasks, trials, key = (*parts, *[""] * (4 - len(parts)))[:4]
    if not suite or len(parts) > 4 or (trials and not (trials.isdecimal() and int(trials))):
        raise TrainingError(
            f"--eval {text!r} is not SUITE:TASKS:TRIALS, such as libero_spatial, libero_spatial:0,3:5 or "
            "libero_spatial::2 (all tasks); a fourth part may name the data set whose statistics are used."
        )
    return EvalSpec(suite, tuple(task.strip() for task in tasks.split(",") if task.strip()), int(trials or 1), key)


def statistics_key(spec: EvalSpec, known: Iterable[str]) -> str:
    """Return the data set by whose statistics the model acts in the suite.

    Raises:
        TrainingError: nothing says which.
    """
    names = list(known)
    if spec.key in names or (not spec.key and spec.suite in names):
        return spec.key or spec.suite
    if not spec.key and len(names) == 1:
        return names[0]
    raise TrainingError(
        f"--eval {spec.suite}: training has the data sets {listed(names)}; name the one whose statistics are used as "
        f"a fourth part, such as {spec.suite}::{spec.trials}:{names[0] if names else 'NAME'}."
    )


class HarnessEvaluations:
    """Starts `vla-eval` on checkpoints and writes down what came of it.

    Args:
        folder: of the training run.
        spec: what to run.
        key: data set by whose statistics actions are un-normalised.
    """

    def __init__(self, folder: Path, spec: EvalSpec, key: str) -> None:
        self._folder, self._spec, self._key = folder, spec, key
        self._running: tuple[int, subprocess.Popen[bytes], IO[bytes]] | None = None

    def __enter__(self) -> HarnessEvaluations:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the evaluation that runs; end it if training failed or was stopped."""
        if self._running and kind is None:
            sys.stderr.write(f"waiting for the evaluation of step {self._running[0]}\n")
            self._running[1].wait()
            self.collect()
        elif self._running:
            self._running[1].terminate()
            self._running[1].wait()
            self._running[2].close()

    def start(self, step: int) -> None:
        """Evaluate the checkpoint that was saved after so many steps, unless an earlier one is still evaluated."""
        self.collect()
        if self._running:
            sys.stderr.write(f"step {step} is not evaluated: step {self._running[0]} still is\n")
            return
        place = self._folder / "evals" / f"step{step}"
        try:
            shutil.rmtree(place, ignore_errors=True)
            # The run's checkpoint is replaced while this one is read.
            shutil.copytree(self._folder / "checkpoint", place / "checkpoint")
            log = (place / "output").open("wb")
            said = (place / "log").open("wb")
            process = subprocess.Popen(self._command(place), stdout=log, stderr=said, env=self._environment())
        except OSError as error:
            self._write({"step": step, "suite": self._spec.suite, "error": f"did not start: {error}"})
            return
        said.close()
        self._running = step, process, log

    def collect(self) -> None:
        """Write down what came of the evaluation, if it has ended."""
        if self._running is None or self._running[1].poll() is None:
            return
        (step, process, log), self._running = self._running, None
        log.close()
        place = self._folder / "evals" / f"step{step}"
        told: dict[str, Any] = {"step": step, "suite": self._spec.suite}
        try:
            mean = json.loads((place / "output").read_text())["rows"][-1]
            told |= {name: mean[name] for name in ("rate", "low", "high", "scored", "missing", "planned")}
        except (OSError, ValueError, LookupError, TypeError):
            words = (place / "log").read_text(errors="replace")[-_LAST_WORDS:] if (place / "log").is_file() else ""
            told["error"] = f"exit status {process.returncode}: {words.strip()}"
        shutil.rmtree(place / "checkpoint", ignore_errors=True)
        self._write(told)

    def _command(self, place: Path) -> list[str]:
        spec = self._spec
        command = [sys.executable, "-m", "evals.cli", "--suite", spec.suite, "--policy", "vla", "--workers", "1"]
        command += ["--trials", str(spec.trials), "--format", "json", "--out", str(place / "run")]
        command += ["--tasks", *spec.tasks] if spec.tasks else []
        return [*command, "--policy-args", f"checkpoint={place / 'checkpoint'}", f"unnorm_key={self._key}"]

    def _environment(self) -> Mapping[str, str]:
        """Return the environment without what a launcher of several processes said, and with one thread."""
        launched = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        kept = {name: value for name, value in os.environ.items() if name not in launched}
        return {**kept, "OMP_NUM_THREADS": "1"}

    def _write(self, told: dict[str, Any]) -> None:
        with (self._folder / EVALS).open("a") as file:
            file.write(json.dumps(told) + "\n")
        if "error" in told:
            sys.stderr.write(f"evaluation of step {told['step']} failed: {told['error']}\n")
        elif told["rate"] is None:
            sys.stderr.write(f"evaluation of step {told['step']}: no episode of {told['suite']} was scored\n")
        else:
            interval = f"{100 * told['low']:.1f} to {100 * told['high']:.1f}"
            sys.stderr.write(
                f"evaluation of step {told['step']}: {told['suite']} {100 * told['rate']:.1f} % (95 % interval "
                f"{interval}), {told['scored']} episodes\n"
            )

"""What a training run needs to go on after it was killed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from vla.checkpoint import replace_folder
from vla.data.loader import MixtureLoader
from vla.errors import TrainingError
from vla.progress import METRICS
from vla.train_config import MAY_CHANGE

_CONFIG, _STATE, _POSITION = "train.json", "state", "position.json"


class RunState:
    """The folder of a run: its configuration, and weights, optimizer and position in the data after some step.

    Args:
        folder: of the run.
        told: its configuration as JSON data.
    """

    def __init__(self, folder: Path, told: dict[str, Any]) -> None:
        self._folder = folder
        self._told = told

    def claim(self, accelerator: Accelerator) -> None:
        """Take the folder for this run, or find that it is this run's already.

        Raises:
            TrainingError: it holds a run of another configuration; the message names the fields.
        """
        path = self._folder / _CONFIG
        if path.is_file():
            held = json.loads(path.read_text())
            names = sorted((held.keys() | self._told.keys()) - MAY_CHANGE)
            other = [name for name in names if held.get(name) != self._told.get(name)]
            if other:
                lines = "\n".join(
                    f"  {name}: {held.get(name)!r} there, {self._told.get(name)!r} here" for name in other
                )
                raise TrainingError(
                    f"{self._folder} holds a run with another configuration:\n{lines}\nGive another --out."
                )
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self._told, indent=2) + "\n")
        accelerator.wait_for_everyone()

    def save(self, accelerator: Accelerator, loader: MixtureLoader[Any], done: int) -> None:
        """Save the state after `done` steps; the one before it stays until this one is complete."""
        partial = self._folder / f"{_STATE}.partial"
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial), safe_serialization=False)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (partial / _POSITION).write_text(json.dumps({"step": done, "loader": loader.state_dict()}))
            replace_folder(partial, self._folder / _STATE)
        accelerator.wait_for_everyone()

    def restore(self, accelerator: Accelerator, loader: MixtureLoader[Any]) -> int:
        """Load the last saved state, if there is one, and forget metrics of later steps.

        Returns:
            Steps done.
        """
        state = self._folder / _STATE
        old = state.with_name(_STATE + ".old")
        if not state.is_dir() and old.is_dir() and accelerator.is_main_process:
            old.rename(state)
        accelerator.wait_for_everyone()
        done = 0
        if state.is_dir():
            position = json.loads((state / _POSITION).read_text())
            accelerator.load_state(str(state))
            loader.load_state_dict(position["loader"])
            done = int(position["step"])
        if accelerator.is_main_process:
            self._forget_metrics(done)
        return done

    def _forget_metrics(self, done: int) -> None:
        path = self._folder / METRICS
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if _step_of(line) < done]
            path.write_text("".join(line + "\n" for line in lines))


def _step_of(line: str) -> float:
    """Step of a line of metrics; a line that was cut while it was written counts as later than any."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return float("inf")

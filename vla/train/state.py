"""What a training run needs to go on after it was killed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.optim import Optimizer

from vla.data.loader import MixtureLoader
from vla.errors import ModelError, TrainingError, listed
from vla.files import read_object, replace_folder, write_text
from vla.train.config import MAY_CHANGE
from vla.train.progress import METRICS
from vla.train.sharded import is_sharded, load_shards, save_shards
from vla.weights.load import UNREADABLE

_CONFIG, _STATE, _POSITION, _LOCK, _SHARDS = "train.json", "state", "position.json", ".lock", "shards"
_PATHS = {"data", "images", "init", "held.holdout_data"}
"""Options that name files: they may be written in another way (relative, absolute, through a link)."""


class RunState:
    """The folder of a run: its configuration, and weights, optimizer and position in the data after some step.

    Args:
        folder: of the run.
        told: its configuration as JSON data.
    """

    def __init__(self, folder: Path, told: dict[str, Any]) -> None:
        self._folder = folder
        self._told = told
        self._trained: tuple[nn.Module, Optimizer] | None = None

    def holds(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Say what is saved and restored, after it was put on the devices."""
        self._trained = model, optimizer

    @contextlib.contextmanager
    def claimed(self, accelerator: Accelerator) -> Iterator[None]:
        """Hold the folder for this run, new or to be continued.

        Raises:
            TrainingError: on every process: it cannot be written, another process trains in it, or it holds a run of
                another configuration; the message names the fields.
        """
        with contextlib.ExitStack() as held:
            fault = None
            if accelerator.is_main_process:
                try:
                    held.enter_context(self._lock())
                    self._join()
                except TrainingError as error:
                    fault = str(error)
                except OSError as error:
                    fault = f"{self._folder} cannot be written: {error.strerror}. Give another --out."
            [fault] = broadcast_object_list([fault])
            if fault:
                raise TrainingError(fault)
            yield

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Say in words that a save did not succeed; what was saved before is as it was.

        Raises:
            TrainingError: the disk is full, or cannot be written for another reason.
        """
        try:
            yield
        except UNREADABLE as error:
            if isinstance(error, ModelError):
                raise
            for name in (_STATE, "checkpoint"):
                shutil.rmtree(self._folder / f"{name}.partial", ignore_errors=True)
            why = str(error).partition("\n")[0]
            raise TrainingError(
                f"Saving in {self._folder} failed: {type(error).__name__}: {why}. What was saved before is untouched. "
                "Make room, or mend the disk; the same command goes on from there."
            ) from error

    def save(self, accelerator: Accelerator, loader: MixtureLoader[Any], done: int) -> None:
        """Save the state after `done` steps; the one before it stays until this one is complete."""
        partial = self._folder / f"{_STATE}.partial"
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        accelerator.wait_for_everyone()
        if self._trained and is_sharded(self._trained[0]):
            save_shards(partial / _SHARDS, *self._trained)
            torch.save(_random_state(), partial / f"random_{accelerator.process_index}.pt")
        else:
            accelerator.save_state(str(partial), safe_serialization=False)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            position = {"step": done, "loader": loader.state_dict(), "files": _checksums(partial)}
            write_text(partial / _POSITION, json.dumps(position))
            replace_folder(partial, self._folder / _STATE)
        accelerator.wait_for_everyone()

    def restore(self, accelerator: Accelerator, loader: MixtureLoader[Any], steps: int) -> int:
        """Load the last saved state, if there is one, and forget metrics of later steps.

        Returns:
            Steps done.

        Raises:
            TrainingError: the state is damaged, of other data, or has more steps than are asked for.
        """
        state = self._folder / _STATE
        old = state.with_name(_STATE + ".old")
        if not state.is_dir() and old.is_dir() and accelerator.is_main_process:
            old.rename(state)
        accelerator.wait_for_everyone()
        done = self._load(state, accelerator, loader, steps) if state.is_dir() else 0
        if accelerator.is_main_process:
            self._forget_metrics(done)
        return done

    def _lock(self) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = (self._folder / _LOCK).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise TrainingError(
                f"Another process trains in {self._folder}. Wait for it, or give another --out."
            ) from error
        return file

    def _join(self) -> None:
        """Find that the folder is this run's, and write down its configuration."""
        path = self._folder / _CONFIG
        if path.is_file():
            way_out = (
                "Remove it if this command is the one that the run was started with, and the run goes on; else give "
                "another --out."
            )
            held, here = _flat(read_object(path, TrainingError, way_out)), _flat(self._told)
            names = sorted((held.keys() | here.keys()) - _may_change(here))
            other = [
                name for name in names if not _same(name, held.get(name), here.get(name)) and not _new(name, held, here)
            ]
            if other:
                lines = "\n".join(f"  {name}: {held.get(name)!r} there, {here.get(name)!r} here" for name in other)
                moved = " Data that only moved may be linked to where it was." if _PATHS & set(other) else ""
                raise TrainingError(
                    f"{self._folder} holds a run with another configuration:\n{lines}\nGive another --out.{moved}"
                )
        write_text(path, json.dumps(self._told, indent=2) + "\n")

    def _load(self, state: Path, accelerator: Accelerator, loader: MixtureLoader[Any], steps: int) -> int:
        way_out = f"Put a copy of {state} in its place, or remove it to train again from the first step."
        position = read_object(state / _POSITION, TrainingError, way_out)
        done = position.get("step")
        if type(done) is not int or not isinstance(position.get("loader"), dict):
            raise TrainingError(f"{state / _POSITION} is damaged: it says no step or no place in the data. {way_out}")
        if done > steps:
            raise TrainingError(
                f"The run in {self._folder} has done {done} steps, and {self._asked(steps)} asks for fewer. Its "
                "checkpoint is that of the last step; give another --out for a shorter run."
            )
        if accelerator.is_main_process:
            held = position.get("files", {})
            found = _checksums(state)
            bad = sorted(name for name in held if found.get(name) != held[name])
            if bad:
                raise TrainingError(
                    f"{state} is damaged: {listed(bad)} is not as it was saved (size or CRC-32). {way_out}"
                )
        try:
            loader.load_state_dict(position["loader"])
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{state / _POSITION} does not fit this run: {error}") from error
        try:
            self._load_tensors(state, accelerator)
        except pickle.UnpicklingError as error:
            raise TrainingError(
                f"{state} is damaged: a file in it is cut or holds more than tensors. {way_out}"
            ) from error
        except UNREADABLE as error:
            raise TrainingError(f"{state} is damaged: {str(error).partition(chr(10))[0]}. {way_out}") from error
        return done

    def _asked(self, steps: int) -> str:
        """Return the option that says how long the run is."""
        epochs = self._told.get("epochs")
        return f"--steps {steps}" if epochs is None else f"--epochs {epochs:g} ({steps} steps)"

    def _load_tensors(self, state: Path, accelerator: Accelerator) -> None:
        divided = self._trained is not None and is_sharded(self._trained[0])
        if self._trained and (state / _SHARDS).is_dir():
            load_shards(state / _SHARDS, *self._trained)
            path = state / f"random_{accelerator.process_index}.pt"
            if path.is_file():  # as many processes as there were
                _set_random_state(torch.load(path, weights_only=True))
        elif divided:
            raise TrainingError(
                f"{state} was saved by a run whose processes each had the whole model; one that divides it cannot read "
                "that. Go on without --shard, or begin a new run with --shard and --init "
                f"{self._folder / 'checkpoint'}."
            )
        else:
            accelerator.load_state(str(state))

    def _forget_metrics(self, done: int) -> None:
        path = self._folder / METRICS
        if path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            kept = [line for line in lines if _step_of(line) < done]
            write_text(path, "".join(line + "\n" for line in kept))


def _checksums(folder: Path) -> dict[str, str]:
    """Return size and CRC-32 of every file of a state, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): _checksum(path) for path in files}


def _checksum(path: Path) -> str:
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            total = zlib.crc32(chunk, total)
    return f"{path.stat().st_size} {total:08x}"


def _random_state() -> dict[str, Any]:
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _may_change(told: Mapping[str, Any]) -> set[str]:
    """Return the options that this run may have otherwise than when it was started."""
    return MAY_CHANGE | ({"steps", "epochs"} if told.get("optim.schedule") == "constant" else set())


def _flat(told: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options by their names on the command line."""
    flat: dict[str, Any] = {}
    for name, value in told.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _same(name: str, held: object, here: object) -> bool:
    if name in _PATHS:
        return _places(held) == _places(here)
    return held == here


def _new(name: str, held: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether an option came after the run was started, and is not used: off is what the run had."""
    return name not in held and not here[name]


def _places(value: object) -> object:
    """Return paths as the files that they name."""
    if isinstance(value, list):
        return [_places(one) for one in value]
    return os.path.realpath(value) if isinstance(value, str) else value


def _step_of(line: str) -> float:
    """Step of a line of metrics; a line that was cut or is none counts as later than any."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")

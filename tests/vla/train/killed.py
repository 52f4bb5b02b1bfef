"""Kills a training again and again, and compares its losses with those of a training that nobody killed.

python -m tests.vla.train.killed DATA FOLDER --kills 20 --steps 60
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from vla.train.progress import METRICS


@dataclass(frozen=True)
class Options:
    """What to kill, and how often.

    Attributes:
        data: Folder of a dataset.
        folder: Folder for both runs.
        kills: Number of kills.
        steps: Number of training steps.
        seed: Seed of the moments.
    """

    data: tyro.conf.Positional[Path]
    folder: tyro.conf.Positional[Path]
    kills: int = 20
    steps: int = 60
    seed: int = 0


def killed(data, folder, kills, steps, seed):
    """Train twice, once with kills; return how many kills struck. Losses that differ are an AssertionError."""
    one = _train(data, folder / "undisturbed", steps)
    assert one.wait() == 0, "the undisturbed run failed"
    moments = random.Random(seed)
    struck = 0
    while struck < kills:
        process = _train(data, folder / "killed", steps)
        # A kill strikes once a number of further metrics is there, at any point of what follows them: a step, a save.
        latest = steps * (struck + 1) // (kills + 2)
        target = moments.randint(steps * struck // (kills + 2), latest)
        while process.poll() is None and _lines(folder / "killed") < target:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        ended = process.wait()
        struck += ended == -signal.SIGKILL
        if ended != -signal.SIGKILL:
            assert ended == 0, "a run that went on failed"
            break
    last = _train(data, folder / "killed", steps)
    assert last.wait() == 0, "the last run failed"
    assert _losses(folder / "killed") == _losses(folder / "undisturbed")
    return struck


def _train(data, out, steps):
    told = {"data": data, "out": out, "steps": steps, "model.preset": "nano", "optim.lr": 1e-3, "save-every": 1}
    told |= {"optim.batch-size": 4, "optim.micro-batch": 4, "device": "cpu"}
    options = [str(part) for name, value in told.items() for part in (f"--{name}", value)]
    command = [sys.executable, "-m", "vla.cli", "train", *options]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def _lines(out):
    path = out / METRICS
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def _losses(out):
    lines = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return [(line["step"], line["loss"], line["gradient_norm"]) for line in lines]


if __name__ == "__main__":
    asked = tyro.cli(Options)
    struck = killed(asked.data, asked.folder, asked.kills, asked.steps, asked.seed)
    print(f"{struck} kills, {asked.steps} steps: all losses and gradient norms equal")

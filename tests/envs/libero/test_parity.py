"""Parity with the reference loop: the same states bit for bit and the same pixels, in every suite."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from envs.libero import tasks as libero_tasks
from evals.types import Episode

HERE = Path(__file__).parent
STEPS = 4

# Among them: samplers that the reference never clears (spatial 4), a fixture that glows (libero_10 2), many contacts
# (object 0), drawers (goal 0, libero_90 0).
TASKS = [("libero_spatial", 4), ("libero_object", 0), ("libero_goal", 0), ("libero_10", 2), ("libero_90", 0)]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A function that waits for our loop, which runs beside the reference's, and returns what it saw of a task."""
    folder = tmp_path_factory.mktemp("ours")
    names = [f"{name}:{task}" for name, task in TASKS]
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(run, "-m", "tests.envs.libero.our_loop", STEPS, folder, *names)

        def load(name, task):
            running.result()
            return np.load(folder / f"{name}:{task}.npz")

        yield load


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_states_and_pixels_are_those_of_the_reference_loop(name, task, tmp_path, ours):
    suite = getattr(libero_tasks, name)()
    seed = Episode(name, task, 3, 0, suite.protocol.hash).rng_seed("scene")
    run(HERE / "reference_loop.py", name, task, 3, seed, STEPS, tmp_path / "reference.npz")
    reference = np.load(tmp_path / "reference.npz")
    ours = ours(name, task)
    assert ours["seed"] == seed
    rendered = ours["rendered"]
    assert suite.tasks[task].id == task
    assert 0 < rendered.sum() < len(rendered), "both kinds of step must be there"

    assert (ours["scene"] == reference["scene"]).all()
    for name in ("sim_state", "warm_start", "goal", "success"):
        assert (ours[name] == reference[name]).all(), name
    for name in ("state", "agentview", "wrist"):
        assert (ours[name] == reference[name][rendered]).all(), name


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[2])
    assert done.returncode == 0, json.dumps(command) + done.stderr

"""On the real simulators: an episode is the same whoever runs it, in any order, and after any kill."""

import hashlib
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import psutil
import pytest

from evals.config import RunConfig, plan
from evals.record import read_run
from evals.registry import load_suite
from evals.runner import run
from evals.setup import Setup
from evals.types import ActionChunk

STEPS = 6
REPLAN = 3
TASKS = {"libero_spatial": ("0", "4"), "simpler_bridge": ("0", "3")}


class Pixels:
    """Acts on a hash of what it sees, so that one wrong pixel or bit of state changes the trajectory."""

    name = "pixels"
    state_space = None
    cameras = ("agentview",)
    replan_every = REPLAN

    def __init__(self, suite):
        self.action_space = suite.action_space
        self.scale = 0.02 / suite.action_space.metres_per_unit

    def begin(self, episode):
        pass

    def end(self, episode):
        pass

    def act(self, observations):
        return [self._answer(seen) for seen in observations]

    def _answer(self, seen):
        sha = hashlib.sha256(seen.images["agentview"].tobytes() + seen.state.tobytes())
        rng = np.random.default_rng(int.from_bytes(sha.digest()[:8]))
        actions = rng.uniform(-self.scale, self.scale, (REPLAN, 7))
        actions[:, 6] = self.action_space.gripper_closed
        return ActionChunk(actions)


class Silent:
    def __init__(self, act=lambda: None):
        self._act = act

    def start(self, suite, episodes, done):
        pass

    def say(self, text):
        pass

    def finished(self, result):
        if result.status.scored:
            self._act()


def short(name):
    """The suite with episodes of a few steps."""
    suite = load_suite(name)
    tasks = tuple(replace(task, max_steps=STEPS) for task in suite.tasks)
    return replace(suite, tasks=tasks, protocol=replace(suite.protocol, max_steps=(STEPS,) * len(tasks)))


def go(name, folder, act=lambda: None, **changes):
    suite = short(name)
    settings = {"suite": name, "policy": "pixels", "tasks": TASKS[name], "trials": 2, "out": folder, "workers": 1}
    config = RunConfig(**{**settings, **changes}, gates=False)
    run(Setup(config, suite, Pixels(suite), REPLAN, plan(config, suite)), Silent(act))


def trajectories(folder):
    return {r.episode_id: (r.steps, r.trajectory_hash, r.scene_hash) for r in read_run(folder).results}


def workers_of(pid):
    return [child for child in psutil.Process(pid).children() if "spawn_main" in " ".join(child.cmdline())]


def kill_one_worker_once():
    alive = [True]

    def act():
        if alive.pop() if alive else False:
            workers_of(os.getpid())[0].kill()

    return act


def test_libero_episodes_are_exact_across_workers_order_and_kills(tmp_path):
    check_exactness("libero_spatial", tmp_path)


@pytest.mark.usefixtures("bridge_assets")
def test_bridge_episodes_are_exact_across_workers_order_and_kills(tmp_path):
    check_exactness("simpler_bridge", tmp_path)


def check_exactness(name, tmp_path):
    with ThreadPoolExecutor(1) as beside:
        cut = beside.submit(cut_short, name, tmp_path / "killed")
        go(name, tmp_path / "one")
        cut.result()
    reference = trajectories(tmp_path / "one")
    assert len({hashes for _, hashes, _ in reference.values()}) == 4

    go(name, tmp_path / "many", workers=4, tasks=TASKS[name][::-1])
    assert trajectories(tmp_path / "many") == reference

    assert 1 <= len(read_run(tmp_path / "killed").results) < 4
    go(name, tmp_path / "killed", kill_one_worker_once(), workers=2)
    assert trajectories(tmp_path / "killed") == reference


def cut_short(name, folder):
    """Run in a process of its own, which is killed after its first episode."""
    driver = multiprocessing.get_context("spawn").Process(target=go, args=(name, folder))
    driver.start()
    lines = folder / "episodes.jsonl"
    while driver.is_alive() and (not lines.exists() or not lines.read_bytes().count(b"\n")):
        time.sleep(0.02)
    driver.kill()
    driver.join()

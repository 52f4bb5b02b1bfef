"""What a control step, a reset and an episode of simpler_bridge cost: ours, ManiSkill3, the original, SAPIEN alone.

    python benchmarks/simpler_step.py [--task 0] [--rounds 3] [--steps 10] [--original PYTHON]

Each row has a process of its own; in every round each runs its steps in turn, so that all meet the same load of the
machine. Reported are medians over the rounds of CPU time (all threads of a process), which other programs disturb
little. ManiSkill3's row needs `pip install mani-skill==3.0.1`; the original's needs an interpreter with SAPIEN 2.2.2
(see benchmarks/simpler_original.py) and does not draw. Neither is needed for anything else here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from envs.bridge.tasks import BRIDGE_TASKS, CAMERA, simpler_bridge  # noqa: E402 - this file is run by another venv too
from evals.types import Episode  # noqa: E402

MANISKILL = (
    "PutSpoonOnTableClothInScene-v1",
    "PutCarrotOnPlateInScene-v1",
    "StackGreenCubeOnYellowCubeBakedTexInScene-v1",
    "PutEggplantInBasketScene-v1",
)
CHUNKS = (1, 4, 8)
ACTION = np.array([0.002, 0.0, -0.001, 0.0, 0.0, 0.01, 1.0])

Cost = dict[str, float]


def main() -> None:
    """Measure in rounds and print the tables, or be one row's process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=int, default=0, choices=range(len(BRIDGE_TASKS)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--original", metavar="PYTHON", help="interpreter that has SAPIEN 2.2.2")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        serve(ROWS[options.row](options.task, options.steps))
        return
    rows = [row for row in ROWS if (find_spec("mani_skill") or "ManiSkill3" not in row)]
    rows = [row for row in rows if options.original or "original" not in row]
    processes = {row: start(row, options) for row in rows}
    rounds: dict[str, list[Cost]] = {row: [] for row in rows}
    for _ in range(options.rounds):
        for row, process in processes.items():
            process.stdin.write("\n")
            process.stdin.flush()
            rounds[row].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    costs = {
        row: {name: float(np.median([c[name] for c in costs])) for name in costs[0]} for row, costs in rounds.items()
    }
    print(machine())
    print(f"{BRIDGE_TASKS[options.task].name}, medians of {options.rounds} rounds of {options.steps} steps\n")
    print_steps(costs)
    print_episodes(costs, BRIDGE_TASKS[options.task].max_steps)


def ours(cameras: tuple[str, ...]) -> Callable[[int, int], Iterator[Cost]]:
    """Return the row of our env with some cameras."""

    def measure(task: int, steps: int) -> Iterator[Cost]:
        from envs.bridge.env import make

        suite = simpler_bridge()
        env = make(suite, suite.tasks[task], cameras)
        number = 0
        while True:
            reset = cpu(lambda: env.reset(Episode(suite.name, task, number % 24, 0, ""), render=True))  # noqa: B023
            blind = cpu(lambda: [env.step(ACTION, render=False) for _ in range(steps)]) / steps
            looking = cpu(lambda: [env.step(ACTION, render=True) for _ in range(steps)]) / steps
            yield {"physics": blind, "render": looking - blind, "reset": reset}
            number += 1

    return measure


def sapien_alone(task: int, steps: int) -> Iterator[Cost]:
    """Yield the cost of SAPIEN's own calls on our scene: 100 physics steps; a picture with its segmentation."""
    from envs.bridge.env import make

    suite = simpler_bridge()
    env = make(suite, suite.tasks[task], (CAMERA.name,))
    while True:
        env.reset(Episode(suite.name, task, 0, 0, ""), render=True)
        scene = env.scene_now.scene
        camera = scene.get_cameras()[0]

        def draw() -> None:
            scene.update_render()  # noqa: B023
            camera.take_picture()  # noqa: B023
            camera.get_picture("Color")  # noqa: B023
            camera.get_picture("Segmentation")  # noqa: B023

        physics = cpu(lambda: [scene.step() for _ in range(100 * steps)]) / steps  # noqa: B023
        yield {"physics": physics, "render": cpu(lambda: [draw() for _ in range(steps)]) / steps, "reset": 0.0}


def maniskill(drawn: bool) -> Callable[[int, int], Iterator[Cost]]:
    """Return the row of stock ManiSkill3, which draws at every step or never."""

    def measure(task: int, steps: int) -> Iterator[Cost]:
        from envs.bridge.assets import find_pack
        from envs.bridge.vulkan import choose_driver

        choose_driver()
        folder = Path(
            tempfile.mkdtemp()
        )  # ManiSkill looks in MS_ASSET_DIR/data and asks on the terminal if it is empty
        (folder / "data").symlink_to(find_pack().root)
        os.environ["MS_ASSET_DIR"] = str(folder)
        import gymnasium
        import mani_skill.envs.tasks.digital_twins.bridge_dataset_eval as bridge
        import torch

        torch.set_num_threads(1)
        bridge.base_env.BaseBridgeEnv.SUPPORTED_OBS_MODES = ["rgb+segmentation", "none"]
        mode = "rgb+segmentation" if drawn else "none"
        env = gymnasium.make(MANISKILL[task], obs_mode=mode, sensor_configs={"shader_pack": "default"})
        env.reset(seed=0)
        action = ACTION.astype(np.float32)
        while True:
            reset = cpu(lambda: env.reset(seed=0, options={"reconfigure": True}))
            step = cpu(lambda: [env.step(action) for _ in range(steps)]) / steps
            yield {"physics": step, "render": 0.0, "reset": reset}

    return measure


def original(task: int, steps: int) -> Iterator[Cost]:
    """Yield the cost of the original's physics (this runs on SAPIEN 2.2.2)."""
    sys.path.insert(0, str(Path(__file__).parent))
    from simpler_original import OriginalScene

    from envs.bridge.assets import find_pack

    bridge = BRIDGE_TASKS[task]
    while True:
        start = time.process_time()
        scene = OriginalScene(bridge, find_pack().root)
        scene.reset(bridge.placements[0])
        reset = (time.process_time() - start) * 1e3
        step = cpu(lambda: [scene.step(ACTION) for _ in range(steps)]) / steps  # noqa: B023
        yield {"physics": step, "render": 0.0, "reset": reset}


ROWS: dict[str, Callable[[int, int], Iterator[Cost]]] = {
    "ManiSkill3, drawn": maniskill(drawn=True),
    "ManiSkill3, not drawn": maniskill(drawn=False),
    "original (SAPIEN 2), not drawn": original,
    "ours, 1 camera": ours((CAMERA.name,)),
    "ours, no camera": ours(()),
    "SAPIEN alone": sapien_alone,
}


def serve(costs: Iterator[Cost]) -> None:
    """Answer every line on standard input with one round's costs; the first, which warms up, is thrown away."""
    next(costs)
    for _ in sys.stdin:
        print(json.dumps(next(costs)), flush=True)


def start(row: str, options: argparse.Namespace) -> Any:  # noqa: ANN401 - Popen with pipes
    """Start the process of a row."""
    python = options.original if "original" in row else sys.executable
    command = [python, __file__, "--row", row, "--task", str(options.task), "--steps", str(options.steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU milliseconds of a call, all threads of this process together."""
    begun = time.process_time()
    work()
    return (time.process_time() - begun) * 1e3


def print_steps(costs: dict[str, Cost]) -> None:
    """Print milliseconds of CPU time of a control step, of drawing, of a new scene."""
    print(f"{'CPU milliseconds':34}{'step':>10}{'drawing':>10}{'both':>10}{'reset':>10}")
    for row, cost in costs.items():
        drawing = "in step" if row == "ManiSkill3, drawn" else f"{cost['render']:.1f}"
        both = cost["physics"] + cost["render"]
        print(f"{row:34}{cost['physics']:10.1f}{drawing:>10}{both:10.1f}{cost['reset']:10.0f}")
    print()


def print_episodes(costs: dict[str, Cost], steps: int) -> None:
    """Print what drawing only when the policy looks saves, for policies of several chunk lengths."""
    print(f"{f'Episodes of {steps} steps':34}{'CPU s':>10}{'/core h':>10}{'x faster':>10}")
    lines = {}
    if "ManiSkill3, drawn" in costs:
        stock = costs["ManiSkill3, drawn"]
        lines["ManiSkill3, drawn every step"] = steps * stock["physics"] + stock["reset"]
    cost = costs["ours, 1 camera"]
    for chunk in CHUNKS:
        looks = -(-steps // chunk)
        lines[f"ours, chunks of {chunk}"] = steps * cost["physics"] + looks * cost["render"] + cost["reset"]
    blind = costs["ours, no camera"]
    lines["ours, no camera"] = steps * blind["physics"] + blind["reset"]
    first = next(iter(lines.values()))
    for name, milliseconds in lines.items():
        print(f"{name:34}{milliseconds / 1e3:10.2f}{3.6e6 / milliseconds:10.0f}{first / milliseconds:10.2f}")


def machine() -> str:
    """Return processor, load and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    packages = [name for name in ("sapien", "mani-skill", "numpy") if find_spec(name.replace("-", "_"))]
    return f"{processor}, {os.cpu_count()} cores, load average {load}\n" + ", ".join(
        f"{n} {version(n)}" for n in packages
    )


if __name__ == "__main__":
    main()

"""Write the golden values that gates compare with: `python -m envs.reference libero_spatial [--tasks 0,3]`.

Run it on a machine whose simulator is the one that the suite's protocol names, and read the diff before committing it.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

from evals.gates.finding import Bench
from evals.gates.golden import Moment
from evals.registry import load_suite, make_env
from evals.types import Suite


def main() -> None:
    """Take the first moment of every task, each in a process of its own, and store it."""
    parser = argparse.ArgumentParser(prog="python -m envs.reference", description=__doc__)
    parser.add_argument("suite", help="name of a suite whose `reference` lies in the package envs")
    parser.add_argument("--tasks", default="", help="task ids, with commas; default: all")
    arguments = parser.parse_args()
    suite = load_suite(arguments.suite)
    tasks = [int(text) for text in arguments.tasks.split(",") if text] or [task.id for task in suite.tasks]
    path = Path(__file__).parent / suite.reference
    for task in tasks:
        # One process, one rendered env.
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            renderer, moment = pool.submit(first_moment, suite.name, task).result()
        store(path, suite, task, renderer, moment)


def first_moment(suite_name: str, task: int) -> tuple[str, Moment]:
    """Return what draws, and the first observation of initial state 0 with seed 0, with every camera."""
    suite = load_suite(suite_name)
    cameras = tuple(camera.name for camera in suite.protocol.cameras)
    with closing(make_env(suite, suite.tasks[task], cameras)) as env:
        return env.renderer(), Moment.of(Bench(suite, env, task))


def store(path: Path, suite: Suite, task: int, renderer: str, moment: Moment) -> None:
    """Put one task's reference into the file, one line a task, leaving the others as they are."""
    entries = json.loads(path.read_text()) if path.exists() else {}
    made = {"simulator": suite.protocol.simulator, "renderer": renderer, "moment": moment.to_json()}
    entries[f"{suite.name} {task}"] = made
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry, sort_keys=True)}" for key, entry in entries.items())
    path.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()

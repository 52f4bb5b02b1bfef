"""Write the golden values that gates compare with: `python -m envs.reference libero_spatial [--tasks 0,3]`.

Run it on a machine whose simulator is the one that the suite's protocol names, and read the diff before committing it.
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path

from evals.engine.isolated import in_fresh_process
from evals.gates.golden import Moment, Reference, key, reference_path
from evals.gates.result import GateContext
from evals.registry import load_suite, make_env

SECONDS_A_TASK = 600.0


def main() -> None:
    """Take the first moment of every task, each in a process of its own, and store it."""
    parser = argparse.ArgumentParser(prog="python -m envs.reference", description=__doc__)
    parser.add_argument("suite", help="name of a suite whose `reference` lies in the package envs")
    parser.add_argument("--tasks", default="", help="task ids, with commas; default: all")
    arguments = parser.parse_args()
    suite = load_suite(arguments.suite)
    tasks = [int(text) for text in arguments.tasks.split(",") if text] or [task.id for task in suite.tasks]
    path = Path(str(reference_path(suite)))
    for task in tasks:
        # One process, one rendered env.
        reference = in_fresh_process(take, suite.name, task, seconds=SECONDS_A_TASK)
        store(path, key(suite, task), reference)
        seen = reference.moment
        print(f"{suite.name} {task}: {len(seen.objects)} objects, cameras {', '.join(seen.views)}")  # noqa: T201


def take(suite_name: str, task: int) -> Reference:
    """Return the first observation of initial state 0 with seed 0, seen by every camera."""
    suite = load_suite(suite_name)
    cameras = tuple(camera.name for camera in suite.protocol.cameras)
    with closing(make_env(suite, suite.tasks[task], cameras)) as env:
        return Reference(suite.protocol.simulator, env.renderer(), Moment.of(GateContext(suite, env, task, cameras)))


def store(path: Path, name: str, reference: Reference) -> None:
    """Put one entry into the file, one line each, leaving the others as they are."""
    entries = json.loads(path.read_text()) if path.exists() else {}
    entries[name] = reference.to_json()
    lines = ",\n".join(f"{json.dumps(entry)}: {json.dumps(data, sort_keys=True)}" for entry, data in entries.items())
    path.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()

"""Short runs of `reach`, in process and over a wire."""

import json

import evals
from envs.reach import suite
from evals.record import read_run
from tests.evals.policies.remote.servers import toy


def in_process():
    """Return the toy policy as one of this process."""
    reach = suite()
    return evals.policy(
        lambda seen: toy.actions(seen.state, seen.instruction, seen.images["agentview"]),
        action_space=reach.action_space,
        state_space=reach.state_space,
        cameras=("agentview",),
        name="toy",
    )


def run(policy, folder, **options):
    """Run one trial a task and return the record."""
    evals.evaluate(policy, "reach", **{"trials": 1, "out": folder, "gates": False, "workers": 2} | options)
    return read_run(folder)


def hashes(record):
    """Return task -> hash of the trajectory, of scored episodes only."""
    return {result.task: result.trajectory_hash for result in record.results if result.status.scored}


def attempts(folder):
    """Return every line of a record."""
    return [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]


def kept(record):
    """Return what the last start of a run says of its policy."""
    return record.header.sessions[-1]["policy"]

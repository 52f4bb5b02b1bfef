"""A run of the toy suite and results of it, for the tests of the record."""

from envs.reach import suite
from evals.record import Header, read_run
from evals.types import Episode, EpisodeResult, Seconds, Status

HEADER = Header.of(suite(), {"suite": "reach", "policy": "noop", "seed": 0}, {})


def result(state=0, status=Status.SUCCESS, attempt=1):
    episode = Episode("reach", 0, state, 0, suite().protocol.hash)
    return EpisodeResult(
        suite="reach", task=0, initial_state=state, seed=0, episode_id=episode.id, status=status, success_first=3,
        success_ever=True, success_last=True, success_at_reset=False, official=True, steps=3, seconds=Seconds(0.1),
        trajectory_hash="a", scene_hash="b", protocol_hash=episode.protocol_hash, worker=0, attempt=attempt,
        error=None if status.scored else "it broke",
    )  # fmt: skip


def lines_of(folder):
    return (folder / "episodes.jsonl").read_text().splitlines()


def states_of(folder):
    return [r.initial_state for r in read_run(folder).results]

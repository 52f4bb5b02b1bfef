"""Run folders for the tests of the analysis: synthetic ones, and real ones of the toy suite."""

import itertools
import json

import pytest

from envs.reach import suite as reach_suite
from evals.cli import main
from evals.record import EPISODES, Header, Recorder
from evals.types import Episode, EpisodeResult, Seconds, Status, Suite


def result_of(suite: Suite, episode: Episode, status: Status, **changes) -> EpisodeResult:
    success = status is Status.SUCCESS
    fields = {
        "suite": suite.name,
        "task": episode.task,
        "initial_state": episode.initial_state,
        "seed": episode.seed,
        "episode_id": episode.id,
        "status": status,
        "success_first": 9 if success else None,
        "success_ever": success,
        "success_last": success,
        "success_at_reset": False,
        "official": True,
        "steps": 9 if success else 40,
        "seconds": Seconds(1.0, 2.0, 0.5, 0.25),
        "trajectory_hash": "",
        "scene_hash": "scene",
        "protocol_hash": episode.protocol_hash,
        "worker": 0,
        "attempt": 1,
        "error": None if status.scored else "Traceback: it died",
    }
    return EpisodeResult(**{**fields, **changes})


@pytest.fixture
def write_run():
    """Return write_run(path, outcomes, ...): a run folder in which task t's episode i ends as outcomes[t][i] says.

    Outcomes are strings, one letter an episode: "+" success, "-" failure, "!" a simulator error, " " not run.
    """
    statuses = {"+": Status.SUCCESS, "-": Status.FAILURE, "!": Status.SIM_ERROR}

    def write(path, outcomes, *, suite=None, seed=0, conditions=None, policy="made_up", **changes):
        suite = suite or reach_suite()
        header = Header.of(suite, {"suite": suite.name, "policy": policy, "seed": seed}, conditions or {})
        trials = max(len(row) for row in outcomes)
        plan = {"config": {"tasks": [str(task) for task in range(len(outcomes))]}, "planned": trials * len(outcomes)}
        with Recorder(path, header) as recorder:
            recorder.start_session(plan)
        with (path / EPISODES).open("a") as file:  # not by the recorder, which syncs every line to the disk
            for task, state in itertools.product(range(len(outcomes)), range(trials)):
                letter = outcomes[task][state : state + 1]
                if letter in statuses:
                    episode = Episode(suite.name, task, state, seed, suite.protocol.hash)
                    file.write(json.dumps(result_of(suite, episode, statuses[letter], **changes).to_json()) + "\n")
        return path

    return write


@pytest.fixture(scope="session")
def reach_runs(tmp_path_factory):
    """Return a folder with two real runs of the toy suite: `steady` solves everything, `shaky` does not."""
    root = tmp_path_factory.mktemp("runs") / "reach"
    for name, noise in (("steady", "0"), ("shaky", "0.05")):
        arguments = f"--suite reach --policy expert --policy-args noise={noise} --workers 1 --traces --video all"
        with pytest.raises(SystemExit) as end:
            main([*arguments.split(), "--format", "json", "--out", str(root / name), "--condition", f"method={name}"])
        assert end.value.code == 0
    return root


@pytest.fixture
def edit_header():
    """Return edit_header(path, **fields): change top-level fields of a run's `run.json`, and its episodes with them."""

    def edit(path, **fields):
        file = path / "run.json"
        header = json.loads(file.read_text()) | fields
        file.write_text(json.dumps(header))
        lines = []
        for line in (path / EPISODES).read_text().splitlines():
            seed = dict(header["config"]).get("seed", 0)
            told = {"suite": header["suite"]["name"], "seed": seed, "protocol_hash": header["protocol_hash"]}
            result = json.loads(line) | told
            episode = Episode(task=result["task"], initial_state=result["initial_state"], **told)
            lines.append(json.dumps(result | {"episode_id": episode.id}) + "\n")
        (path / EPISODES).write_text("".join(lines))

    return edit

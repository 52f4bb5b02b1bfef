"""The public names, and a run from Python."""

import json

import numpy as np
import pytest

import evals
from evals.errors import RunFolderError, SpaceMismatchError, UsageError
from evals.record import HEADER

PUBLIC = [
    *("ActionChunk", "ActionSpace", "Camera", "Env", "Episode", "EpisodeResult", "Observation", "Policy"),
    *("PrivilegedPolicy", "Protocol", "Run", "StateSpace", "Status", "Step", "Suite", "Summary", "Task"),
    *("evaluate", "load_policy", "load_suite", "one_at_a_time", "policy", "read_run"),
]


@pytest.fixture
def reach():
    return evals.load_suite("reach")


def still(suite, calls=None):
    def answer(observation):
        if calls is not None:
            calls.append(observation)
        return suite.action_space.idle()

    return evals.policy(answer, action_space=suite.action_space, name="still")


def run(policy, suite, folder, **options):
    return evals.evaluate(policy, suite, tasks=[0], out=folder, workers=1, gates=False, **options)


def test_the_public_names_are_these():
    assert sorted(evals.__all__) == PUBLIC
    assert all(hasattr(evals, name) for name in PUBLIC)


def test_a_function_is_a_policy(reach, tmp_path):
    calls = []
    summary = run(still(reach, calls), reach, tmp_path / "run", trials=2)
    assert (summary.total("scored"), summary.total("successes")) == (2, 0)
    assert {call.instruction for call in calls} == {reach.tasks[0].instruction}
    assert len(calls) == 2 * reach.tasks[0].max_steps


def test_python_and_the_command_line_give_the_same_trajectories(reach, tmp_path):
    run("random", "reach", tmp_path / "named", trials=3)
    run(evals.load_policy("random", reach, {}), reach, tmp_path / "object", trials=3)
    named, given = (evals.read_run(tmp_path / name).results for name in ("named", "object"))
    assert [r.trajectory_hash for r in named] == [r.trajectory_hash for r in given]


def test_options_are_those_of_the_command_line(tmp_path):
    run("expert", "reach", tmp_path / "run", trials=1, policy_args={"speed": 0.5}, seed=3)
    header = json.loads((tmp_path / "run" / HEADER).read_text())
    assert header["config"]["policy_args"] == {"speed": "0.5"}
    assert header["config"]["seed"] == 3


def test_an_unknown_option_is_named(tmp_path):
    with pytest.raises(UsageError, match="'trails'"):
        run("noop", "reach", tmp_path / "run", trails=3)


def test_a_run_of_a_function_is_not_continued(reach, tmp_path):
    run(still(reach), reach, tmp_path / "run", trials=1)
    with pytest.raises(RunFolderError, match="out="):
        run(still(reach), reach, tmp_path / "run", trials=2)


def test_a_policy_that_reads_the_simulator_has_to_be_named(reach, tmp_path):
    with pytest.raises(UsageError, match="plugin"):
        run(evals.load_policy("expert", reach, {}), reach, tmp_path / "run")


def test_a_function_in_other_units_is_refused(reach, tmp_path):
    policy = evals.policy(lambda observation: np.zeros(7), action_space=evals.ActionSpace(metres_per_unit=1.0))
    with pytest.raises(SpaceMismatchError, match="metres_per_unit"):
        run(policy, reach, tmp_path / "run")


def test_wrong_answers_of_a_function_are_missing_and_not_failed(reach, tmp_path):
    policy = evals.policy(lambda observation: np.zeros(6), action_space=reach.action_space, name="short")
    summary = run(policy, reach, tmp_path / "run", trials=1)
    assert summary.total("missing") == 1

"""A policy that does not look at what it declares is found out before an episode counts."""

import numpy as np
import pytest

import evals
from evals.errors import GateError
from evals.gates import run_gates
from evals.gates.sensitivity import measure, sensitivity
from evals.types import ActionChunk

SUITE = evals.load_suite("reach")


def policy_of(function):
    spaces = {"action_space": SUITE.action_space, "state_space": SUITE.state_space}
    return evals.policy(function, cameras=["agentview"], name="probed", **spaces)


def answer(*parts):
    return np.append(np.tanh([float(part) for part in parts] + [0.0] * (6 - len(parts))), -1.0)


def looks_at_all(seen):
    return answer(seen.images["agentview"].mean() / 255, seen.state.sum(), len(seen.instruction) / 100)


def blind(seen):
    return answer(seen.state.sum(), len(seen.instruction) / 100)


class Odd:
    """Keeps state by episode, and answers as told."""

    name, replan_every, cameras = "odd", 1, ("agentview",)
    action_space, state_space = SUITE.action_space, SUITE.state_space

    def __init__(self, rule):
        self._rule, self.begun, self.ended = rule, [], []
        self.calls = 0

    def begin(self, episode):
        self.begun.append(episode)

    def act(self, observations):
        self.calls += 1
        return [ActionChunk(self._rule(self, seen, len(observations))[None]) for seen in observations]

    def end(self, episode):
        self.ended.append(episode)


def test_a_policy_that_looks_at_everything_passes():
    found = sensitivity(SUITE, policy_of(looks_at_all))
    assert found.passed
    assert "every input changes the answer" in found.observed


def test_a_policy_that_declares_a_camera_and_ignores_its_pictures_fails():
    found = sensitivity(SUITE, policy_of(blind))
    assert found.passed is False
    assert "ignores: image agentview" in found.observed
    assert "transformers" in found.advice


def test_a_state_and_an_instruction_that_change_nothing_are_only_said():
    found = sensitivity(SUITE, policy_of(lambda seen: answer(seen.images["agentview"].mean() / 255)))
    assert found.passed
    assert found.observed == "ignores: state, instruction"


def test_answers_that_differ_for_equal_observations_are_not_deterministic():
    found = measure(SUITE, Odd(lambda policy, seen, count: answer(policy.calls)))
    assert found.unequal > 0
    assert not found.blind
    assert str(found).startswith("not deterministic")


def test_an_answer_that_depends_on_its_neighbours_is_batch_dependent():
    found = measure(SUITE, Odd(lambda policy, seen, count: answer(seen.images["agentview"].mean() / 255, count)))
    assert found.neighbours > 0
    assert "batch dependent" in str(found)


def test_every_episode_that_was_begun_is_ended_also_when_the_policy_fails():
    policy = Odd(lambda policy, seen, count: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure(SUITE, policy)
    assert policy.begun == policy.ended != []


def test_a_run_refuses_or_records_a_policy_that_is_blind_and_its_trajectories_stay(tmp_path):
    options = {"trials": 1, "tasks": [0], "workers": 1, "gates": True}
    with pytest.raises(GateError, match="ignores: image agentview"):
        evals.evaluate(policy_of(blind), "reach", out=tmp_path / "refused", sensitivity="refuse", **options)
    for word in ("off", "record"):
        evals.evaluate(policy_of(blind), "reach", out=tmp_path / word, sensitivity=word, **options)
    off, on = evals.read_run(tmp_path / "off"), evals.read_run(tmp_path / "record")
    assert [r.trajectory_hash for r in off.results] == [r.trajectory_hash for r in on.results]
    assert any("ignores: image agentview" in line for line in on.header.sessions[-1]["gates"])
    assert not any("sensitivity" in line for line in off.header.sessions[-1]["gates"])


def test_a_check_of_a_policy_asks_it_and_leaves_out_one_that_reads_the_simulator():
    asked = {name: run_gates("reach", name)[-1] for name in ("noop", "expert")}
    assert asked["noop"].observed == "ignores: instruction"
    assert (asked["expert"].passed, asked["expert"].gate) == (None, "sensitivity")

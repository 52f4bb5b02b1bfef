"""The gates on the real simulators: they pass as they are, and find the fault when one is put in front of the env."""

import json

import numpy as np
import pytest

from evals.engine.isolated import in_fresh_process
from evals.errors import MissingAssetsError
from evals.gates import BEFORE_RUN, GATES, before_run, golden, probe
from evals.gates.rotations import declared_matrix
from evals.registry import load_suite, make_env, names
from evals.rotations import matrix_to_axis_angle

# Every gate that needs no image; `frame` needs a process of its own.
BLIND = [name for name in GATES if name != "frame"]


@pytest.fixture(scope="module", params=["libero_spatial", "simpler_bridge"])
def built(request):
    """A suite, and the env of its first task without cameras."""
    suite = load_suite(request.param)
    try:
        env = make_env(suite, suite.tasks[0], ())
    except MissingAssetsError as error:
        pytest.skip(str(error))
    yield suite, env
    env.close()


class Preceded:
    """An env with a function put in front of its actions."""

    def __init__(self, env, on_action):
        self._env, self._on_action = env, on_action

    def step(self, action, render):
        return self._env.step(self._on_action(action), render)

    def __getattr__(self, name):
        return getattr(self._env, name)


def euler(action, radians_per_unit):
    """Take the rotation for Euler angles, as ManiSkill3 does with SimplerEnv's axis-angle."""
    meant = matrix_to_axis_angle(declared_matrix(-action[3:6] * radians_per_unit, "euler_xyz").T)
    return np.concatenate([action[:3], meant / radians_per_unit, action[6:]])


FAULTS = {
    "gripper polarity": ("gripper", lambda action, _: action * [1, 1, 1, 1, 1, 1, -1]),
    "x and y swapped": ("translation", lambda action, _: action[[1, 0, 2, 3, 4, 5, 6]]),
    "y mirrored": ("translation", lambda action, _: action * [1, -1, 1, 1, 1, 1, 1]),
    "centimetres for metres": ("translation", lambda action, _: action * [0.01, 0.01, 0.01, 1, 1, 1, 1]),
    "Euler angles for axis-angle": ("rotation", euler),
}


def test_every_gate_passes_as_it_is(built):
    suite, env = built
    assert {str(finding) for finding in probe(env, suite, 0, (), BLIND) if not finding.passed} == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_gate(built, fault):
    suite, env = built
    gate, on_action = FAULTS[fault]
    faulty = Preceded(env, lambda action: on_action(action, suite.action_space.radians_per_unit))
    (finding,) = probe(faulty, suite, 0, (), [gate])
    assert finding.passed is False, str(finding)


def test_what_runs_before_a_libero_run_passes_with_images():
    findings = in_fresh_process(before_run, load_suite("libero_object"), 3, ("agentview",), seconds=300)
    assert [(finding.gate, finding.passed) for finding in findings] == [(name, True) for name in BEFORE_RUN]


@pytest.mark.parametrize("suite_name", [name for name in names("vla_eval.suites") if "libero_90" not in name])
def test_every_task_has_a_reference_of_the_simulator_that_the_protocol_names(suite_name):
    suite = load_suite(suite_name)
    stored = json.loads(golden.reference_path(suite).read_text())
    entries = [stored[f"{suite.name} {task.id}"] for task in suite.tasks]
    assert {entry["simulator"] for entry in entries} == {suite.protocol.simulator}
    assert all(set(entry["moment"]["views"]) == {c.name for c in suite.protocol.cameras} for entry in entries)

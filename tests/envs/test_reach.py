"""The toy suite keeps the promises that tests of everything else rest on."""

import time

import numpy as np
import pytest

from envs.reach import ReachEnv, ReachExpert, suite
from evals.errors import ContractError
from evals.types import Episode

SUITE = suite()


def episode(task, initial_state, seed=0):
    return Episode(SUITE.name, task, initial_state, seed, SUITE.protocol.hash)


def make(task, cameras=()):
    return ReachEnv(SUITE, SUITE.tasks[task], cameras)


def run_expert(task, initial_state):
    env, expert = make(task), ReachExpert(SUITE)
    expert.attach(env)
    step = env.reset(episode(task, initial_state), render=True)
    for _ in range(0, SUITE.tasks[task].max_steps, expert.replan_every):
        for action in expert.act([step.observation])[0].actions:
            step = env.step(action, render=True)
            if step.success:
                return True
    return False


@pytest.mark.parametrize("task", range(len(SUITE.tasks)))
def test_the_expert_solves_every_official_scene(task):
    assert all(run_expert(task, state) for state in range(SUITE.protocol.initial_states))


def test_doing_nothing_never_succeeds():
    for task in SUITE.tasks:
        env = make(task.id)
        assert not env.reset(episode(task.id, 0), render=False).success
        assert not any(env.step(SUITE.action_space.idle(), render=False).success for _ in range(task.max_steps))


def test_the_table_differs_by_seed_and_by_nothing_else():
    env = make(0)

    def scene(*key):
        env.reset(episode(*key), render=False)
        return env.static_state()[0]

    assert scene(0, 0, 1) != scene(0, 0, 2)
    assert scene(0, 0, 1) == scene(0, 0, 1)


def test_a_full_turn_in_small_steps_comes_back():
    env = make(0)
    before = env.reset(episode(0, 0), render=True).observation.state
    turn = np.array([0, 0, 0, 0, 0, 2 * np.pi / 100 / SUITE.action_space.radians_per_unit, -1.0])
    for _ in range(100):
        step = env.step(turn, render=True)
    np.testing.assert_allclose(step.observation.state[3:6], before[3:6], atol=1e-9)


def test_the_ball_has_landed_when_the_episode_begins():
    env = make(0)
    env.reset(episode(0, 0), render=False)
    before = env.objects()["ball"]
    env.step(SUITE.action_space.idle(), render=False)
    np.testing.assert_array_equal(env.objects()["ball"], before)


def test_an_action_of_the_wrong_shape_is_refused():
    env = make(0)
    env.reset(episode(0, 0), render=False)
    with pytest.raises(ContractError, match=r"shape \(6,\)"):
        env.step(np.zeros(6), render=False)


def test_an_episode_takes_milliseconds():
    start = time.process_time()
    run_expert(0, 0)
    assert time.process_time() - start < 0.05

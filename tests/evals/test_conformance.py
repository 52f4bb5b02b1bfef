"""The conformance test passes what keeps the contract and names the promise that anything else breaks."""

import os
from dataclasses import replace

import numpy as np
import pytest

from envs.reach import ReachEnv, ReachExpert, suite
from evals.conformance import check_policy, check_suite
from evals.errors import ContractError, EnvOutputError, PolicyOutputError, SpaceMismatchError
from evals.policies.simple import noop, random
from evals.registry import load_policy, load_suite
from evals.types import ActionChunk, Step

SUITE = suite()


@pytest.fixture
def plugins(plugin_environment, monkeypatch):
    """The example plugin, in this process."""
    monkeypatch.syspath_prepend(plugin_environment["PYTHONPATH"].split(os.pathsep)[0])


@pytest.mark.parametrize("task", range(len(SUITE.tasks)))
def test_the_toy_suite_keeps_the_contract(task):
    check_suite(SUITE, task=task)


@pytest.mark.parametrize("policy", [noop(SUITE), random(SUITE), ReachExpert(SUITE)], ids=lambda policy: policy.name)
def test_our_policies_keep_the_contract(policy):
    check_policy(policy, SUITE)


def test_the_example_plugin_keeps_the_contract(plugins):
    example = load_suite("example_slide")
    check_suite(example)
    check_policy(load_policy("example_chase", example, {}), example)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("example_wrong_image", r"image 'top' is uint8 \(4, 32, 3\), expected uint8 \(8, 32, 3\)"),
        ("example_forgetful", "the sim_state after reset differs in the same episode, with another in between"),
    ],
)
def test_a_broken_example_suite_is_named_for_what_it_breaks(plugins, name, complaint):
    with pytest.raises(EnvOutputError, match=complaint):
        check_suite(load_suite(name))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("example_nan", r"actions\[0, 0\] is nan"),
        ("example_wrong_shape", r"shape \(2, 6\)"),
        ("example_wrong_dtype", "dtype float16"),
        ("example_leaky", "depends on its batch neighbours"),
    ],
)
def test_a_broken_example_policy_is_named_for_what_it_breaks(plugins, name, complaint):
    with pytest.raises(PolicyOutputError, match=complaint):
        check_policy(load_policy(name, SUITE, {}), SUITE)


class LooksChangeIt(ReachEnv):
    def step(self, action, render):
        return super().step(action * (1.0 if render else 0.9), render)


class ReturnsItsOwnArray(ReachEnv):
    def _result(self, render):
        step = super()._result(render)
        self.sim_state = getattr(self, "sim_state", step.sim_state)
        self.sim_state[:] = step.sim_state
        return replace(step, sim_state=self.sim_state)


class SaysNumpyBool(ReachEnv):
    def _result(self, render):
        return replace(super()._result(render), success=np.bool_(False))


class AlwaysLooks(ReachEnv):
    def _result(self, render):
        return super()._result(True)


class NeverLooks(ReachEnv):
    def _result(self, render):
        return super()._result(False)


class SinglePrecision(ReachEnv):
    def _result(self, render):
        step = super()._result(render)
        return replace(step, sim_state=step.sim_state.astype(np.float32))


class IgnoresTheInitialState(ReachEnv):
    def reset(self, episode, render):
        step = super().reset(replace(episode, initial_state=0), render)
        self._episode = episode
        return self._result(render) if step else step


class ForgetsToCount(ReachEnv):
    def step(self, action, render):
        self._steps = -1
        return super().step(action, render)


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        (LooksChangeIt, "without rendering"),
        (ReturnsItsOwnArray, "return copies"),
        (SaysNumpyBool, "expected bool"),
        (AlwaysLooks, "returned an observation although render was False"),
        (NeverLooks, "returned no observation although render was True"),
        (SinglePrecision, "sim_state is float32"),
        (IgnoresTheInitialState, "initial states 0 and 1 of 10 are the same scene"),
        (ForgetsToCount, "Observation.step is 0 after 1"),
    ],
)
def test_a_broken_env_is_named_for_what_it_breaks(env, complaint):
    with pytest.raises(EnvOutputError, match=complaint):
        check_suite(SUITE, make_env=env)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tasks": SUITE.tasks[1:]}, "task ids"),
        ({"protocol": replace(SUITE.protocol, max_steps=(1, 1, 1, 1))}, "max_steps"),
        ({"protocol": replace(SUITE.protocol, settle_action=(0.0,))}, "settle_action"),
        ({"state_space": replace(SUITE.state_space, rotation="quat_wxyz")}, "rotation entries"),
        ({"reference": "data/absent.json"}, "does not exist"),
    ],
)
def test_data_that_contradict_each_other_are_refused(changes, complaint):
    with pytest.raises(ContractError, match=complaint):
        check_suite(replace(SUITE, **changes))


def test_a_policy_that_speaks_other_numbers_is_refused():
    policy = noop(SUITE)
    policy.action_space = replace(SUITE.action_space, rotation="euler_xyz")
    with pytest.raises(SpaceMismatchError, match="'euler_xyz', suite 'axis_angle'"):
        check_policy(policy, SUITE)


class Counting:
    """Counts its calls, for all episodes together, and moves faster each time."""

    name, action_space, state_space, cameras, replan_every = "counting", SUITE.action_space, None, (), 1

    def __init__(self):
        self.calls = 0

    def begin(self, episode):
        self.calls = 0

    def end(self, episode):
        pass

    def act(self, observations):
        def answer():
            self.calls += 1
            return ActionChunk(np.full((1, 7), 0.1 * self.calls))

        return [answer() for _ in observations]


def test_a_policy_that_shares_its_state_between_episodes_is_found():
    with pytest.raises(PolicyOutputError, match="the order of the batch"):
        check_policy(Counting(), SUITE)


def test_a_policy_that_answers_too_few_is_found():
    policy = noop(SUITE)
    policy.act = lambda observations: [ActionChunk(SUITE.action_space.idle()[None])]
    with pytest.raises(PolicyOutputError, match="returned 1 chunks for 2 observations"):
        check_policy(policy, SUITE)


def test_what_is_not_a_step_is_found():
    class ReturnsATuple(ReachEnv):
        def reset(self, episode, render):
            step: Step = super().reset(episode, render)
            return step.observation, {}

    with pytest.raises(EnvOutputError, match="returned tuple"):
        check_suite(SUITE, make_env=ReturnsATuple)

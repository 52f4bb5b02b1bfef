"""The third labeller: the cheapest path, the same labels in any unit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import ActionDataError
from vla.motion.hmm import HmmLabeller, gripper_spans, viterbi
from vla.motion.language import Motion, describe
from vla.statistics import ActionStatistics, statistics_of

HMM = HmmLabeller()


def unit_statistics():
    ones = (1.0,) * 7
    return ActionStatistics("unit", ones, ones, ones, ones, (-1.0,) * 7, ones)


def episode(rng, steps):
    levels = rng.choice([-1.0, -0.4, 0.0, 0.0, 0.3, 1.0], size=(steps // 10 + 1, 6))
    deltas = np.repeat(levels, 10, axis=0)[:steps] + rng.normal(0, 0.05, (steps, 6))
    return np.column_stack([deltas, np.repeat(rng.integers(0, 2, steps // 10 + 1), 10)[:steps]])


def exhaustive(emission_cost, transition_cost):
    steps, states = emission_cost.shape
    paths = np.stack(np.meshgrid(*[range(states)] * steps, indexing="ij"), -1).reshape(-1, steps)
    costs = emission_cost[np.arange(steps), paths].sum(1) + transition_cost[paths[:, :-1], paths[:, 1:]].sum(1)
    return paths[costs.argmin()]


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_viterbi_finds_the_cheapest_of_all_paths(seed):
    rng = np.random.default_rng(seed)
    emission_cost, transition_cost = rng.random((6, 2, 3)), rng.random((3, 3))
    path = viterbi(emission_cost, transition_cost)
    for chain in range(2):
        np.testing.assert_array_equal(path[:, chain], exhaustive(emission_cost[:, chain], transition_cost))


def test_an_arm_that_does_nothing_is_stopped():
    assert HMM.label(np.zeros((20, 7)), unit_statistics()) == [Motion()] * 20


def test_a_motion_is_named_from_its_first_step_to_its_last():
    actions = np.random.default_rng(0).normal(0, 0.02, (90, 7))
    actions[:, 6] = 1
    actions[30:60, 1] -= 0.5
    sentences = [describe(motion) for motion in HMM.label(actions, unit_statistics())]
    assert sentences == ["stop"] * 30 + ["move right"] * 30 + ["stop"] * 30


@given(st.integers(0, 10_000), st.floats(0.1, 10.0))
@settings(max_examples=40, deadline=None)
def test_labels_do_not_depend_on_the_units(seed, factor):
    actions = episode(np.random.default_rng(seed), 100)
    other = actions * np.array([factor] * 6 + [1.0])
    labels = HMM.slots(actions, statistics_of("own units", [actions]))
    np.testing.assert_array_equal(labels, HMM.slots(other, statistics_of("other units", [other])))


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_negated_actions_flip_every_direction(seed):
    actions = episode(np.random.default_rng(seed), 60)
    negated = actions * np.array([-1.0] * 6 + [1.0])
    labels, flipped = (HMM.slots(one, unit_statistics())[:, [0, 1, 2, 4]] for one in (actions, negated))
    np.testing.assert_array_equal(labels, -flipped)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_episodes_labelled_together_get_the_labels_they_get_alone(seed):
    rng = np.random.default_rng(seed)
    episodes = {str(number): episode(rng, int(rng.integers(1, 60))) for number in range(5)}
    together = HMM.slots_of_episodes(episodes, unit_statistics())
    for actions, labels in zip(episodes.values(), together, strict=True):
        np.testing.assert_array_equal(HMM.slots(actions, unit_statistics()), labels)


def test_the_jitter_of_an_axis_that_is_never_used_is_no_motion():
    rng = np.random.default_rng(0)
    actions = episode(rng, 400)
    actions[:, 3] = rng.normal(0, 1e-3, 400)
    statistics = statistics_of("d", [actions])
    without = actions * [1, 1, 1, 0, 1, 1, 1]
    np.testing.assert_array_equal(HMM.slots(actions, statistics), HMM.slots(without, statistics))


def test_a_gripper_command_is_said_until_the_arm_moves_on():
    level = np.repeat([1.0, 0.0], [10, 20])
    motion = np.zeros((30, 5))
    motion[16:, 2] = 1
    assert np.flatnonzero(gripper_spans(level, motion, longest=15, hold=1)).tolist() == list(range(10, 16))


def test_a_gripper_that_moves_gradually_shows_its_own_span():
    level = np.concatenate([np.ones(10), np.linspace(1, 0, 9)[1:], np.zeros(10)])
    words = gripper_spans(level, np.zeros((28, 5)), longest=15, hold=1)
    assert np.flatnonzero(words == -1).tolist() == list(range(10, 18))


def test_bad_actions_are_named_by_data_set_episode_and_dimension():
    actions = np.zeros((5, 7))
    actions[:, 6] = 2
    with pytest.raises(ActionDataError, match=r"'unit', episode ep7: dimension gripper is 2.0 at step 0"):
        HMM.label(actions, unit_statistics(), episode="ep7")

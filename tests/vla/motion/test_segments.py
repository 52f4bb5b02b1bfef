"""The labeller of segments: evidence in units of the noise, the same labels in any unit, and what leads nowhere."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import ActionDataError
from vla.motion.language import Motion, describe
from vla.motion.segments import SegmentLabeller
from vla.statistics import ActionStatistics, statistics_of

SEGMENTS = SegmentLabeller()


def unit_statistics():
    ones = (1.0,) * 7
    return ActionStatistics("unit", ones, ones, ones, ones, (-1.0,) * 7, ones)


def episode(rng, steps):
    levels = rng.choice([-1.0, -0.4, 0.0, 0.0, 0.3, 1.0], size=(steps // 10 + 1, 6))
    deltas = np.repeat(levels, 10, axis=0)[:steps] + rng.normal(0, 0.05, (steps, 6))
    return np.column_stack([deltas, np.repeat(rng.integers(0, 2, steps // 10 + 1), 10)[:steps]])


def sentences(actions, labeller=SEGMENTS):
    said = [describe(motion) for motion in labeller.label(actions, unit_statistics())]
    return [(sentence, len(list(steps))) for sentence, steps in itertools.groupby(said)]


@pytest.mark.parametrize("steps", [1, 2, 20])
def test_an_arm_that_does_nothing_is_stopped(steps):
    assert SEGMENTS.label(np.zeros((steps, 7)), unit_statistics()) == [Motion()] * steps


def test_a_motion_is_named_from_its_first_step_to_its_last():
    actions = np.random.default_rng(0).normal(0, 0.02, (90, 7))
    actions[:, 6] = 1
    actions[30:60, 1] -= 0.5
    assert sentences(actions) == [("stop", 30), ("move right", 30), ("stop", 30)]


def test_a_slow_motion_is_named_where_no_noise_hides_it_and_not_where_noise_does():
    rng = np.random.default_rng(0)
    actions = np.zeros((120, 7))
    actions[20:60, 0], actions[80:110, 2] = 1.0, 0.06
    clear, noisy = (actions + np.pad(rng.normal(0, noise, (120, 6)), ((0, 0), (0, 1))) for noise in (0.002, 0.2))
    assert [said for said, _ in sentences(clear)] == ["stop", "move forward", "stop", "move up", "stop"]
    labels = SEGMENTS.slots(noisy, unit_statistics())
    assert (labels[20:60, 0] == 1).mean() > 0.9
    assert not labels[:, 2].any()


def test_an_arm_that_trembles_goes_nowhere():
    actions = np.zeros((120, 7))
    actions[10:40, 1] = 0.8
    actions[50:110, 0] = 0.2 * np.sin(2 * np.pi * np.arange(60) / 5)
    assert [said for said, _ in sentences(actions)] == ["stop", "move left", "stop"]


def test_axes_that_start_at_different_times_are_named_each_in_its_own():
    actions = np.random.default_rng(1).normal(0, 0.01, (90, 7))
    actions[:, 6] = 1
    actions[10:50, 0] += 0.6
    actions[30:70, 2] -= 0.4
    assert sentences(actions) == [
        ("stop", 10), ("move forward", 20), ("move forward down", 20), ("move down", 20), ("stop", 20)
    ]  # fmt: skip


def test_what_leaks_from_one_axis_into_another_is_no_motion():
    actions = np.zeros((80, 7))
    actions[20:60, 0], actions[20:60, 1] = 0.8, 0.8 * SEGMENTS.leak * 0.9
    assert [said for said, _ in sentences(actions)] == ["stop", "move forward", "stop"]


@given(st.integers(0, 10_000), st.floats(0.1, 10.0))
@settings(max_examples=20, deadline=None)
def test_labels_do_not_depend_on_the_units(seed, factor):
    actions = episode(np.random.default_rng(seed), 80)
    other = actions * np.array([factor] * 6 + [1.0])
    labels = SEGMENTS.slots(actions, statistics_of("own units", [actions]))
    np.testing.assert_array_equal(labels, SEGMENTS.slots(other, statistics_of("other units", [other])))


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_negated_actions_flip_every_direction(seed):
    actions = episode(np.random.default_rng(seed), 60)
    negated = actions * np.array([-1.0] * 6 + [1.0])
    labels, flipped = (SEGMENTS.slots(one, unit_statistics())[:, [0, 1, 2, 4]] for one in (actions, negated))
    np.testing.assert_array_equal(labels, -flipped)


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_forgetting_starts_changes_no_label(seed):
    actions = episode(np.random.default_rng(seed), 60)
    deltas = np.round(actions[:, :6], 3)
    np.testing.assert_array_equal(SEGMENTS._segmented(deltas), cheapest_of_all(SEGMENTS, deltas))


def cheapest_of_all(labeller, deltas):
    """Dynamic programming that forgets no start."""
    steps = len(deltas)
    noise = labeller.first_noise(deltas)
    best, came_from, moving = [0.0], [0], [np.zeros(6, dtype=bool)]
    for end in range(1, steps + 1):
        starts = range(max(0, end - labeller.longest), end)
        options = []
        for begin in starts:
            part = deltas[begin:end]
            cost, moves = labeller._costs(
                part.sum(0, keepdims=True), (part**2).sum(0, keepdims=True), np.array([end - begin]), noise
            )
            options.append((best[begin] + float(cost[0]) + labeller.border_cost, begin, moves[0]))
        chosen = min(options, key=lambda option: option[0])
        best.append(chosen[0])
        came_from.append(chosen[1])
        moving.append(chosen[2])
    words = np.zeros((steps, 6))
    while steps:
        begin = came_from[steps]
        words[begin:steps] = np.where(moving[steps], np.sign(deltas[begin:steps].sum(0)), 0)
        steps = begin
    return words


def test_bad_actions_are_named_by_data_set_episode_and_dimension():
    actions = np.zeros((5, 7))
    actions[:, 6] = 2
    with pytest.raises(ActionDataError, match=r"'unit', episode ep7: dimension gripper is 2.0 at step 0"):
        SEGMENTS.label(actions, unit_statistics(), episode="ep7")

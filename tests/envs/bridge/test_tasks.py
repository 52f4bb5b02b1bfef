"""The Bridge suite as data: official placements by id, seeded ones beyond them."""

import math

import numpy as np
import pytest

from envs.bridge.placements import Placement, original_rest
from envs.bridge.tasks import BRIDGE_TASKS, bridge_task, start_of
from evals.errors import UnknownNameError, UsageError
from tests.envs.bridge.episodes import CARROT, EGGPLANT, SPOON, STACK, SUITE, episode


def placement(task, number, seed=0):
    return start_of(BRIDGE_TASKS[task], episode(task, number, seed)).placement


def test_every_task_has_24_different_official_placements():
    for task in BRIDGE_TASKS:
        assert len(set(task.placements)) == SUITE.protocol.initial_states == 24


def test_an_episode_id_counts_pairs_of_corners_and_yaws_as_upstream_does():
    def by_upstream(number, half_edge, yaws):
        grid = (np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * 2 - 1) * half_edge + [-0.16, 0.0]
        pairs = [(a, b) for i, a in enumerate(grid) for j, b in enumerate(grid) if i != j]
        source, target = pairs[number % (len(pairs) * len(yaws)) // len(yaws)]
        return [*source, *target, yaws[number % len(yaws)]]

    for number in range(24):
        for task, yaws in ((SPOON, [0, math.pi / 2]), (CARROT, [math.pi, -math.pi / 2])):
            got = placement(task, number)
            assert [*got.source_xy, *got.target_xy, got.source_yaw] == pytest.approx(by_upstream(number, 0.075, yaws))
        got = placement(STACK, number)
        expected = by_upstream(number % 12, 0.05 if number < 12 else 0.1, [0])
        assert [*got.source_xy, *got.target_xy, got.source_yaw] == pytest.approx(expected)


def test_eggplants_start_on_upstreams_grid():
    assert placement(EGGPLANT, 0) == Placement((-0.115, 0.191), (-0.125, 0.025), 0.0)
    assert placement(EGGPLANT, 4) == Placement((-0.115, 0.201), (-0.125, 0.025), math.pi / 4)
    assert placement(EGGPLANT, 23) == Placement((-0.095, 0.221), (-0.125, 0.025), -math.pi / 4)


def test_official_eggplants_lie_where_the_original_lets_them_come_to_rest():
    assert np.array_equal(
        start_of(BRIDGE_TASKS[EGGPLANT], episode(EGGPLANT, 12)).rest, original_rest(BRIDGE_TASKS[EGGPLANT].name)[12]
    )
    assert start_of(BRIDGE_TASKS[EGGPLANT], episode(EGGPLANT, 24)).rest is None
    assert start_of(BRIDGE_TASKS[SPOON], episode(SPOON, 12)).rest is None


@pytest.mark.parametrize("task", range(4))
def test_placements_beyond_the_official_ones_are_seeded_and_stay_on_their_grounds(task):
    ours = BRIDGE_TASKS[task]
    drawn = [placement(task, number) for number in range(24, 64)]
    assert len(set(drawn)) == 40
    assert drawn == [placement(task, number) for number in range(24, 64)]
    assert placement(task, 24, seed=1) != placement(task, 24, seed=2)
    official = np.array([p.source_xy for p in ours.placements])
    xy = np.array([p.source_xy for p in drawn])
    assert np.all(xy >= official.min(0))
    assert np.all(xy <= official.max(0))
    apart = [math.dist(p.source_xy, p.target_xy) for p in drawn]
    assert min(apart) >= min(math.dist(p.source_xy, p.target_xy) for p in ours.placements) - 1e-9


def test_official_placements_do_not_depend_on_the_seed():
    assert placement(CARROT, 3, seed=1) == placement(CARROT, 3, seed=2)


def test_a_negative_episode_id_is_refused():
    with pytest.raises(UsageError, match=r"no initial state -1; the first one is 0"):
        placement(SPOON, -1)


def test_an_unknown_task_is_refused_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'widowx_stack_cube'"):
        bridge_task("widowx_stack_cubes")


def test_the_protocol_says_what_the_official_evaluation_does():
    assert SUITE.protocol.max_steps == (60, 60, 60, 120)
    assert SUITE.protocol.success == "last"
    assert [task.instruction for task in SUITE.tasks] == [
        "put the spoon on the towel",
        "put carrot on plate",
        "stack the green block on the yellow block",
        "put eggplant into yellow basket",
    ]
    assert SUITE.action_space.rotation == "axis_angle"
    assert (SUITE.action_space.gripper_open, SUITE.action_space.gripper_closed) == (1, -1)

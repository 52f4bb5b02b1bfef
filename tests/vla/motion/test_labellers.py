"""The raw and the adaptive labeller: what each equation promises, and what rescaling must not change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.errors import ActionDataError
from vla.motion.labellers import AdaptiveLabeller, RawLabeller
from vla.motion.language import Motion, describe
from vla.statistics import ActionStatistics, statistics_of

ADAPTIVE = [AdaptiveLabeller(anchor=anchor) for anchor in ("future", "past", "centered")]
STEPS = st.integers(min_value=1, max_value=60)


def unit_statistics(scale=1.0):
    vector = (scale,) * 7
    return ActionStatistics("unit", vector, vector, vector, vector, tuple(-v for v in vector), vector)


def episode(rng, steps, scale=1.0):
    """Piecewise constant velocity with jitter: what a labeller sees."""
    levels = rng.choice([-1.0, -0.4, 0.0, 0.0, 0.3, 1.0], size=(steps // 8 + 1, 6))
    deltas = np.repeat(levels, 8, axis=0)[:steps] + rng.normal(0, 0.05, (steps, 6))
    gripper = np.repeat(rng.integers(0, 2, steps // 8 + 1), 8)[:steps]
    return np.column_stack([deltas * scale, gripper])


def constant(dimension, speed, steps=30):
    actions = np.zeros((steps, 7))
    actions[:, dimension] = speed
    return actions


@pytest.mark.parametrize("labeller", [RawLabeller(), *ADAPTIVE])
def test_an_arm_that_does_nothing_is_stopped(labeller):
    assert labeller.label(np.zeros((20, 7)), unit_statistics()) == [Motion()] * 20


@pytest.mark.parametrize("labeller", [RawLabeller(), *ADAPTIVE])
@pytest.mark.parametrize(
    ("dimension", "sentence"),
    [
        (0, "move forward"),
        (1, "move left"),
        (2, "move up"),
        (3, "tilt up"),
        (4, "tilt up"),
        (5, "rotate counterclockwise"),
    ],
)
def test_a_steady_motion_is_named_by_its_axis(labeller, dimension, sentence):
    labels = labeller.label(constant(dimension, 0.8), unit_statistics())
    assert {describe(motion) for motion in labels[10:-10]} == {sentence}


@pytest.mark.parametrize("labeller", ADAPTIVE)
def test_a_slow_motion_is_found_by_the_slow_window_and_a_trembling_one_is_not(labeller):
    slow = constant(0, 0.2)
    trembling = slow * np.where(np.arange(30) % 2, 1, -1)[:, None]
    assert labeller.label(slow, unit_statistics())[15] == Motion(x=1)
    assert set(labeller.label(trembling, unit_statistics())) == {Motion()}


def test_the_threshold_grows_with_speed():
    rng = np.random.default_rng(0)
    fast = constant(0, 1.0, 200)
    fast[:, 1] = rng.normal(0, 0.3, 200)
    words = {beta: AdaptiveLabeller(beta=beta).slots(fast, unit_statistics())[:, 1] for beta in (0.0, 2.0)}
    assert np.count_nonzero(words[2.0]) < np.count_nonzero(words[0.0])


@pytest.mark.parametrize("anchor", ["future", "past", "centered"])
def test_a_flickering_gripper_command_is_one_event(anchor):
    actions = np.zeros((60, 7))
    actions[30:, 6] = 1
    actions[[28, 33], 6] = [1, 0]
    gripper = AdaptiveLabeller(anchor=anchor).slots(actions, unit_statistics())[:, 5]
    changes = np.flatnonzero(np.diff(gripper))
    assert len(changes) == 2
    assert set(gripper) == {0, 1}


def test_a_gripper_event_is_said_before_it_happens_with_a_future_anchor_and_after_it_with_a_past_one():
    actions = np.zeros((40, 7))
    actions[20:, 6] = 1
    said = {
        anchor: np.flatnonzero(AdaptiveLabeller(anchor=anchor, mid=4).slots(actions, unit_statistics())[:, 5])
        for anchor in ("future", "past")
    }
    assert said["future"].tolist() == [17, 18, 19, 20]
    assert said["past"].tolist() == [20, 21, 22, 23]


@given(st.integers(0, 10_000), st.floats(0.1, 10.0))
@settings(max_examples=60, deadline=None)
def test_adaptive_labels_do_not_depend_on_the_units(seed, factor):
    actions = episode(np.random.default_rng(seed), 120)
    factors = np.array([factor] * 6 + [1.0])
    for labeller in ADAPTIVE:
        labels = labeller.slots(actions, statistics_of("own units", [actions]))
        rescaled = labeller.slots(actions * factors, statistics_of("other units", [actions * factors]))
        np.testing.assert_array_equal(labels, rescaled)


@given(st.integers(0, 10_000), st.floats(0.1, 10.0))
@settings(max_examples=60, deadline=None)
def test_labels_of_quantised_commands_do_not_depend_on_the_units(seed, factor):
    """Ties of a displacement with a threshold are common here, and they must all fall the same way."""
    rng = np.random.default_rng(seed)
    actions = np.column_stack([rng.integers(-10, 11, (120, 6)) / 10, rng.integers(0, 2, 120)])
    factors = np.array([factor] * 6 + [1.0])
    labels = AdaptiveLabeller().slots(actions, statistics_of("own units", [actions]))
    rescaled = AdaptiveLabeller().slots(actions * factors, statistics_of("other units", [actions * factors]))
    np.testing.assert_array_equal(labels, rescaled)


def test_raw_labels_do_depend_on_the_units():
    actions = episode(np.random.default_rng(0), 120)
    statistics = unit_statistics()
    assert (RawLabeller().slots(actions, statistics) != RawLabeller().slots(actions * 0.01, statistics)).any()


@given(arrays(np.float64, st.tuples(STEPS, st.just(6)), elements=st.floats(-1, 1)))
@settings(max_examples=60, deadline=None)
def test_negated_actions_flip_every_direction(deltas):
    actions = np.column_stack([deltas, np.zeros(len(deltas))])
    for labeller in (RawLabeller(), *ADAPTIVE):
        slots, flipped = (labeller.slots(sign * actions, unit_statistics())[:, [0, 1, 2, 4]] for sign in (1, -1))
        np.testing.assert_array_equal(slots, -flipped)


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_time_reversal_flips_directions(seed):
    """An episode played backwards negates and reverses its deltas; the future becomes the past.

    Eq. 1 looks at the past alone, so this holds for a fixed threshold; the slots of tilt and gripper are left out
    because roll and pitch share one word and a level has no derivative at an episode's ends.
    """
    actions = episode(np.random.default_rng(seed), 90)
    backwards = np.column_stack([-actions[::-1, :6], actions[::-1, 6]])
    columns = [0, 1, 2, 4]
    for anchor, mirrored in (("future", "past"), ("past", "future"), ("centered", "centered")):
        windows = {"fast": 3, "mid": 5, "slow": 9, "beta": 0.0}
        forwards = AdaptiveLabeller(anchor=anchor, **windows).slots(actions, unit_statistics())[:, columns]
        reversed_ = AdaptiveLabeller(anchor=mirrored, **windows).slots(backwards, unit_statistics())[:, columns]
        np.testing.assert_array_equal(forwards, -reversed_[::-1])


@given(st.integers(0, 10_000), st.floats(0.01, 2.0), st.floats(0.0, 2.0))
@settings(max_examples=60, deadline=None)
def test_a_threshold_raised_never_fills_a_slot(seed, threshold, more):
    actions = episode(np.random.default_rng(seed), 90)
    pairs = [(RawLabeller(threshold), RawLabeller(threshold + more))]
    pairs += [
        (
            AdaptiveLabeller(threshold, threshold, detectors=(detector,)),
            AdaptiveLabeller(threshold + more, threshold + more, detectors=(detector,)),
        )
        for detector in ("fast", "mid", "slow")
    ]
    for lower, higher in pairs:
        low, high = (labeller.slots(actions, unit_statistics())[:, :5] != 0 for labeller in (lower, higher))
        assert not (high & ~low).any()


def test_the_affine_normalisation_takes_a_resting_arm_for_a_moving_one():
    lopsided = ActionStatistics("lopsided", *[(0.0,) * 7] * 4, (-0.2,) * 7, (1.0,) * 7)
    resting = np.zeros((30, 7))
    assert set(AdaptiveLabeller().label(resting, lopsided)) == {Motion()}
    assert Motion() not in AdaptiveLabeller(normalization="affine").label(resting, lopsided)[:-2]


@pytest.mark.parametrize("labeller", [RawLabeller(), AdaptiveLabeller()])
def test_an_episode_of_one_step_is_labelled(labeller):
    assert len(labeller.label(np.zeros((1, 7)), unit_statistics())) == 1


@pytest.mark.parametrize("labeller", [RawLabeller(), AdaptiveLabeller()])
def test_bad_actions_are_named_by_data_set_episode_and_dimension(labeller):
    actions = np.zeros((5, 7))
    actions[3, 2] = np.nan
    with pytest.raises(ActionDataError, match="'unit', episode ep7: dimension z is nan at step 3"):
        labeller.label(actions, unit_statistics(), episode="ep7")


def test_windows_that_do_not_nest_are_refused():
    with pytest.raises(ValueError, match="fast=5, mid=3"):
        AdaptiveLabeller(fast=5, mid=3)

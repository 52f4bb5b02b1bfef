"""Actions survive the way to tokens and back; statistics are what NumPy and OpenVLA compute."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla.actions import ActionTokenizer, OpenVLAActionTokenizer, normalize_affine, normalize_scale, unnormalize_affine
from vla.errors import ActionDataError
from vla.statistics import (
    bounds,
    check_actions,
    rare_in_words,
    read_statistics,
    statistics_from_json,
    statistics_of,
    with_state,
    write_statistics,
)

NORMALIZED = arrays(np.float64, st.tuples(st.integers(1, 20), st.just(7)), elements=st.floats(-1, 1))


def random_episodes(seed, count=6):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, count)
    return [np.column_stack([rng.normal(0, 2, (n, 6)), rng.uniform(0, 1, n)]).astype(np.float32) for n in lengths]


@given(NORMALIZED)
def test_the_tokenizer_round_trip_is_within_one_256th(normalized):
    tokenizer = ActionTokenizer(first_token_id=151_665)
    ids = tokenizer.encode(normalized)
    assert ids.min() >= 151_665
    assert ids.max() <= 151_665 + 255
    rounding = np.finfo(float).eps  # of n + 1, for values within 1e-16 of a bin's edge
    assert np.abs(tokenizer.decode(ids) - normalized).max() <= 1 / 256 + rounding


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=20))
def test_tokens_are_monotone_and_their_centres_are_fixed_points(values):
    tokenizer = ActionTokenizer()
    assert (np.diff(tokenizer.encode(np.sort(values))) >= 0).all()
    assert tokenizer.encode(tokenizer.decode(np.arange(256))).tolist() == list(range(256))


def test_token_names_are_the_papers():
    names = ActionTokenizer().token_names
    assert (names[0], names[-1], len(names)) == ("<extra_0>", "<extra_255>", 256)


@given(NORMALIZED)
def test_the_openvla_tokenizer_computes_what_the_reference_does(normalized):
    """The reference, written out from prismatic/vla/action_tokenizer.py."""
    bins = np.linspace(-1, 1, 256)
    centers = (bins[:-1] + bins[1:]) / 2.0
    ids = 32_000 - np.digitize(np.clip(normalized, -1.0, 1.0), bins)
    decoded = centers[np.clip(32_000 - ids - 1, 0, centers.shape[0] - 1)]
    tokenizer = OpenVLAActionTokenizer(vocab_size=32_000)
    np.testing.assert_array_equal(tokenizer.encode(normalized), ids)
    np.testing.assert_array_equal(tokenizer.decode(ids), decoded)


def test_the_openvla_tokenizer_keeps_its_off_by_one_at_the_upper_edge():
    tokenizer = OpenVLAActionTokenizer()
    one, below = tokenizer.encode([1.0, 0.999])
    assert (one, below) == (31_744, 31_745)
    assert tokenizer.decode(one) == tokenizer.decode(below)


@pytest.mark.parametrize("tokenizer", [ActionTokenizer(first_token_id=100), OpenVLAActionTokenizer()])
def test_what_is_no_action_token_is_not_decoded(tokenizer):
    with pytest.raises(ActionDataError, match="no action tokens"):
        tokenizer.decode([5])
    with pytest.raises(ActionDataError, match=r"nan at index \(1,\)"):
        tokenizer.encode([0.0, np.nan])


@given(st.integers(0, 1000), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_statistics_do_not_depend_on_the_order_of_episodes(seed, cut):
    episodes = random_episodes(seed)
    whole = statistics_of("d", episodes)
    assert statistics_of("d", episodes[cut:] + episodes[:cut]) == whole
    assert statistics_of("d", reversed(episodes)) == whole


def test_statistics_are_numpys():
    episodes = random_episodes(0)
    steps = np.concatenate(episodes).astype(np.float64)
    statistics = statistics_of("d", episodes)
    np.testing.assert_allclose(statistics.q01, np.quantile(steps, 0.01, axis=0))
    np.testing.assert_allclose(statistics.q99, np.quantile(steps, 0.99, axis=0))
    np.testing.assert_allclose(statistics.std, steps.std(axis=0))
    assert (statistics.num_transitions, statistics.num_trajectories) == (len(steps), len(episodes))


def test_statistics_survive_a_file_in_openvlas_layout(tmp_path):
    counted = statistics_of("bridge", random_episodes(1))
    statistics = with_state(counted, [np.arange(30.0).reshape(10, 3)])
    write_statistics(tmp_path / "dataset_statistics.json", [statistics])
    assert read_statistics(tmp_path / "dataset_statistics.json") == {"bridge": statistics}
    layout = json.loads((tmp_path / "dataset_statistics.json").read_text())["bridge"]
    assert set(layout["proprio"]) == {"q01", "q99"}
    assert set(layout["action"]) == {"mean", "std", "min", "max", "q01", "q99", "mask"}


def test_published_statistics_are_read(shared):
    published = json.loads((shared / "data" / "oxe_action_stats.json").read_text())["datasets"]
    openvlas = {
        name: entry["records"][0] for name, entry in published.items() if "q01" in entry["records"][0]["action"]
    }
    statistics = [statistics_from_json(name, record) for name, record in openvlas.items()]
    assert len(statistics) >= 25
    assert all(one.num_transitions > 0 and not one.mask[6] for one in statistics)


def test_a_missing_vector_is_named(tmp_path):
    path = tmp_path / "dataset_statistics.json"
    path.write_text('{"toto": {"action": {"mean": [0], "std": [0], "min": [0], "max": [0]}}}')
    with pytest.raises(ActionDataError, match="'toto' lack action q01, q99"):
        read_statistics(path)


def test_the_affine_map_takes_quantiles_to_the_ends_and_back():
    episodes = random_episodes(2)
    statistics = statistics_of("d", episodes)
    ends = normalize_affine([statistics.q01, statistics.q99], statistics)
    np.testing.assert_allclose(ends[:, :6], [[-1] * 6, [1] * 6])
    inside = np.clip(episodes[0], statistics.q01, statistics.q99)
    np.testing.assert_allclose(unnormalize_affine(normalize_affine(inside, statistics), statistics), inside, atol=1e-12)


def test_the_gripper_is_not_normalised_by_quantiles():
    statistics = statistics_of("d", random_episodes(3))
    levels = np.zeros((3, 7))
    levels[:, 6] = [0, 0.5, 1]
    assert normalize_affine(levels, statistics)[:, 6].tolist() == [-1, 0, 1]
    assert normalize_scale(levels, statistics)[:, 6].tolist() == [0, 0.5, 1]


def test_a_constant_dimension_normalises_to_zero_and_comes_back():
    actions = random_episodes(4)[0]
    actions[:, 3] = 0.25
    statistics = statistics_of("d", [actions])
    normalized = normalize_affine(actions, statistics)
    assert (normalized[:, 3] == 0).all()
    assert (unnormalize_affine(normalized, statistics)[:, 3] == 0.25).all()


def test_scaling_keeps_zero_at_zero_whatever_the_quantiles():
    actions = np.abs(random_episodes(5)[0])
    statistics = statistics_of("d", [actions])
    assert (normalize_scale(np.zeros((1, 7)), statistics) == 0).all()
    assert (normalize_affine(np.zeros((1, 7)), statistics)[:, :6] < -0.9).all()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((3, 6)), r"'d', episode e1: actions have shape \(3, 6\)"),
        (np.zeros((0, 7)), "'d', episode e1: the episode has no step"),
        (np.full((1, 7), np.inf), "'d', episode e1: dimension x is inf at step 0"),
        (np.array([[0, 0, 0, 0, 0, 0, -1.0]]), "dimension gripper is -1.0 at step 0; a level in"),
    ],
)
def test_bad_actions_are_named(actions, message):
    with pytest.raises(ActionDataError, match=message):
        check_actions(actions, "d", "e1")


def test_statistics_of_nothing_are_refused():
    with pytest.raises(ActionDataError, match="'d' has no episode"):
        statistics_of("d", [])


def rarely_turning(value=0.5, jitter=0.0):
    """2000 steps; yaw stands still (or jitters) but for eight of them."""
    steps = np.random.default_rng(3).normal(0, 0.3, (2000, 7))
    steps[:, 3:5] = 0.0
    steps[:, 5] = np.random.default_rng(4).uniform(-jitter, jitter, 2000) if jitter else 0.0
    steps[20:28, 5] = value
    steps[:, 6] = np.arange(2000) % 2
    return steps


@pytest.mark.parametrize("jitter", [0.0, 1e-5])
@pytest.mark.parametrize("value", [0.5, -0.5])
def test_a_turn_in_fewer_than_one_step_of_a_hundred_can_be_said_and_is_remarked_on(value, jitter):
    steps = rarely_turning(value, jitter)
    statistics = statistics_of("knobs", [steps])
    tokens = ActionTokenizer()
    back = unnormalize_affine(tokens.decode(tokens.encode(normalize_affine(steps, statistics))), statistics)
    np.testing.assert_allclose(back[:, 5], steps[:, 5], atol=0.5 / 128)
    assert normalize_scale(steps, statistics)[20, 5] == np.sign(value)
    assert back[0, 3] == 0
    [line] = rare_in_words(statistics)
    assert line.startswith("yaw moves in fewer than 1 % of the steps")


def test_dimensions_that_move_keep_their_quantiles():
    statistics = statistics_of("cups", [np.random.default_rng(0).normal(0, 1, (500, 6)) @ np.eye(6, 7)])
    low, high = bounds(statistics)
    np.testing.assert_array_equal(low, statistics.q01)
    np.testing.assert_array_equal(high, statistics.q99)
    assert rare_in_words(statistics) == []

"""Every action layout, on a record of the features that the TFDS catalog documents for the dataset, read from disk."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.vla.data import tfds_writer as tfds
from vla.data.errors import DataError
from vla.data.oxe import (
    LAYOUTS,
    euler_xyz_from_quat_xyzw,
    gripper_from_relative,
    gripper_settled,
    layout_named,
)
from vla.data.rlds import read_rlds

T = 6
RNG = np.random.default_rng(5)
MOVE = RNG.normal(0, 0.02, (T, 3)).astype(np.float32)
TURN = RNG.normal(0, 0.1, (T, 3)).astype(np.float32)
RELATIVE = np.array([0, 0, 1, 0, -1, 0], np.float32)
LEVEL_OF_RELATIVE = [1, 1, 0, 0, 1, 1]
COMMAND = np.array([-1, -1, 1, 1, 1, -1], np.float32)
LEVEL_OF_COMMAND = [1, 1, 0, 0, 0, 1]
IMAGES = [tfds.jpeg(40 * step) for step in range(T)]
TASK = [b"Pick up the cup."] * T
TASK_IN_OBSERVATION = "observation/natural_language_instruction"
VECTORS = {"action/world_vector": MOVE, "action/rotation_delta": TURN}


def delta(gripper, move=MOVE, turn=TURN):
    return np.concatenate([move, turn, np.array(gripper, np.float32)[:, None]], axis=1)


def pose(size: int) -> np.ndarray:
    return RNG.normal(0, 0.3, (T, size)).astype(np.float32)


BRIDGE_STATE = np.concatenate([np.cumsum(MOVE, 0), np.cumsum(TURN, 0), np.ones((T, 1))], axis=1).astype(np.float32)
TACO = np.concatenate([MOVE, TURN, -COMMAND[:, None]], axis=1)
LAST_CLOSES = np.concatenate([MOVE, TURN, COMMAND[:, None]], axis=1)
QUATERNIONS = Rotation.from_rotvec(TURN).as_quat().astype(np.float32)
EULER = Rotation.from_quat(QUATERNIONS).as_euler("xyz").astype(np.float32)
BC_Z_FUTURE = {
    "action/future/xyz_residual": np.concatenate([MOVE, pose(27)], axis=1),
    "action/future/axis_angle_residual": np.concatenate([TURN, pose(27)], axis=1),
    "action/future/target_close": np.tile((COMMAND > 0).astype(np.int64)[:, None], (1, 10)),
}

RECORDS = {
    "bridge_orig": (
        {
            "action": np.concatenate([MOVE, TURN, np.array([[1, 1, 0.6, 0, 0, 1]]).T], axis=1).astype(np.float32),
            "observation/state": BRIDGE_STATE,
            "observation/image_0": IMAGES,
            "language_instruction": TASK,
        },
        delta([1, 0, 0, 0], MOVE[2:], TURN[2:]),
    ),
    "bridge": (
        {
            **VECTORS,
            "action/open_gripper": np.array([1, 1, 0, 0, 0, 1]),
            "observation/state": BRIDGE_STATE,
            "observation/image": IMAGES,
            TASK_IN_OBSERVATION: TASK,
        },
        delta([1, 0, 0, 0], MOVE[2:], TURN[2:]),
    ),
    "furniture_bench_dataset_converted_externally_to_rlds": (
        {
            "action": np.concatenate([MOVE, QUATERNIONS, COMMAND[:, None]], axis=1),
            "observation/state": pose(35),
            "observation/image": IMAGES,
            "observation/wrist_image": IMAGES,
            "language_instruction": TASK,
        },
        delta(LEVEL_OF_COMMAND, turn=EULER),
    ),
    "jaco_play": (
        {
            "action/world_vector": MOVE,
            "action/gripper_closedness_action": RELATIVE[:, None],
            "observation/end_effector_cartesian_pos": pose(7),
            "observation/image": IMAGES,
            "observation/image_wrist": IMAGES,
            TASK_IN_OBSERVATION: TASK,
        },
        delta(LEVEL_OF_RELATIVE, turn=np.zeros((T, 3), np.float32)),
    ),
    "fractal20220817_data": (
        {
            **VECTORS,
            "action/gripper_closedness_action": RELATIVE[:, None],
            "observation/base_pose_tool_reached": pose(7),
            "observation/gripper_closed": pose(1),
            "observation/image": IMAGES,
            TASK_IN_OBSERVATION: TASK,
        },
        delta(LEVEL_OF_RELATIVE),
    ),
    "kuka": (
        {
            **VECTORS,
            "action/gripper_closedness_action": RELATIVE[:, None],
            "observation/clip_function_input/base_pose_tool_reached": pose(7),
            "observation/gripper_closed": pose(1),
            "observation/image": IMAGES,
            TASK_IN_OBSERVATION: TASK,
        },
        delta(LEVEL_OF_RELATIVE),
    ),
    "taco_play": (
        {
            "action/rel_actions_world": TACO,
            "observation/robot_obs": pose(15),
            "observation/rgb_static": IMAGES,
            "observation/rgb_gripper": IMAGES,
            TASK_IN_OBSERVATION: TASK,
        },
        delta(LEVEL_OF_COMMAND),
    ),
    "berkeley_autolab_ur5": (
        {
            **VECTORS,
            "action/gripper_closedness_action": RELATIVE,
            "observation/robot_state": pose(15),
            "observation/image": IMAGES,
            "observation/hand_image": IMAGES,
            TASK_IN_OBSERVATION: TASK,
        },
        delta(LEVEL_OF_RELATIVE),
    ),
    "viola": (
        {
            **VECTORS,
            "action/gripper_closedness_action": COMMAND,
            "observation/joint_states": pose(7),
            "observation/gripper_states": pose(1),
            "observation/agentview_rgb": IMAGES,
            "observation/eye_in_hand_rgb": IMAGES,
            TASK_IN_OBSERVATION: TASK,
        },
        delta(LEVEL_OF_COMMAND),
    ),
    "roboturk": (
        {
            **VECTORS,
            "action/gripper_closedness_action": COMMAND[:, None],
            "observation/front_rgb": IMAGES,
            TASK_IN_OBSERVATION: TASK,
        },
        delta(LEVEL_OF_COMMAND),
    ),
    "berkeley_cable_routing": (
        {**VECTORS, "observation/robot_state": pose(7), "observation/image": IMAGES, TASK_IN_OBSERVATION: TASK},
        delta([0] * T),
    ),
    "bc_z": (
        {
            **BC_Z_FUTURE,
            "observation/present/xyz": pose(3),
            "observation/present/axis_angle": pose(3),
            "observation/present/sensed_close": pose(1),
            "observation/image": IMAGES,
            TASK_IN_OBSERVATION: TASK,
        },
        delta(LEVEL_OF_COMMAND),
    ),
    "utaustin_mutex": (
        {
            "action": LAST_CLOSES,
            "observation/state": pose(24),
            "observation/image": IMAGES,
            "observation/wrist_image": IMAGES,
            "language_instruction": TASK,
        },
        delta(LEVEL_OF_COMMAND),
    ),
    "libero_spatial_no_noops": (
        {
            "action": LAST_CLOSES,
            "observation/state": pose(8),
            "observation/image": IMAGES,
            "observation/wrist_image": IMAGES,
            "language_instruction": TASK,
        },
        delta(LEVEL_OF_COMMAND),
    ),
    "standard": (
        {
            "action": delta(LEVEL_OF_COMMAND),
            "observation/state": pose(8),
            "observation/image": IMAGES,
            "language_instruction": TASK,
        },
        delta(LEVEL_OF_COMMAND),
    ),
}
SAME_AS = {
    "bridge_dataset": "bridge_orig",
    "libero": "libero_spatial_no_noops",
    **{f"libero_{suite}_no_noops": "libero_spatial_no_noops" for suite in ("object", "goal", "10")},
    **{f"austin_{set}_dataset_converted_externally_to_rlds": "utaustin_mutex" for set in ("buds", "sailor", "sirius")},
}


def specs_of(features: dict) -> dict:
    specs = {}
    for name, values in features.items():
        if isinstance(values, list):
            specs[name] = tfds.STRING if "instruction" in name else tfds.IMAGE
        else:
            specs[name] = tfds.tensor(values.shape[1:], "float32" if values.dtype.kind == "f" else "int64")
    return specs


@pytest.mark.parametrize("name", RECORDS)
def test_a_documented_record_becomes_deltas_with_the_gripper_open_at_one(name: str, tmp_path: Path):
    features, expected = RECORDS[name]
    tfds.write_rlds(tmp_path, name, [features], specs_of(features))
    (episode,) = read_rlds(tmp_path)
    layout = layout_named(name, tmp_path)
    np.testing.assert_allclose(episode.actions, expected, atol=1e-6)
    assert episode.actions.dtype == np.float32
    assert episode.dataset == name
    assert episode.instruction == "Pick up the cup."
    assert set(episode.cameras) == {ours for ours, theirs in layout.cameras.items() if theirs in features}
    first = 40 * (1 if name.startswith("bridge") else 0)
    assert all(abs(int(frames[0].mean()) - first) <= 1 for frames in episode.cameras.values())
    assert episode.control_hz == layout.control_hz


def test_every_layout_has_a_record_in_this_file():
    assert {layout.name for layout in LAYOUTS} == {*RECORDS, *SAME_AS}
    for name, other in SAME_AS.items():
        assert layout_named(name, Path()).actions is layout_named(other, Path()).actions


def test_a_tensor_that_is_stored_compressed_is_unpacked(tmp_path: Path):
    features, expected = RECORDS["kuka"]
    key = "observation/clip_function_input/base_pose_tool_reached"
    packed = [zlib.compress(row.tobytes()) for row in features[key]]
    specs = {**specs_of(features), key: tfds.tensor((7,), "float32", "zlib")}
    tfds.write_rlds(tmp_path, "kuka", [{**features, key: packed}], specs)
    (episode,) = read_rlds(tmp_path)
    np.testing.assert_array_equal(episode.state[:, :7], features[key])
    np.testing.assert_allclose(episode.actions, expected)


def test_an_unknown_layout_is_refused_and_none_is_proposed_by_its_name():
    with pytest.raises(DataError, match=r"no action layout .*'jaco_plaz'\. Say which one holds with --layout"):
        layout_named("jaco_plaz", Path("somewhere"))


def test_a_relative_gripper_is_open_before_it_first_closes_and_closed_before_it_first_opens():
    assert gripper_from_relative(np.array([0, 0.05, 1, 0], np.float32)).tolist() == [1, 1, 0, 0]
    assert gripper_from_relative(np.array([0, 0, -1, 0], np.float32)).tolist() == [0, 0, 1, 1]
    assert gripper_from_relative(np.zeros(3, np.float32)).tolist() == [1, 1, 1]


def test_a_gripper_on_its_way_has_the_level_that_it_reaches():
    assert gripper_settled(np.array([1, 0.6, 0.3, 0, 0.4, 1], np.float32)).tolist() == [1, 0, 0, 0, 1, 1]
    assert gripper_settled(np.array([1, 0.7, 0.5], np.float32)).tolist() == [1, 0.5, 0.5]


def test_bridge_angles_are_differenced_modulo_a_turn():
    state = np.zeros((5, 7), np.float32)
    state[:, 5] = [3.0, 3.1, -3.1, -3.0, -2.9]
    actions = layout_named("bridge_orig", Path()).actions(
        {"observation/state": state, "action": np.ones((5, 7), np.float32)}
    )
    np.testing.assert_allclose(actions[:, 5], [2 * np.pi - 6.2, 0.1, 0.1], atol=1e-6)


@given(st.tuples(*[st.floats(-0.8, 0.8)] * 3))
def test_euler_angles_of_a_small_rotation_are_those_of_scipy(rotation_vector):
    rotation = Rotation.from_rotvec(rotation_vector)
    ours = euler_xyz_from_quat_xyzw(rotation.as_quat()[None])[0]
    np.testing.assert_allclose(ours, rotation.as_euler("xyz"), atol=1e-6)

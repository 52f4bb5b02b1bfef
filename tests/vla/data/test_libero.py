"""LIBERO's HDF5 demonstrations, written here after the layout of its own collection script."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from vla.data.errors import DataError
from vla.data.libero_hdf5 import moving_steps, read_libero_hdf5


def write_task(path: Path, demos: list[np.ndarray], instruction: str | None = "put the bowl on the plate") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if instruction:
            data.attrs["problem_info"] = json.dumps({"language_instruction": instruction})
        for number, actions in enumerate(demos):
            steps = len(actions)
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = actions
            demo["obs/agentview_rgb"] = np.zeros((steps, 8, 8, 3), np.uint8)
            demo["obs/agentview_rgb"][:, 0, 0] = np.arange(steps)[:, None]
            demo["obs/eye_in_hand_rgb"] = np.zeros((steps, 8, 8, 3), np.uint8)
            demo["obs/ee_states"] = np.tile(np.arange(steps)[:, None], (1, 6)).astype(float)
            demo["obs/gripper_states"] = np.zeros((steps, 2))


def moves(steps: int, gripper: float = -1.0) -> np.ndarray:
    actions = np.full((steps, 7), 0.3)
    actions[:, 6] = gripper
    return actions


def test_the_gripper_is_turned_and_the_image_too(tmp_path: Path):
    actions = moves(4)
    actions[2:, 6] = 1
    write_task(tmp_path / "libero_goal/put_it_demo.hdf5", [actions])
    (episode,) = read_libero_hdf5(tmp_path / "libero_goal")
    assert episode.actions[:, 6].tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(episode.actions[:, :6], 0.3)
    image = episode.cameras["agentview"][3]
    assert image[7, 7].tolist() == [3, 3, 3]
    assert image[0, 0].tolist() == [0, 0, 0]
    assert episode.dataset == "libero_goal"
    assert episode.instruction == "put the bowl on the plate"
    assert episode.state.shape == (4, 8)
    assert episode.control_hz == 20


def test_steps_that_do_nothing_are_left_out_with_their_images_and_states(tmp_path: Path):
    actions = moves(6)
    actions[[0, 3], :6] = 0
    actions[4, :6] = 0
    actions[4:, 6] = 1
    write_task(tmp_path / "a_demo.hdf5", [actions])
    (episode,) = read_libero_hdf5(tmp_path)
    assert episode.state[:, 0].tolist() == [1, 2, 4, 5]
    assert [int(episode.cameras["agentview"][step].max()) for step in range(4)] == [1, 2, 4, 5]
    (whole,) = read_libero_hdf5(tmp_path, keep_noops=True)
    assert len(whole) == 6


def test_a_still_step_that_moves_the_gripper_is_kept():
    actions = np.zeros((4, 7))
    actions[0, 0] = 1
    actions[:, 6] = [-1, -1, 1, 1]
    assert moving_steps(actions).tolist() == [0, 2]


def test_without_the_attribute_the_instruction_comes_from_the_file_name(tmp_path: Path):
    write_task(tmp_path / "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", [moves(2)], instruction=None)
    (episode,) = read_libero_hdf5(tmp_path)
    assert episode.instruction == "turn on the stove"


def test_demos_come_in_the_order_of_their_numbers(tmp_path: Path):
    write_task(tmp_path / "a_demo.hdf5", [moves(number + 1) for number in range(11)])
    assert [len(episode) for episode in read_libero_hdf5(tmp_path)] == list(range(1, 12))


def test_broken_files_and_demos_are_named_and_can_be_left_out(tmp_path: Path):
    write_task(tmp_path / "a_demo.hdf5", [moves(2), moves(3), np.full((2, 7), np.nan)])
    with h5py.File(tmp_path / "a_demo.hdf5", "a") as file:
        del file["data/demo_0/obs/eye_in_hand_rgb"]
    (tmp_path / "b_demo.hdf5").write_bytes(b"cut")
    bad: list[DataError] = []
    assert [len(episode) for episode in read_libero_hdf5(tmp_path, on_bad=bad.append)] == [3]
    assert "a_demo.hdf5, episode demo_0, field 'eye_in_hand_rgb': is missing" in str(bad[0])
    assert "a_demo.hdf5, episode demo_2, field 'action'" in str(bad[1])
    assert "b_demo.hdf5: is no readable HDF5 file" in str(bad[2])
    with pytest.raises(DataError, match="demo_0"):
        list(read_libero_hdf5(tmp_path))


def test_a_folder_without_files_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no \*\.hdf5 file"):
        list(read_libero_hdf5(tmp_path))

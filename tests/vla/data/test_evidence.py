"""A layout is believed as far as the numbers agree with it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla.data.convention import Convention, view_of
from vla.data.demonstration import Demonstration
from vla.data.errors import ContradictedLayoutError, DataError, UnknownLayoutError, Where
from vla.data.read import ReadOptions, check_layouts, layout_for, read_episodes
from vla.data.rlds import dataset_name
from vla.data.whole import SkipOptions, read_whole

SIGNED = {"open": -1.0, "closed": 1.0}
LEVEL = {"open": 1.0, "closed": 0.0}


def moves(code, steps=16, scale=0.3, order=("open", "closed"), seed=0):
    """`[T, 7]` deltas; the gripper is in the first state for half the steps."""
    actions = np.random.default_rng(seed).normal(0, scale, (steps, 7)).astype(np.float32)
    actions[:, 6] = [code[order[0]] if step < steps // 2 else code[order[1]] for step in range(steps)]
    return actions


def lerobot(root, episodes, names=None, fps=20, states=None):
    """Write a LeRobot v2.1 data set without images; `episodes` are actions."""
    (root / "meta").mkdir(parents=True)
    size = episodes[0].shape[1]
    columns = {"action": (size, names), "observation.state": (8, None), "timestamp": (1, None), "task_index": (1, None)}
    info = {
        "codebase_version": "v2.1",
        "fps": fps,
        "chunks_size": 1000,
        "data_path": "data/episode_{episode_index:06d}.parquet",
        "video_path": None,
        "features": {name: {"dtype": "float32", "shape": [n], "names": of} for name, (n, of) in columns.items()},
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "lift the cup"}))
    lines = [{"episode_index": i, "tasks": ["lift the cup"], "length": len(a)} for i, a in enumerate(episodes)]
    (root / "meta/episodes.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    (root / "data").mkdir()
    for index, actions in enumerate(episodes):
        steps = len(actions)
        state = np.zeros((steps, 8), np.float32) if states is None else states[index]
        table = {
            "action": actions.tolist(),
            "observation.state": state.tolist(),
            "timestamp": (np.arange(steps) / fps).tolist(),
            "episode_index": [index] * steps,
            "task_index": [0] * steps,
        }
        pq.write_table(pa.table(table), root / f"data/episode_{index:06d}.parquet")
    return root


def read(folder, layout=None):
    return list(read_episodes(folder, ReadOptions(layout=layout)))


@pytest.mark.parametrize(
    ("layout", "code"),
    [("libero", LEVEL), ("bridge_orig", SIGNED), ("libero", {"open": 0.08, "closed": 0.0}), ("standard", SIGNED),
     ("libero", {"open": 0.0, "closed": 80.0}), ("standard", {"open": 0.08, "closed": 0.0})],
)  # fmt: skip
def test_a_gripper_that_is_stored_otherwise_than_the_layout_says_is_refused(tmp_path, layout, code):
    folder = lerobot(tmp_path / "cups", [moves(code, seed=seed) for seed in range(3)])
    with pytest.raises(DataError, match=r"gripper is (stored as .*, not as|-1\.0 at step)"):
        read(folder, layout)


def test_a_set_that_is_always_closed_in_one_code_is_not_taken_for_the_other(tmp_path):
    with pytest.raises(ContradictedLayoutError, match=r"cups.*stored as 0 to 1, not as -1 open to \+1 closed"):
        read(lerobot(tmp_path / "cups", [moves(LEVEL), moves(LEVEL, order=("closed", "closed"))]), "libero")


def test_an_episode_that_never_opens_contradicts_nothing(tmp_path):
    closed = lerobot(tmp_path / "libero", [moves(SIGNED), moves(SIGNED, order=("closed", "closed"))])
    assert [episode.actions[0, 6] for episode in read(closed)] == [1, 0]


def test_steps_longer_than_an_arm_can_make_are_refused(tmp_path):
    far = lerobot(tmp_path / "libero", [moves(SIGNED, scale=5.0)])
    with pytest.raises(ContradictedLayoutError, match=r"longer than 0\.\d+ m .*units of 0\.05 m"):
        read(far)


def test_an_inverted_gripper_is_said_aloud_by_name(tmp_path, caplog):
    read(lerobot(tmp_path / "cups", [moves(LEVEL, order=("closed", "open"), seed=s) for s in range(3)]), "standard")
    assert "cups" in caplog.text
    assert "closed in the first step of 3 of 3 episodes and opens later: its sign may be inverted" in caplog.text


def test_poses_where_changes_are_expected_are_said_aloud(tmp_path, caplog):
    states = np.cumsum(np.full((20, 8), 0.02, np.float32), axis=0)
    actions = moves(LEVEL, steps=20)
    actions[:, :6] = states[:, :6] + 0.02
    read(lerobot(tmp_path / "cups", [actions], states=[states]), "standard")
    assert "next positions of the state: targets, where changes are expected" in caplog.text


def test_sound_data_cause_no_word(tmp_path, caplog):
    read(lerobot(tmp_path / "libero", [moves(SIGNED, seed=seed) for seed in range(3)]))
    read(lerobot(tmp_path / "cups", [moves(LEVEL, scale=0.01)], fps=5), "standard")
    assert not caplog.text


@pytest.mark.parametrize(("code", "fits"), [(LEVEL, "standard"), (SIGNED, "libero_spatial_no_noops")])
def test_of_an_unknown_name_the_numbers_say_which_layout_fits(tmp_path, code, fits):
    folder = lerobot(tmp_path / "libero_spatial_no_noops_1.0.0_lerobot", [moves(code)])
    with pytest.raises(UnknownLayoutError, match=rf"fit: {fits}\. .*'libero_spatial_no_noops_1.0.0_lerobot'.*--layout"):
        read(folder)


def test_a_misspelt_layout_is_answered_with_what_the_numbers_fit(tmp_path):
    with pytest.raises(UnknownLayoutError, match=r"fit: standard\. .*'libro'"):
        read(lerobot(tmp_path / "cups", [moves(LEVEL)]), "libro")
    strange = {"open": 12.0, "closed": 3.0}
    with pytest.raises(UnknownLayoutError, match=r"fit: none of the known layouts"):
        read(lerobot(tmp_path / "odd", [moves(strange)]))


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["gripper", "x", "y", "z", "roll", "pitch", "yaw"], r"names the gripper at \[0\]"),
        ({"motors": [*(f"joint_{i}" for i in range(6)), "gripper"]}, "names joints"),
    ],
)
def test_an_action_that_names_other_entries_is_refused(tmp_path, names, complaint):
    with pytest.raises(DataError, match=complaint):
        read(lerobot(tmp_path / "cups", [moves(LEVEL)], names=names), "standard")


def test_an_action_of_another_size_is_refused_by_its_layout(tmp_path):
    two_arms = np.concatenate([moves(SIGNED), moves(SIGNED)], axis=1)
    with pytest.raises(DataError, match=r"'action': has 14 numbers a step; layout 'libero' reads 7, the gripper last"):
        read(lerobot(tmp_path / "cups", [two_arms]), "libero")


def test_an_episode_of_which_the_layout_leaves_nothing_is_left_out_and_counted(tmp_path):
    states = [np.cumsum(np.full((n, 8), 0.01, np.float32), axis=0) for n in (16, 2, 1)]
    folder = lerobot(tmp_path / "bridge_orig", [moves(LEVEL, steps=n) for n in (16, 2, 1)], fps=5, states=states)
    whole = read_whole(folder, None, SkipOptions(), images=False)
    assert [len(episode) for episode in whole.episodes] == [14]
    assert len(whole.left_out.empty) == 2
    assert "has 2 steps; layout 'bridge_orig' needs 3" in whole.left_out.lines()[0]


def test_each_folder_has_its_own_layout(tmp_path):
    told = "libero=libero,bridge=standard"
    assert layout_for(tmp_path / "libero", told) == "libero"
    assert layout_for(tmp_path / "bridge", told) == "standard"
    assert layout_for(tmp_path / "cups", told) is None
    assert layout_for(tmp_path / "cups", f"{tmp_path / 'cups'}=kuka") == "kuka"
    check_layouts(told, [tmp_path / "libero", tmp_path / "bridge"])


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ("standard", "names one layout for 2 folders; .*--layout libero=standard,bridge=standard"),
        ("brige=standard", "--layout brige=standard stands for 0 of the folders read"),
    ],
)
def test_a_layout_for_no_folder_or_for_several_is_refused(tmp_path, told, complaint):
    with pytest.raises(DataError, match=complaint):
        check_layouts(told, [tmp_path / "libero", tmp_path / "bridge"])


@pytest.mark.parametrize(
    ("folder", "builder", "name"),
    [
        ("libero_10_no_noops", "liber_o10", "libero_10_no_noops"),
        ("libero_goal_no_noops", "libero_goal", "libero_goal_no_noops"),
        ("copied", "liber_o10", "libero_10_no_noops"),
        ("bridge", "bridge_dataset", "bridge_dataset"),
    ],
)
def test_openvlas_libero_release_has_openvlas_keys(tmp_path, folder, builder, name):
    assert dataset_name(tmp_path / folder / "1.0.0", builder) == name


def test_what_is_said_of_the_numbers_survives_json():
    said = Convention("libero", "", 20.0, "axis_angle", 0.05, 0.5, ("wrist_image",))
    assert Convention.from_json(json.loads(json.dumps({**said.to_json(), "newer": 1}))) == said


@pytest.mark.parametrize(
    ("camera", "view"), [("eye_in_hand_rgb", "wrist"), ("wrist_image", "wrist"), ("image_0", "third_person")]
)
def test_a_camera_says_by_its_name_what_it_shows(camera, view):
    assert view_of(camera) == view


def test_pushes_widen_no_range():
    is_expert = np.arange(16) % 4 != 0
    actions = moves(LEVEL)
    episode = Demonstration("d", Where(Path("f")), "lift", actions, np.zeros((16, 0), np.float32), is_expert=is_expert)
    np.testing.assert_array_equal(episode.learnt, actions[is_expert])
    assert replace(episode, is_expert=None).learnt is actions

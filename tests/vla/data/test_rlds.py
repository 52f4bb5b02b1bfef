"""RLDS datasets: the real Bridge sample, and what is said of broken ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.vla.data import tfds_writer as tfds
from vla.data.errors import DataError
from vla.data.oxe import Layout, standard
from vla.data.rlds import read_rlds

SPECS = {
    "action": tfds.tensor((7,)),
    "observation/state": tfds.tensor((8,)),
    "observation/image": tfds.IMAGE,
    "language_instruction": tfds.TEXT,
}
RAW_BRIDGE = Layout("raw", standard, ("action",), "", {"primary": "observation/image_0"})


def libero_episode(steps: int, **changes) -> dict:
    action = np.full((steps, 7), 0.1, np.float32)
    features = {
        "action": action,
        "observation/state": np.zeros((steps, 8), np.float32),
        "observation/image": [tfds.jpeg(10 * step) for step in range(steps)],
        "language_instruction": [b"open the drawer"] * steps,
    }
    return {**features, **changes}


def write(folder: Path, episodes: list[dict]) -> Path:
    return tfds.write_rlds(folder, "libero_goal_no_noops", episodes, SPECS)


def test_the_bridge_sample_is_read_whole(shared: Path):
    episodes = list(read_rlds(shared / "data/bridge_dataset"))
    assert len(episodes) == 25
    assert {len(episode) for episode in episodes} == {8}
    assert {episode.instruction for episode in episodes} == {
        "put carrot on plate",
        "put cup from counter or drying rack into sink",
        "turn lever vertical to front",
        "flip pot upright which is in sink",
    }
    episode = episodes[4]
    np.testing.assert_allclose(episode.actions[:-1, :6], np.diff(episode.state[:, :6], axis=0), atol=1e-6)
    assert episode.actions[:, 6].tolist() == [1, 1, 1, 1, 1, 1, 1, 0]
    assert episode.cameras["primary"][7].shape == (64, 64, 3)
    assert episode.control_hz == 5


def test_raw_bridge_actions_have_the_statistics_that_are_recorded_for_them(shared: Path):
    published = json.loads((shared / "data/oxe_action_stats.json").read_text())["datasets"]["bridge_debug_octo"]
    expected = published["records"][0]["action"]
    actions = np.concatenate([e.actions for e in read_rlds(shared / "data/bridge_dataset", layout=RAW_BRIDGE)])
    assert len(actions) == published["records"][0]["num_transitions"]
    for name, ours in [("mean", actions.mean(0)), ("min", actions.min(0)), ("max", actions.max(0))]:
        np.testing.assert_allclose(ours, expected[name], rtol=1e-4, atol=1e-7)


def test_images_are_decoded_only_when_asked_for(tmp_path: Path):
    write(tmp_path, [libero_episode(3, **{"observation/image": [tfds.jpeg(0), b"no image", tfds.jpeg(20)]})])
    (episode,) = read_rlds(tmp_path)
    assert episode.cameras["primary"][2].shape == (32, 32, 3)
    with pytest.raises(DataError, match=r"record 0, field 'observation/image': cannot decode the image of step 1"):
        episode.cameras["primary"][1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"action": np.full((3, 7), np.nan, np.float32)}, r"field 'action'.*dimension x is nan at step 0"),
        ({"observation/state": np.full((3, 8), np.inf, np.float32)}, r"field 'state': is not finite at step 0"),
        ({"action": np.zeros((0, 7), np.float32)}, r"field 'observation/state': has 3 steps, others 0"),
        ({"action": np.zeros(20, np.float32)}, r"field 'action': holds 20 numbers; a multiple of 7"),
        ({"observation/state": np.zeros((2, 8), np.float32)}, r"field 'observation/state': has 2 steps, others 3"),
        ({"observation/image": [tfds.jpeg(0)]}, r"field 'primary': has 1 entries for 3 actions"),
    ],
)
def test_a_broken_episode_is_named_and_can_be_left_out(tmp_path: Path, changes: dict, said: str):
    path = write(tmp_path, [libero_episode(3), libero_episode(3, **changes), libero_episode(4)])
    bad: list[DataError] = []
    assert [len(episode) for episode in read_rlds(tmp_path, on_bad=bad.append)] == [3, 4]
    assert len(bad) == 1
    with pytest.raises(DataError, match=f"{path.name}, episode record 1.*{said}"):
        list(read_rlds(tmp_path))


def test_an_episode_without_steps_is_left_out(tmp_path: Path):
    empty = {name: values[:0] for name, values in libero_episode(1).items()}
    write(tmp_path, [empty, libero_episode(2)])
    left: list[DataError] = []
    assert [len(episode) for episode in read_rlds(tmp_path, on_bad=left.append)] == [2]
    assert "record 0: has 0 steps" in str(left[0])
    assert [len(episode) for episode in read_rlds(tmp_path)] == [2]


def test_companions_of_files_that_macos_writes_are_no_shards(tmp_path: Path):
    path = write(tmp_path, [libero_episode(2)])
    path.with_name(f"._{path.name}").write_bytes(bytes(100))
    assert [len(episode) for episode in read_rlds(tmp_path)] == [2]


def test_fewer_records_than_the_description_says_are_noticed(tmp_path: Path):
    path = write(tmp_path, [libero_episode(2), libero_episode(3)])
    described = {"splits": [{"name": "train", "shardLengths": ["3"]}]}
    (path.parent / "dataset_info.json").write_text(json.dumps(described))
    bad: list[DataError] = []
    assert len(list(read_rlds(tmp_path, on_bad=bad.append))) == 2
    assert [(error.where.file, error.episodes) for error in bad] == [(path, 1)]
    path.write_bytes(path.read_bytes()[:-9])
    bad.clear()
    assert len(list(read_rlds(tmp_path, on_bad=bad.append))) == 1
    assert [(error.where.episode, error.episodes) for error in bad] == [("record 1", 2)]
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match="is a Git LFS pointer and not the file itself"):
        list(read_rlds(tmp_path))


def test_a_record_without_a_feature_is_refused_by_name(tmp_path: Path):
    episode = libero_episode(2)
    del episode["observation/state"]
    write(tmp_path, [episode])
    with pytest.raises(DataError, match=r"record 0, field 'observation/state': is missing from this record"):
        list(read_rlds(tmp_path))


def test_a_missing_shard_is_named(tmp_path: Path):
    path = write(tmp_path, [libero_episode(2)])
    shutil.move(path, path.with_name(path.name.replace("of-00001", "of-00002")))
    with pytest.raises(DataError, match=r"00001-of-00002: is missing; the split has 2 files"):
        list(read_rlds(tmp_path))
    bad: list[DataError] = []
    assert len(list(read_rlds(tmp_path, on_bad=bad.append))) == 1
    assert len(bad) == 1


def test_a_layout_that_does_not_fit_names_the_feature(tmp_path: Path):
    tfds.write_rlds(tmp_path, "viola", [libero_episode(2)], SPECS)
    with pytest.raises(DataError, match=r"field 'action/world_vector': is not in this dataset.*It holds: action, "):
        list(read_rlds(tmp_path))


def test_a_wrong_split_or_folder_says_what_is_there(tmp_path: Path):
    write(tmp_path / "1.0.0", [libero_episode(2)])
    assert len(list(read_rlds(tmp_path))) == 1
    with pytest.raises(DataError, match=r"no file of split 'test'; found: train"):
        list(read_rlds(tmp_path, split="test"))
    write(tmp_path / "2.0.0", [libero_episode(2)])
    with pytest.raises(DataError, match=r"found here: 1\.0\.0, 2\.0\.0"):
        list(read_rlds(tmp_path))

"""LeRobot datasets: both layouts, our writer, and what is said of broken ones."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.vla.data import lerobot_files as files
from vla.data.demonstration import Demonstration
from vla.data.errors import DataError, Where
from vla.data.frames import ArrayFrames
from vla.data.lerobot import read_lerobot
from vla.data.lerobot_writer import STEPS_PER_ROW_GROUP, LeRobotWriter
from vla.data.oxe import layout_named

WRITERS = {"v2.1": files.write_v2, "v3.0": files.write_v3}
LENGTHS = [4, 6, 3]


@pytest.fixture(params=WRITERS)
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return WRITERS[request.param](tmp_path / "drawers", LENGTHS)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, list[Demonstration]]:
    rng = np.random.default_rng(1)
    episodes = []
    for number, length in enumerate((12, 20)):
        actions = rng.normal(0, 0.1, (length, 7)).astype(np.float32)
        actions[:, 6] = np.arange(length) > 5
        episodes.append(
            Demonstration(
                dataset="recorded",
                where=Where(tmp_path, str(number)),
                instruction=f"task {number}",
                actions=actions,
                state=rng.normal(size=(length, 8)).astype(np.float32),
                cameras={"agentview": ArrayFrames(rng.integers(0, 256, (length, 32, 32, 3), dtype=np.uint8))},
                intents=tuple(f"move {'forward' if step % 2 else 'left'}" for step in range(length)),
            )
        )
    root = tmp_path / "recorded"
    with LeRobotWriter(root, 20) as writer:
        for number, episode in enumerate(episodes):
            writer.add(episode, {"seed": np.full(len(episode), number)})
    return root, episodes


def test_episodes_come_with_their_own_frames_and_task(dataset: Path):
    episodes = list(read_lerobot(dataset))
    assert [len(episode) for episode in episodes] == LENGTHS
    for number, episode in enumerate(episodes):
        np.testing.assert_allclose(episode.actions[:, :6], 0.1 * (number + 1), rtol=1e-6)
        seen = [frames.mean() for frames in (episode.cameras["front"][step] for step in range(len(episode)))]
        np.testing.assert_allclose(seen, files.LEVELS[: len(episode)] + number, atol=3)
        assert episode.instruction == ["open the drawer", "close the drawer"][number % 2]
        assert episode.control_hz == files.FPS
        assert episode.state.shape == (len(episode), 8)


def test_frames_can_be_asked_for_in_any_order(dataset: Path):
    frames = list(read_lerobot(dataset))[1].cameras["front"]
    for step in (5, 0, 3, 3, 1):
        assert abs(frames[step].mean() - files.LEVELS[step] - 1) < 3


def test_a_missing_video_names_file_episode_and_camera(dataset: Path):
    video = sorted(dataset.glob("videos/**/*.mp4"))[0]
    video.unlink()
    with pytest.raises(DataError, match=rf"{video.name}, episode 0, field '{files.CAMERA}': the video file is missing"):
        list(read_lerobot(dataset))
    bad: list[DataError] = []
    left = list(read_lerobot(dataset, on_bad=bad.append))
    assert len(left) + len(bad) == 3
    assert len(left) == (2 if len(list(dataset.glob("videos/**/*.mp4"))) else 0)


def test_a_video_that_is_cut_short_is_named_when_the_frame_is_asked_for(tmp_path: Path):
    root = files.write_v2(tmp_path / "cut", [6])
    files.write_video(root / f"videos/chunk-000/{files.CAMERA}/episode_000000.mp4", files.LEVELS[:3])
    (episode,) = read_lerobot(root)
    assert abs(episode.cameras["front"][2].mean() - files.LEVELS[2]) < 3
    with pytest.raises(DataError, match=r"no frame at 0\.500 s \(step 5\)"):
        episode.cameras["front"][5]
    (root / f"videos/chunk-000/{files.CAMERA}/episode_000000.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="cannot read the image of step 0"):
        episode.cameras["front"][0]


def test_a_parquet_file_without_a_column_names_it(dataset: Path):
    path = sorted(dataset.glob("data/**/*.parquet"))[0]
    pq.write_table(pq.read_table(path).drop_columns(["action"]), path)
    with pytest.raises(DataError, match=rf"{path.name}, field 'action': is no column of this file; it has observation"):
        list(read_lerobot(dataset))


def test_a_missing_or_damaged_data_file_is_named(dataset: Path):
    path = sorted(dataset.glob("data/**/*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"{path.name}: is no readable parquet file"):
        list(read_lerobot(dataset))
    path.unlink()
    with pytest.raises(DataError, match=rf"{path.name}: is missing"):
        list(read_lerobot(dataset))


def test_rows_that_are_missing_or_not_finite_are_named(tmp_path: Path):
    root = files.write_v2(tmp_path / "short", [4, 4])
    path = root / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 2), path)
    with pytest.raises(DataError, match=r"episode 1: has 2 rows; meta/ says 4"):
        list(read_lerobot(root))
    broken = pa.FixedSizeListArray.from_arrays(pa.array(np.full(28, np.nan, np.float32)), 7)
    pq.write_table(table.set_column(0, "action", broken), path)
    bad: list[DataError] = []
    assert len(list(read_lerobot(root, on_bad=bad.append))) == 1
    assert "episode 1, field 'action'" in str(bad[0])


def test_an_action_whose_meaning_nobody_declares_is_refused(dataset: Path):
    path = dataset / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"]["action"]["names"] = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
    path.write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"no action layout is known for a dataset named 'drawers'.*--layout NAME"):
        list(read_lerobot(dataset))
    episode = next(iter(read_lerobot(dataset, layout_named("libero", dataset))))
    assert episode.actions[:, 6].tolist() == [0, 0, 0, 0]


def test_a_version_that_is_not_known_is_refused(dataset: Path):
    path = dataset / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "codebase_version": "v1.6"}))
    with pytest.raises(DataError, match=r"'codebase_version': is 'v1\.6'; v2\.0, v2\.1 or v3\.0"):
        list(read_lerobot(dataset))


def test_what_is_written_is_read_back_bit_for_bit(recorded: tuple[Path, list[Demonstration]]):
    root, episodes = recorded
    for ours, theirs in zip(read_lerobot(root), episodes, strict=True):
        np.testing.assert_array_equal(ours.actions, theirs.actions)
        np.testing.assert_array_equal(ours.state, theirs.state)
        for step in range(len(theirs)):
            np.testing.assert_array_equal(ours.cameras["agentview"][step], theirs.cameras["agentview"][step])
        assert ours.intents == theirs.intents
        assert ours.instruction == theirs.instruction


def test_the_written_metadata_says_what_was_written(recorded: tuple[Path, list[Demonstration]]):
    root, episodes = recorded
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 32, 2)
    assert info["features"]["seed"] == {"dtype": "int64", "shape": [1], "names": None}
    statistics = json.loads((root / "meta/stats.json").read_text())
    actions = np.concatenate([episode.actions for episode in episodes])
    np.testing.assert_allclose(statistics["action"]["mean"], actions.mean(0), rtol=1e-5)
    assert statistics["action"]["count"] == [32]
    assert np.shape(statistics["observation.images.agentview"]["std"]) == (3, 1, 1)
    data = pq.ParquetFile(root / "data/chunk-000/file-000.parquet")
    assert data.metadata.row_group(0).num_rows == STEPS_PER_ROW_GROUP


def test_the_writer_refuses_a_full_folder_and_a_different_episode(
    recorded: tuple[Path, list[Demonstration]], tmp_path: Path
):
    root, (first, second) = recorded
    with pytest.raises(DataError, match="is not empty"):
        LeRobotWriter(root, 20)
    with LeRobotWriter(tmp_path / "other", 20) as writer:
        writer.add(first)
        with pytest.raises(DataError, match="differs from the first episode in seed"):
            writer.add(second, {"seed": np.zeros(len(second))})
        with pytest.raises(DataError, match="'timestamp': is a column of LeRobot's own"):
            writer.add(second, {"timestamp": np.zeros(len(second))})


def test_a_data_file_that_disappears_is_named_when_an_image_is_asked_for(recorded: tuple[Path, list[Demonstration]]):
    root, _ = recorded
    episode = next(read_lerobot(root))
    (root / "data/chunk-000/file-000.parquet").unlink()
    with pytest.raises(
        DataError, match=r"file-000\.parquet, episode 0, field 'observation.images.agentview': cannot read"
    ):
        episode.cameras["agentview"][0]


def test_an_empty_dataset_is_not_written(tmp_path: Path):
    with pytest.raises(DataError, match="no episode was added"), LeRobotWriter(tmp_path / "none", 20):
        pass


def test_a_full_data_file_is_followed_by_another(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 256, 256, 3), dtype=np.uint8)
    actions = np.zeros((8, 7), np.float32)
    episode = Demonstration(
        "big", Where(tmp_path), "go", actions, np.zeros((8, 0), np.float32), {"top": ArrayFrames(noise)}
    )
    with LeRobotWriter(tmp_path / "big", 5, file_mb=1) as writer:
        for _ in range(3):
            writer.add(episode)
    assert len(list((tmp_path / "big/data/chunk-000").iterdir())) == 3
    read = list(read_lerobot(tmp_path / "big"))
    np.testing.assert_array_equal(read[2].cameras["top"][7], noise[7])
    assert read[0].state.shape == (8, 0)

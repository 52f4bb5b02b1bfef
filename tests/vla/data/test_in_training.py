"""What training does with data that cannot be used: before the first step, and on record."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.vla.data import lerobot_files as files
from tests.vla.data.tfds_writer import jpeg
from vla.cli import main
from vla.data import inspection
from vla.data.errors import DataError, Where
from vla.data.frames import FileFrames
from vla.data.loader import MixtureLoader
from vla.data.mixture import Source
from vla.data.whole import SkipOptions
from vla.model.checkpoint import load_checkpoint
from vla.train.config import LoopConfig, ModelOptions, TrainConfig
from vla.train.features import feature_files
from vla.train.initialize import initial_checkpoint
from vla.train.sources import cameras_of, read_data, statistics_to_learn

EPISODE = "data/chunk-000/episode_000001.parquet"


def arguments(data: Path, out: Path, *options: str) -> list[str]:
    told = ["train", "--data", data, "--out", out, "--steps", 2, "--model.preset", "nano", "--device", "cpu"]
    return [*map(str, told), "--optim.batch-size", "4", "--optim.micro-batch", "4", *options]


def trained(out: Path) -> dict:
    return json.loads((out / "checkpoint/config.json").read_text())["training"]


@pytest.fixture
def drawers(tmp_path: Path) -> Path:
    return files.write_v2(tmp_path / "drawers", [4, 6, 3])


def test_a_bad_episode_stops_before_the_first_step_and_the_same_run_goes_on_without_it(drawers, tmp_path, capsys):
    video = drawers / f"videos/chunk-000/{files.CAMERA}/episode_000001.mp4"
    files.write_video(video, files.LEVELS[:3])
    assert main(arguments(drawers, tmp_path / "run", "--no-skip-bad")) == 2
    said = capsys.readouterr().err
    assert f"episode_000001.mp4, episode 1, field '{files.CAMERA}': the video has 3 frames for 6 steps" in said
    assert "Without --no-skip-bad" in said
    assert not (tmp_path / "run/metrics.jsonl").exists()
    assert main(arguments(drawers, tmp_path / "run", "--max-bad", "0.05")) == 2
    assert "about 1 of 3 episodes (33.3%) cannot be read; --max-bad allows 5.0%" in capsys.readouterr().err
    assert main(arguments(drawers, tmp_path / "run")) == 0
    assert "drawers: 2 episodes, left out 1: 1 x cannot be read, such as " in capsys.readouterr().err
    (line,) = trained(tmp_path / "run")["left_out"]["drawers"]
    assert "the video has 3 frames for 6 steps" in line
    assert load_checkpoint(tmp_path / "run/checkpoint").statistics["drawers"].num_trajectories == 2


def test_episodes_that_teach_nothing_are_left_out_unasked_and_listed(drawers, tmp_path, capsys):
    lines = [{"task_index": 0, "task": "open the drawer"}, {"task_index": 1, "task": " . "}]
    (drawers / "meta/tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert main(arguments(drawers, tmp_path / "run")) == 0
    assert "drawers: 2 episodes, left out 1: 1 x has no instruction" in capsys.readouterr().err
    assert trained(tmp_path / "run")["left_out"] == {
        "drawers": [f"{drawers / EPISODE}, episode 1: has no instruction."]
    }


def test_an_instruction_too_long_for_the_model_is_found_before_the_first_step(drawers, tmp_path, capsys):
    lines = [{"task_index": 0, "task": "open the drawer"}, {"task_index": 1, "task": "close it or " * 3000}]
    (drawers / "meta/tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert main(arguments(drawers, tmp_path / "run", "--no-skip-bad")) == 2
    assert "episode 1, field 'instruction': The instruction 'close it or" in capsys.readouterr().err
    assert main(arguments(drawers, tmp_path / "run")) == 0


def test_episodes_of_one_and_two_steps_train(tmp_path):
    root = files.write_v2(tmp_path / "drawers", [1, 2, 1])
    assert main(arguments(root, tmp_path / "run", "--model.action-horizon", "4")) == 0


def test_a_share_that_is_none_is_refused(drawers, tmp_path, capsys):
    for share in ("-0.1", "1.5", "nan"):
        assert main(arguments(drawers, tmp_path / "run", "--max-bad", share)) == 2
        assert "a number from 0 to 1 is expected" in capsys.readouterr().err


def test_an_episode_with_another_state_is_left_out(drawers):
    table = pq.read_table(drawers / EPISODE)
    other = pa.array(np.zeros((6, 5)).tolist(), pa.list_(pa.float32()))
    at = table.schema.get_field_index("observation.state")
    pq.write_table(table.set_column(at, "observation.state", other), drawers / EPISODE)
    config = TrainConfig(data=(drawers,), loop=LoopConfig(out=drawers), skip=SkipOptions(skip_bad=False))
    with pytest.raises(DataError, match=r"episode 1: has 5 numbers of state .*; most have 8"):
        read_data(config)


class Fading:
    """Samples whose third cannot be read."""

    fingerprint = "x"

    def __getitem__(self, position: int) -> int:
        if position == 2:
            raise DataError(Where(Path("gone.png"), "7", "front"), "cannot be read.")
        return position

    def __len__(self) -> int:
        return 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_lost_while_training_runs_is_named(workers):
    batches = iter(MixtureLoader(Fading(), list, 2, workers=workers))
    assert next(batches) == [0, 1]
    with pytest.raises(DataError, match=r"^gone\.png, episode 7, field 'front': cannot be read\.$"):
        next(batches)


def test_features_of_other_pictures_are_computed_anew(tmp_path):
    root = tmp_path / "drawers"
    files.write_v2(root, [4, 4])
    config = TrainConfig(data=(root,), loop=LoopConfig(out=root), model=ModelOptions(preset="nano"))
    episodes = read_data(config)[0].episodes
    source = Source(episodes, statistics_to_learn(episodes), cameras_of(episodes, 1, ()))
    frozen = initial_checkpoint("scratch", ModelOptions(preset="nano"), ["x"], "finetune", True, 0).model
    encoder = dataclasses.replace(frozen.config.vision_encoders[0], frozen=True)
    frozen.config = dataclasses.replace(frozen.config, vision_encoders=(encoder,))

    def named(level: int, path: Path) -> Path:
        path.write_bytes(jpeg(level))
        os.utime(path, ns=(level, level))
        spans = np.tile([[0, path.stat().st_size]], (4, 1))
        frames = {"front": FileFrames(Where(path), spans)}
        episodes = [dataclasses.replace(episode, cameras=frames) for episode in source.episodes]
        return feature_files(frozen, [dataclasses.replace(source, episodes=episodes)], tmp_path / "cache")[0]

    first = named(10, tmp_path / "a.jpg")
    assert named(10, tmp_path / "a.jpg") == first
    assert named(200, tmp_path / "a.jpg") != first
    other = named(10, tmp_path / "b.jpg")
    assert other != first
    whole = np.load(first)
    first.write_bytes(first.read_bytes()[:200])
    assert named(10, tmp_path / "a.jpg") == first
    np.testing.assert_array_equal(np.load(first), whole)


def test_what_stats_looked_at_is_not_looked_at_again(drawers, monkeypatch):
    config = TrainConfig(data=(drawers,), loop=LoopConfig(out=drawers), model=ModelOptions(preset="nano"))
    assert main(["stats", str(drawers), "--images"]) == 0
    monkeypatch.setattr(inspection, "_looks", lambda unknown, title: pytest.fail("looked again") if unknown else [])
    assert len(read_data(config)[0].episodes) == 3


def test_pictures_need_not_be_looked_at_before_training(drawers):
    files.write_video(drawers / f"videos/chunk-000/{files.CAMERA}/episode_000001.mp4", files.LEVELS[:3])
    config = TrainConfig(data=(drawers,), loop=LoopConfig(out=drawers), skip=SkipOptions(skip_bad=False))
    with pytest.raises(DataError, match="the video has 3 frames"):
        read_data(config)
    assert len(read_data(dataclasses.replace(config, check_images=False))[0].episodes) == 3

"""Every picture is looked at once; what was seen is believed until a file changes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.vla.data import lerobot_files as files
from vla.data import inspection
from vla.data.errors import Where
from vla.data.frames import FileFrames
from vla.data.inspection import INDEX, identity, look_at
from vla.data.read import read_episodes
from vla.data.whole import SkipOptions, read_whole

SKIP = SkipOptions(max_bad=1)


def pictures(folder: Path, count: int) -> list[FileFrames]:
    frames = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(path)
        frames.append(FileFrames(Where(path), np.array([[0, path.stat().st_size]])))
    return frames


def test_a_damaged_picture_is_found_and_remembered_until_its_file_changes(tmp_path: Path, monkeypatch):
    frames = pictures(tmp_path, 3)
    sound = frames[1].where.file.read_bytes()
    frames[1].where.file.write_bytes(sound[:40] + bytes(len(sound) - 40))
    assert [error and error.where.file.name for error in look_at(frames, tmp_path / INDEX, "")] == [None, "1.png", None]
    asked = []
    monkeypatch.setattr(
        inspection, "_looks", lambda unknown, title: asked.append(len(unknown)) or ["" for _ in unknown]
    )
    assert [bool(error) for error in look_at(frames, tmp_path / INDEX, "")] == [False, True, False]
    frames[1].where.file.write_bytes(sound)
    os.utime(frames[1].where.file, ns=(1, 1))
    assert look_at(frames, tmp_path / INDEX, "") == [None] * 3
    assert asked == [0, 1]


def test_an_index_that_was_cut_or_is_foreign_is_as_if_it_was_not_there(tmp_path: Path):
    frames = pictures(tmp_path, 2)
    look_at(frames, tmp_path / INDEX, "")
    text = (tmp_path / INDEX).read_text()
    for damaged in (text[:-10], "{}\n5\n[1]\n", "\x00", ""):
        (tmp_path / INDEX).write_text(damaged)
        assert look_at(frames, tmp_path / INDEX, "") == [None, None]
        last = (tmp_path / INDEX).read_text().splitlines()[-1]
        assert json.loads(last) == [identity(frames[-1], tmp_path), ""]


def test_a_folder_that_cannot_be_written_is_looked_at_each_time(tmp_path: Path):
    frames = pictures(tmp_path, 2)
    assert look_at(frames, tmp_path / "missing" / INDEX, "") == [None, None]


@pytest.mark.slow
def test_many_pictures_are_looked_at_by_several_processes(tmp_path: Path):
    frames = pictures(tmp_path, 70)
    frames[69].where.file.write_bytes(b"no picture")
    errors = look_at(frames, tmp_path / INDEX, "")
    assert [number for number, error in enumerate(errors) if error] == [69]


def test_a_dataset_that_moves_keeps_its_index(tmp_path: Path):
    root = files.write_v2(tmp_path / "drawers", [4])
    (frames,) = next(iter(read_episodes(root))).cameras.values()
    before = identity(frames, root)
    root.rename(tmp_path / "moved")
    (tmp_path / "drawers").symlink_to(tmp_path / "moved")
    assert identity(frames, tmp_path / "drawers") == before


@pytest.mark.parametrize("levels", [3, 5], ids=["short", "long"])
def test_a_video_with_another_number_of_frames_than_steps_is_found(tmp_path: Path, levels: int):
    root = files.write_v2(tmp_path / "drawers", [4, 4])
    path = root / f"videos/chunk-000/{files.CAMERA}/episode_000001.mp4"
    files.write_video(path, files.LEVELS[:levels])
    whole = read_whole(root, None, SKIP, images=True)
    assert [episode.where.episode for episode in whole.episodes] == ["0"]
    assert f"episode 1, field '{files.CAMERA}': the video has {levels} frames for 4 steps" in whole.left_out.lines()[0]


def test_a_joined_video_that_is_cut_costs_the_episodes_behind_the_cut(tmp_path: Path):
    root = files.write_v3(tmp_path / "drawers", [4, 4, 4])
    assert len(read_whole(root, None, SKIP, images=True).episodes) == 3
    levels = np.concatenate([files.LEVELS[:4], files.LEVELS[:2]])
    files.write_video(next(root.glob("videos/**/*.mp4")), levels)
    whole = read_whole(root, None, SKIP, images=True)
    assert [episode.where.episode for episode in whole.episodes] == ["0"]

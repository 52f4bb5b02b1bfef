"""Rendered images are stored encoded: whole or not there, each readable alone, and as they were where that is said."""

import zipfile

import numpy as np
import pytest

from evals.demos.command import RecordConfig, record, record_command
from evals.demos.pictures import count_pictures, load_pictures, save_pictures
from evals.demos.rendering import RenderConfig, render, render_command
from evals.errors import UsageError
from vla.data.demos import read_demos
from vla.data.drawn import DrawnFrames
from vla.data.errors import DataError, Where
from vla.data.lerobot import read_lerobot
from vla.data.read import read_episodes
from vla.data.whole import SkipOptions, read_whole


def smooth_images(count=5, side=32):
    across = np.linspace(0, 200, side, dtype=np.uint8)
    images = np.zeros((count, side, side, 3), np.uint8)
    images[..., 0], images[..., 1] = across, across[:, None]
    images[..., 2] = 10 * np.arange(count, dtype=np.uint8)[:, None, None]
    return images


@pytest.fixture
def folder(tmp_path):
    record(RecordConfig("reach", tmp_path, trials=1, workers=2, gates=False))
    return tmp_path


@pytest.mark.parametrize("image_format", ["webp", "png", "jpeg"])
def test_any_image_is_read_without_the_others(tmp_path, image_format):
    images = smooth_images()
    path = tmp_path / "a.front.zip"
    save_pictures(path, list(images), 4, image_format)
    frames = DrawnFrames(Where(path), every=4, steps=18)
    frames.check()
    worst = 0 if image_format != "jpeg" else 8
    for number in (3, 0, 4):
        assert np.abs(frames[4 * number].astype(int) - images[number]).max() <= worst
    with pytest.raises(DataError, match="step 3 was not drawn"):
        frames[3]
    assert path.stat().st_size < images.nbytes / 3


def test_equal_images_make_equal_files_and_leave_nothing_beside_them(tmp_path):
    for name in ("a.zip", "b.zip"):
        save_pictures(tmp_path / name, list(smooth_images()), 1, "webp")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_was_cut_off_is_none(tmp_path):
    path = tmp_path / "a.zip"
    save_pictures(path, list(smooth_images()), 1, "webp")
    assert count_pictures(path) == 5
    path.write_bytes(path.read_bytes()[:-30])
    assert count_pictures(path) is None


def test_a_flipped_bit_of_an_image_is_noticed_by_its_checksum(tmp_path):
    path = tmp_path / "a.front.zip"
    save_pictures(path, list(smooth_images()), 1, "webp")
    with zipfile.ZipFile(path) as archive:
        middle = archive.getinfo("000002.webp").header_offset + 60
    content = bytearray(path.read_bytes())
    content[middle] ^= 1
    path.write_bytes(content)
    frames = DrawnFrames(Where(path), 1, 5)
    assert frames[1].shape == (32, 32, 3)
    with pytest.raises(DataError, match=r"image of step 2 is damaged \(checksum\)\. Remove the file"):
        frames[2]


@pytest.mark.parametrize("harm", ["fewer", "other steps", "compressed", "other names", "cut"])
def test_an_archive_that_is_not_ours_is_refused_with_the_way_out(folder, harm):
    render(RenderConfig(folder, every=2, workers=2))
    path = sorted((folder / "images").rglob("*.zip"))[0]
    images = load_pictures(path)
    if harm == "fewer":
        save_pictures(path, list(images[:-1]), 2, "webp")
    elif harm == "other steps":
        save_pictures(path, list(images), 3, "webp")
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        packing = zipfile.ZIP_DEFLATED if harm == "compressed" else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", packing) as archive:
            for number in range(len(images)):
                archive.writestr(f"{'x' if harm == 'other names' else ''}{2 * number:06d}.webp", b"0" * 100)
    with pytest.raises(DataError, match=f"{path.name}.*(expected for|cannot read the images)"):
        list(read_demos(folder))


def test_raw_arrays_of_earlier_versions_are_read_and_count_as_rendered(folder):
    render(RenderConfig(folder, every=2, workers=2))
    before = [episode.cameras["agentview"][2] for episode in read_demos(folder)]
    for path in (folder / "images").rglob("*.zip"):
        np.save(path.with_suffix(".npy"), load_pictures(path))
        path.unlink()
    render(RenderConfig(folder, every=2, workers=2))
    assert not list((folder / "images").rglob("*.zip"))
    assert np.array_equal(before, [episode.cameras["agentview"][2] for episode in read_demos(folder)])
    assert render_command([str(folder), "--every", "2", "--repack"]) == 0
    assert not list((folder / "images").rglob("*.npy"))
    assert np.array_equal(before, [episode.cameras["agentview"][2] for episode in read_demos(folder)])


def test_images_that_are_rendered_again_are_read_anew(folder):
    render(RenderConfig(folder, every=2, workers=2))
    before = [episode.cameras["agentview"][2] for episode in read_demos(folder)]
    for path in (folder / "images").rglob("*.zip"):
        path.unlink()
    render(RenderConfig(folder, every=2, workers=2, image_format="png"))
    assert np.array_equal(before, [episode.cameras["agentview"][2] for episode in read_demos(folder)])


def test_jpeg_images_are_a_view_of_their_own(folder):
    render(RenderConfig(folder, every=2, workers=2))
    render(RenderConfig(folder, every=2, workers=2, image_format="jpeg"))
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["64px-every2", "64px-every2-jpeg"]
    [exact, *_] = read_demos(folder, "64px-every2")
    [near, *_] = read_demos(folder, "64px-every2-jpeg")
    difference = np.abs(exact.cameras["agentview"][4].astype(int) - near.cameras["agentview"][4])
    assert 0 < difference.max() < 80
    assert difference.mean() < 4
    with pytest.raises(UsageError, match="jpeg would change them"):
        render_command([str(folder), "--repack", "--image-format", "jpeg"])


@pytest.mark.parametrize("image_format", ["webp", "jpeg"])
def test_the_lerobot_dataset_beside_a_recording_holds_the_same_bytes(tmp_path, image_format):
    arguments = ["--suite", "reach", "--out", str(tmp_path), "--trials", "1", "--no-gates"]
    assert record_command([*arguments, "--image-format", image_format]) == 0
    [exported, *_] = read_lerobot(tmp_path / "lerobot")
    [drawn, *_] = read_demos(tmp_path)
    assert np.array_equal(exported.cameras["agentview"][3], drawn.cameras["agentview"][3])


def test_damaged_images_are_left_out_of_training_and_named(folder):
    render(RenderConfig(folder, every=2, workers=2))
    path = sorted((folder / "images").rglob("*.zip"))[0]
    with zipfile.ZipFile(path) as archive:
        names, middle = archive.namelist(), archive.infolist()[1].header_offset + 60
    content = bytearray(path.read_bytes())
    content[middle] ^= 255
    path.write_bytes(content)
    whole = read_whole(folder, None, SkipOptions(), images=True)
    assert len(names) > 2
    assert len(whole.episodes) == len(list(read_episodes(folder))) - 1
    assert "image of step 2 is damaged" in whole.left_out.lines()[0]

"""Whatever a file holds, a reader says which file, episode and field it cannot read, and raises nothing else."""

import io
import json
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.vla.data import tfds_writer as tfds
from vla.data.errors import DataError, NothingToLearnError, Where, said
from vla.data.frames import decode
from vla.data.read import read_episodes
from vla.data.whole import SkipOptions, read_whole

SPECS = {
    "action": tfds.tensor((7,)),
    "observation/state": tfds.tensor((8,)),
    "observation/image": tfds.IMAGE,
    "language_instruction": tfds.TEXT,
}


def rlds(folder: Path, steps: int = 3, specs: dict | None = None, **changes) -> Path:
    """A sound episode, and one with changes."""
    sound = {
        "action": np.full((steps, 7), 0.1, np.float32),
        "observation/state": np.zeros((steps, 8), np.float32),
        "observation/image": [tfds.jpeg(10 * step) for step in range(steps)],
        "language_instruction": [b"open the drawer"] * steps,
    }
    root = folder / "libero_goal_no_noops"
    tfds.write_rlds(root, "libero_goal_no_noops", [{**sound, **changes}], specs or SPECS)
    return root


def hdf5(folder: Path, change, steps: int = 4) -> Path:
    root = folder / "libero_goal"
    root.mkdir()
    with h5py.File(root / "open_the_drawer_demo.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": "open the drawer"})
        demo = data.create_group("demo_0")
        actions = np.full((steps, 7), 0.3)
        actions[:, 6] = -1
        demo["actions"] = actions
        for camera in ("agentview_rgb", "eye_in_hand_rgb"):
            demo[f"obs/{camera}"] = np.zeros((steps, 8, 8, 3), np.uint8)
        demo["obs/ee_states"] = np.zeros((steps, 6))
        demo["obs/gripper_states"] = np.zeros((steps, 2))
        change(data, demo)
    return root


def replaced(key: str, **options):
    def change(data, demo):
        del demo[key]
        if options:
            demo.create_dataset(key, **options)

    return change


def attribute(**values):
    def change(data, demo):
        data.attrs.update(values)

    return change


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def one_bit_png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"hello",
        tfds.jpeg(3)[:-30],
        png(2**31 - 1, 2**31 - 1),
        png(60_000, 60_000),
        png(13_000, 13_000),
        one_bit_png(13_000),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n",
    ],
    ids=["empty", "text", "cut", "2^31 squared", "60000 squared", "13000 squared", "small bomb", "a program"],
)
def test_bytes_that_are_no_picture_of_a_camera_are_refused(encoded: bytes, tmp_path: Path):
    with pytest.raises(
        DataError, match=r"file, episode 7, field 'image': cannot decode the image of step 2 \(\d+ byte"
    ):
        decode(encoded, Where(tmp_path / "file", "7", "image"), 2)


@pytest.mark.parametrize(
    ("encoded", "said"),
    [
        (b"junk", "incorrect header check"),
        (zlib.compress(bytes(1 << 24)), "more than its 28 bytes"),
        (zlib.compress(bytes(27)), "fewer than its 28 bytes"),
    ],
)
def test_a_compressed_step_is_as_long_as_its_shape_says(tmp_path: Path, encoded: bytes, said: str):
    specs = {**SPECS, "action": tfds.tensor((7,), encoding="zlib")}
    with pytest.raises(DataError, match=f"record 0, field 'action': cannot be decoded: .*{said}"):
        list(read_episodes(rlds(tmp_path, specs=specs, action=[encoded] * 3)))


@pytest.mark.parametrize("length", [1 << 34, 1 << 62, (1 << 64) - 1])
def test_a_length_that_the_file_cannot_hold_is_not_believed(tmp_path: Path, length: int):
    root = rlds(tmp_path)
    header = struct.pack("<Q", length)
    path = next(root.glob("*.tfrecord*"))
    path.write_bytes(header + struct.pack("<I", tfds.masked(header)) + bytes(100))
    with pytest.raises(DataError, match="the file ends at byte 112, inside this record"):
        list(read_episodes(root))


@pytest.mark.parametrize("payload", [b"\x0a" + b"\xff" * 500_000 + b"\x01", b"\x0b\x0b", b"\x0a\xff\xff\xff\x0f", b""])
def test_a_record_that_is_no_example_is_refused(tmp_path: Path, payload: bytes):
    root = rlds(tmp_path)
    next(root.glob("*.tfrecord*")).write_bytes(tfds.framed(payload))
    with pytest.raises(DataError, match="episode record 0"):
        list(read_episodes(root))


@pytest.mark.parametrize("described", ["{", "[]", "[" * 100_000, '{"featuresDict": null}'])
def test_a_description_that_is_none_is_refused(tmp_path: Path, described: str):
    root = rlds(tmp_path)
    (root / "features.json").write_text(described)
    with pytest.raises(DataError, match=r"features\.json: "):
        list(read_episodes(root))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (replaced("actions"), "demo_0, field 'actions': is missing"),
        (replaced("obs"), "demo_0, field 'obs': is missing"),
        (replaced("actions", data=np.full((4, 6), 0.1)), r"'actions': has shape \(4, 6\)"),
        (replaced("actions", data=["x"] * 4), "'actions': has dtype object; numbers are expected"),
        (
            replaced("actions", shape=(10**12, 7), dtype="f8", chunks=(1000, 7)),
            "'actions': declares 56000000000000 byte",
        ),
        (replaced("obs/ee_states", data=np.zeros((3, 6))), r"'ee_states': has shape \(3, 6\) for 4 actions"),
        (
            replaced("obs/agentview_rgb", data=np.zeros((3, 8, 8, 3), "u1")),
            r"'agentview_rgb': has shape \(3, 8, 8, 3\)",
        ),
        (
            replaced("obs/agentview_rgb", shape=(4, 10**5, 10**5, 3), dtype="u1", chunks=True),
            "'agentview_rgb': declares",
        ),
        (replaced("obs", data=[1]), "'obs': is a dataset; a group is expected"),
        (lambda data, demo: data.create_dataset("demo_1", data=[1]), "demo_1, field 'demo_1': is a dataset"),
        (lambda data, demo: demo.attrs.update(num_samples=9), "'num_samples': is 9; the demonstration has 4 actions"),
        (attribute(num_demos=2), "'num_demos': is 2; the file holds 1"),
        (attribute(problem_info="{"), "'problem_info': names no task"),
        (attribute(problem_info="{}"), "'problem_info': names no task"),
        (attribute(problem_info=5), "'problem_info': names no task"),
    ],
)
def test_a_demonstration_file_that_contradicts_itself_names_the_member(tmp_path: Path, change, said: str):
    with pytest.raises(DataError, match=rf"open_the_drawer_demo\.hdf5.*{said}"):
        list(read_episodes(hdf5(tmp_path, change)))


def test_what_lies_in_another_file_is_not_read(tmp_path: Path):
    (tmp_path / "secret").write_bytes(bytes(range(256)) * 4)
    outside = [(str(tmp_path / "secret"), 0, 4 * 8 * 8 * 3)]
    change = replaced("obs/agentview_rgb", shape=(4, 8, 8, 3), dtype="u1", external=outside)
    with pytest.raises(DataError, match="'agentview_rgb': lies in another file"):
        list(read_episodes(hdf5(tmp_path, change)))


def test_a_demonstration_in_which_nothing_moves_is_left_out(tmp_path: Path):
    def change(data, demo):
        data.copy("demo_0", "demo_1")
        demo["actions"][:, :6] = 0

    root = hdf5(tmp_path, change)
    (root / "._open_the_drawer_demo.hdf5").write_bytes(bytes(100))
    whole = read_whole(root, None, SkipOptions(), images=True)
    assert [episode.where.episode for episode in whole.episodes] == ["demo_1"]
    assert "demo_0: every action is a no-op" in whole.left_out.lines()[0]
    assert isinstance(whole.left_out.empty[0], NothingToLearnError)


def test_what_a_library_says_fits_in_a_printable_line():
    assert said(ValueError("a\n\x1b[2J")) == "ValueError: a\\n\\x1b[2J."
    assert len(said(ValueError("x" * 5000))) < 400

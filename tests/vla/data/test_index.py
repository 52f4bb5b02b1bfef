"""A shard is read and verified once; later starts read its index, and notice when the shard has changed."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.vla.data import tfds_writer as tfds
from vla.data.errors import DataError
from vla.data.index import FOLDER
from vla.data.read import read_episodes
from vla.data.rlds import read_rlds

SPECS = {
    "action": tfds.tensor((7,)),
    "observation/state": tfds.tensor((8,)),
    "observation/image": tfds.IMAGE,
    "language_instruction": tfds.TEXT,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def dataset(folder: Path, episodes: int = 3) -> Path:
    written = []
    for number in range(episodes):
        steps = 4 + number
        written.append(
            {
                "action": np.linspace(0, 0.5, 7 * steps, dtype=np.float32).reshape(steps, 7) + number / 100,
                "observation/state": np.full((steps, 8), number, np.float32),
                "observation/image": [tfds.jpeg(10 * step + number) for step in range(steps)],
                "language_instruction": [f"open drawer {number}".encode()] * steps,
            }
        )
    return tfds.write_rlds(folder, "libero_goal_no_noops", written, SPECS)


def contents(episodes) -> list:
    return [
        (str(e.where), e.instruction, e.actions.tolist(), e.state.tolist(), [f[1].tolist() for f in e.cameras.values()])
        for e in episodes
    ]


def bytes_read(monkeypatch: pytest.MonkeyPatch, shard: Path) -> list[str]:
    """Names of files that are opened from here on, seen by Python's own audit of `open`."""
    opened: list[str] = []
    plain = Path.open

    def noted(self, *args, **kwargs):
        opened.append(self.name)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", noted)
    return opened


def test_a_second_start_reads_the_same_without_opening_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shard = dataset(tmp_path / "d")
    first = contents(read_rlds(tmp_path / "d"))
    opened = bytes_read(monkeypatch, shard)
    again = list(read_rlds(tmp_path / "d"))
    assert shard.name not in opened
    assert contents(again) == first


def test_the_real_sample_is_read_alike_from_its_index(shared: Path):
    first = contents(read_episodes(shared / "data/bridge_dataset"))
    assert contents(read_episodes(shared / "data/bridge_dataset")) == first
    assert len(first) == 25


def test_a_changed_shard_is_read_again_even_if_its_size_and_time_are_the_old_ones(tmp_path: Path):
    shard = dataset(tmp_path / "d")
    list(read_rlds(tmp_path / "d"))
    before = shard.stat()
    content = bytearray(shard.read_bytes())
    content[-40] ^= 1
    shard.write_bytes(content)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match="checksum"):
        list(read_rlds(tmp_path / "d"))


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "another shard's"])
def test_a_damaged_index_is_made_again(tmp_path: Path, harm: str):
    dataset(tmp_path / "d")
    first = contents(read_rlds(tmp_path / "d"))
    [index] = (tmp_path / "d" / FOLDER).iterdir()
    good = index.read_bytes()
    if harm == "cut":
        index.write_bytes(good[:-10])
    elif harm == "flipped":
        index.write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
    elif harm == "empty":
        index.write_bytes(b"")
    else:
        dataset(tmp_path / "other", 2)
        list(read_rlds(tmp_path / "other"))
        [other] = (tmp_path / "other" / FOLDER).iterdir()
        shutil.copy(other, index)
    assert contents(read_rlds(tmp_path / "d")) == first
    assert index.read_bytes() == good


def test_faults_are_told_again_from_the_index(tmp_path: Path):
    shard = dataset(tmp_path / "d")
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    told = []
    for _ in range(2):
        bad: list[DataError] = []
        assert len(list(read_rlds(tmp_path / "d", on_bad=bad.append))) == 2
        told.append([(str(error), error.episodes) for error in bad])
    assert told[0] == told[1]
    assert "record 0" in told[0][0][0]


def test_where_the_folder_cannot_be_written_the_index_lies_in_the_users_cache(tmp_path: Path):
    dataset(tmp_path / "d")
    (tmp_path / "d" / FOLDER).write_text("in the way")
    first = contents(read_rlds(tmp_path / "d"))
    [index] = (path for path in (tmp_path / "cache/motion-vla/index").rglob("*") if path.is_file())
    assert contents(read_rlds(tmp_path / "d")) == first
    assert index.is_file()


def test_where_nothing_can_be_written_every_start_reads_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset(tmp_path / "d")
    (tmp_path / "d" / FOLDER).write_text("in the way")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert contents(read_rlds(tmp_path / "d")) == contents(read_rlds(tmp_path / "d"))


def test_reading_that_stops_early_leaves_no_index(tmp_path: Path):
    dataset(tmp_path / "d")
    next(read_rlds(tmp_path / "d"))
    assert not (tmp_path / "d" / FOLDER).exists()

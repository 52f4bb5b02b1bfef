"""TFRecord framing and Example messages: a real file, and what happens to damaged ones."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vla.data import tfds_writer as tfds
from vla.data.errors import DataError, Where
from vla.data.tfrecord import Record, read_example, read_records

INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=50)


@pytest.fixture
def three_records(tmp_path: Path) -> Path:
    path = tmp_path / "data.tfrecord"
    path.write_bytes(b"".join(tfds.framed(bytes([number]) * 50) for number in range(3)))
    return path


def test_a_real_file_is_read_with_its_checksums(shared: Path):
    path = next((shared / "data/bridge_dataset/1.0.0").glob("*.tfrecord-*"))
    records = list(read_records(path))
    assert len(records) == 25
    features = read_example(records[0], Where(path))
    assert features["steps/action"].numbers.shape == (70,)
    assert features["steps/is_first"].numbers.tolist() == [1] + [0] * 9
    offset, size = features["steps/observation/image_0"].spans[3]
    assert path.read_bytes()[offset : offset + size].startswith(b"\xff\xd8")


def test_a_damaged_payload_is_named_and_left_out(three_records: Path):
    content = bytearray(three_records.read_bytes())
    content[66 + 30] ^= 1
    three_records.write_bytes(content)
    bad: list[DataError] = []
    assert [record.number for record in read_records(three_records, bad.append)] == [0, 2]
    assert "record 1" in str(bad[0])
    assert "CRC-32C" in str(bad[0])
    with pytest.raises(DataError, match="record 1"):
        list(read_records(three_records))


@pytest.mark.parametrize("cut", [1, 4, 40, 60])
def test_a_cut_file_yields_what_came_before_the_cut(three_records: Path, cut: int):
    three_records.write_bytes(three_records.read_bytes()[:-cut])
    bad: list[DataError] = []
    assert [record.number for record in read_records(three_records, bad.append)] == [0, 1]
    assert len(bad) == 1
    assert str(three_records) in str(bad[0])
    assert "record 2" in str(bad[0])


def test_a_damaged_header_stops_the_file(three_records: Path):
    content = bytearray(three_records.read_bytes())
    content[66:74] = struct.pack("<Q", 2**40)
    three_records.write_bytes(content)
    bad: list[DataError] = []
    assert [record.number for record in read_records(three_records, bad.append)] == [0]
    assert "header" in str(bad[0])


@given(INTEGERS, FLOATS, st.lists(st.binary(max_size=300), max_size=5))
def test_examples_come_back_as_they_were_written(integers, floats, texts):
    payload = tfds.example(
        {"whole": np.array(integers, np.int64), "real": np.array(floats, np.float32), "texts": list(texts)}
    )
    features = read_example(Record(0, payload, 1000), Where(Path("x")))
    assert features["steps/whole"].numbers.tolist() == integers
    assert features["steps/real"].numbers.tolist() == floats
    spans = features["steps/texts"].spans
    assert [payload[offset - 1000 : offset - 1000 + size] for offset, size in spans] == texts


def test_numbers_that_are_not_packed_are_read_too():
    floats = b"".join(tfds.varint(1 << 3 | 5) + struct.pack("<f", number) for number in (1.5, -2.0))
    whole = b"".join(tfds.varint(1 << 3) + tfds.varint(number) for number in (3, 300))
    entries = [(b"real", tfds.field(2, floats)), (b"whole", tfds.field(3, whole))]
    payload = tfds.field(1, b"".join(tfds.field(1, tfds.field(1, key) + tfds.field(2, v)) for key, v in entries))
    features = read_example(Record(0, payload, 0), Where(Path("x")))
    assert features["real"].numbers.tolist() == [1.5, -2.0]
    assert features["whole"].numbers.tolist() == [3, 300]


def test_bytes_that_are_no_example_are_refused():
    with pytest.raises(DataError, match=r"not a tf\.train\.Example"):
        read_example(Record(0, b"\x0a\xff\xff\xff\x01garbage", 0), Where(Path("x"), "record 0"))

"""What a message may hold, and what it may not."""

import io

import msgpack
import numpy as np
import pytest
from PIL import Image

from evals.serving.motion_vla_serve import WireError, decode, encode

SAMPLE = np.array([[1, 2]], np.float32)


def array_map(**changed):
    parts = {"data": b"1234", "dtype": "<f4", "shape": [1], **changed}
    return msgpack.packb({"__ndarray__": True, **parts})


@pytest.mark.parametrize("markers", ["openpi", "vla-server"])
def test_arrays_come_back_as_writable_copies_in_the_order_of_bytes_of_this_machine(markers):
    sent = {
        "image": np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1],
        "swapped": np.arange(6, dtype=">i2").reshape(2, 3, order="F"),
        "list": [np.zeros((0, 7)), np.array(3.0), np.array([True])],
        "prompt": "reach",
        "largest": 2**64 - 1,
        "nothing": None,
    }
    got = decode(encode(sent, markers))
    np.testing.assert_array_equal(got["image"], sent["image"])
    np.testing.assert_array_equal(got["swapped"], sent["swapped"])
    assert got["swapped"].dtype.isnative
    assert [part.shape for part in got["list"]] == [(0, 7), (), (1,)]
    assert (got["prompt"], got["largest"], got["nothing"]) == ("reach", 2**64 - 1, None)
    got["image"][:] = 0


def test_openpi_marks_arrays_by_bytes_and_numbers_too():
    expected = (
        "84c40b5f5f6e6461727261795f5fc3c40464617461c4080000803f00000040c4056474797065a33c6634c4057368617065920102"
    )
    assert encode(SAMPLE).hex() == expected
    number = decode(encode([np.float32(1.5)]))[0]
    assert isinstance(number, np.float32)
    assert number == 1.5


def test_the_vla_server_wire_marks_arrays_by_text_and_writes_plain_numbers():
    raw = msgpack.unpackb(encode({"a": SAMPLE, "n": np.int8(3)}, "vla-server"))
    assert list(raw["a"]) == ["__ndarray__", "data", "dtype", "shape"]
    assert raw["n"] == 3


@pytest.mark.parametrize(("file_format", "exact"), [("raw", True), ("png", True), ("jpeg", False)])
def test_pictures_of_the_vla_server_wire_are_read(file_format, exact):
    picture = np.full((4, 6, 3), 100, np.uint8)
    file = io.BytesIO()
    if file_format != "raw":
        Image.fromarray(picture).save(file, file_format)
    data = picture.tobytes() if file_format == "raw" else file.getvalue()
    sent = {"__image__": True, "format": file_format, "data": data, "shape": [4, 6, 3]}
    got = decode(msgpack.packb(sent))
    assert got.shape == (4, 6, 3)
    assert np.abs(got.astype(int) - 100).max() <= (0 if exact else 3)
    with pytest.raises(WireError, match=r"declared as \[5, 6, 3\]|expected 90"):
        decode(msgpack.packb({**sent, "shape": [5, 6, 3]}))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (array_map(dtype="|O"), "dtype '|O'"),
        (array_map(dtype="f4,f4"), "dtype 'f4,f4'"),
        (array_map(dtype="<f16"), "dtype '<f16'"),
        (array_map(dtype="<U1"), "dtype '<U1'"),
        (array_map(dtype=None), "dtype is None"),
        (array_map(shape=[2]), "has 4 bytes of data, expected 8"),
        (array_map(shape=[-1]), "expected a list of sizes"),
        (array_map(shape=[0, 2**31 - 1, 2**31 - 1, 2**31 - 1], data=b""), "too big"),
        (array_map(shape=[1] * 40), "at most 32"),
        (array_map(data="1234"), "expected bytes"),
        (msgpack.packb({"__npgeneric__": True, "dtype": "<i2", "data": 99999}), "99999"),
        (msgpack.packb([msgpack.ExtType(3, b"1")]), "extension type 3"),
        (msgpack.packb({"a": [msgpack.Timestamp(1)]}), "extension type"),
        (msgpack.packb({1: 2}), "int is not allowed"),
        (msgpack.packb({"__image__": True, "format": "png", "data": b"no", "shape": [2, 2, 3]}), "cannot be read"),
        (msgpack.packb({"__image__": True, "format": "gif", "data": b"no", "shape": [2, 2, 3]}), "'gif'"),
        (b"\x91" * 5000, "no msgpack message"),
        (b"\xdd\xff\xff\xff\xff", "no msgpack message"),
        (b"", "no msgpack message"),
        ("text", "got str"),
    ],
)
def test_what_is_no_message_is_refused_in_words(data, word):
    with pytest.raises(WireError) as error:
        decode(data)
    assert word in str(error.value)


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.array(["a"]), np.zeros(2, complex), np.longdouble(1), 2**70, np.array([object()])],
)
def test_what_a_message_cannot_hold_is_not_written(value):
    with pytest.raises(WireError):
        encode({"a": value})


def test_a_message_has_a_size_limit():
    with pytest.raises(WireError, match=r"at most 10"):
        decode(encode(SAMPLE), max_bytes=10)

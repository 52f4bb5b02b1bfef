"""TFRecord files and `tf.train.Example` messages without TensorFlow.

Formats: https://www.tensorflow.org/tutorials/load_data/tfrecord (framing, masked CRC-32C) and
tensorflow/core/example/{example,feature}.proto. The message is four levels of one wire format, so reading it here takes
less than the `protobuf` package and generated classes would, and gives what they cannot: where in the file an image is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vla.data.errors import DataError, OnBad, Where, fail, lfs_pointer, reading

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HEADER, _FOOTER = 12, 4
_VARINT_BITS = 70


class Record(NamedTuple):
    """One record of a file: its number, its payload, and where in the file the payload begins."""

    number: int
    data: bytes
    offset: int


@dataclass(frozen=True, eq=False)
class Feature:
    """One feature of an Example: a flat list of numbers, or of byte strings.

    Attributes:
        numbers: `[N]` float32 or int64, or None where the feature holds byte strings.
        spans: `[N, 2]` offset and size of the byte strings in the file, or None.
        values: the byte strings themselves, where they are kept instead of their places, or None.
    """

    numbers: NDArray[np.float32] | NDArray[np.int64] | None
    spans: NDArray[np.int64] | None
    values: tuple[bytes, ...] | None = None


def read_records(path: Path, on_bad: OnBad = fail) -> Iterator[Record]:
    """Yield the records of a TFRecord file, both checksums of each verified.

    A record whose payload is damaged is reported and left out; after a damaged header or a cut file nothing can follow.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        number = offset = 0
        while offset < size:
            where = Where(path, f"record {number}")
            header = file.read(_HEADER)
            if len(header) < _HEADER or _masked_crc(header[:8]) != int.from_bytes(header[8:], "little"):
                problem = lfs_pointer(path) or f"no valid record header at byte {offset}; {_FETCH_AGAIN}"
                on_bad(DataError(where, problem, episodes=None))
                return
            length = int.from_bytes(header[:8], "little")
            # Before anything is read: a damaged length would ask for more memory than there is.
            if offset + _HEADER + length + _FOOTER > size:
                problem = f"the file ends at byte {size}, inside this record; {_FETCH_AGAIN}"
                on_bad(DataError(where, problem, episodes=None))
                return
            data, footer = file.read(length), file.read(_FOOTER)
            if _masked_crc(data) != int.from_bytes(footer, "little"):
                on_bad(DataError(where, f"the checksum (CRC-32C) of its {length} bytes is wrong; {_FETCH_AGAIN}"))
            else:
                yield Record(number, data, offset + _HEADER)
            offset += _HEADER + length + _FOOTER
            number += 1


_FETCH_AGAIN = "the file is damaged or cut short: fetch it again."


def read_example(record: Record, where: Where) -> dict[str, Feature]:
    """Read a serialised `tf.train.Example`.

    Returns:
        Feature name -> feature; byte strings are given as places in the record's file.

    Raises:
        DataError: the payload is no Example.
    """
    data = record.data
    features: dict[str, Feature] = {}
    with reading(where, "is not a tf.train.Example"):
        for number, start, end in _fields(data, 0, len(data)):
            if number != 1:
                continue
            for _, entry_start, entry_end in _fields(data, start, end):
                entry = {n: (a, b) for n, a, b in _fields(data, entry_start, entry_end)}
                key_start, key_end = entry[1]
                name = data[key_start:key_end].decode()
                features[name] = _feature(data, *entry.get(2, (0, 0)), record.offset)
    return features


def _feature(data: bytes, start: int, end: int, offset: int) -> Feature:
    """Read the one list that a Feature message holds: bytes (1), floats (2) or int64 (3)."""
    for kind, list_start, list_end in _fields(data, start, end):
        values = [(a, b) for _, a, b in _fields(data, list_start, list_end)]
        if kind == 1:
            return Feature(None, np.array([(offset + a, b - a) for a, b in values], np.int64).reshape(-1, 2))
        packed = b"".join(data[a:b] for a, b in values)
        if kind == 2:
            return Feature(np.frombuffer(packed, "<f4"), None)
        return Feature(_varints(packed), None)
    return Feature(np.zeros(0, np.float32), None)


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number and payload range of each field of the message in `data[start:end]`."""
    position = start
    while position < end:
        key, position = _varint(data, position)
        wire = key & 7
        if wire == _VARINT:
            begin = position
            _, position = _varint(data, position)
            yield key >> 3, begin, position
            continue
        if wire == _BYTES:
            length, position = _varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > end:
            raise ValueError(f"a field of {length} bytes at byte {position} passes the end of its message")
        yield key >> 3, position, position + length
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read one base-128 integer and return it with the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift >= _VARINT_BITS:
            raise ValueError(f"an integer of more than {_VARINT_BITS} bits at byte {position}")


def _varints(packed: bytes) -> NDArray[np.int64]:
    """Read packed base-128 integers (two's complement of 64 bits), all at once."""
    raw = np.frombuffer(packed, np.uint8)
    last = raw < 0x80
    starts = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1)) if len(raw) else np.zeros(0, np.intp)
    place = np.arange(len(raw)) - np.repeat(starts, np.diff(np.append(starts, len(raw))))
    parts = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    values: NDArray[np.int64] = np.add.reduceat(parts, starts).view(np.int64) if len(raw) else np.zeros(0, np.int64)
    return values


def _masked_crc(data: bytes) -> int:
    """CRC-32C, rotated right by 15 and shifted by a constant, as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return int(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

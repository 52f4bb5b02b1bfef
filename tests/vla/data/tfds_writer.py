"""Writes RLDS datasets as TFDS lays them out, to be read back by tests: an encoder made for tests only."""

import json
import struct
from io import BytesIO
from pathlib import Path

import google_crc32c
import numpy as np
from PIL import Image


def write_rlds(folder: Path, name: str, episodes: list[dict], specs: dict[str, dict], split: str = "train") -> Path:
    """Write one shard; an episode is feature name -> array or list of bytes, `specs` are nodes of features.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "features.json").write_text(json.dumps(features_json(specs)))
    path = folder / f"{name}-{split}.tfrecord-00000-of-00001"
    path.write_bytes(b"".join(framed(example(episode)) for episode in episodes))
    return path


def features_json(specs: dict[str, dict]) -> dict:
    root: dict = {}
    for name, node in specs.items():
        *parents, leaf = name.split("/")
        level = root
        for parent in parents:
            level = level.setdefault(parent, {"featuresDict": {"features": {}}})["featuresDict"]["features"]
        level[leaf] = node
    steps = {"sequence": {"feature": {"featuresDict": {"features": root}}}}
    return {"featuresDict": {"features": {"steps": steps}}}


def tensor(shape: tuple[int, ...], dtype: str = "float32", encoding: str = "none") -> dict:
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {"tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding}}


IMAGE = {"image": {"shape": {"dimensions": ["32", "32", "3"]}, "dtype": "uint8"}}
TEXT = {"text": {}}
STRING = tensor((), "string")


def framed(payload: bytes) -> bytes:
    header = struct.pack("<Q", len(payload))
    return header + struct.pack("<I", masked(header)) + payload + struct.pack("<I", masked(payload))


def masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def example(features: dict) -> bytes:
    entries = b"".join(field(1, field(1, f"steps/{key}".encode()) + field(2, value(v))) for key, v in features.items())
    return field(1, entries)


def value(values) -> bytes:
    if isinstance(values, list):
        return field(1, b"".join(field(1, entry) for entry in values))
    array = np.asarray(values).ravel()
    if array.dtype.kind == "f":
        return field(2, field(1, array.astype("<f4").tobytes()))
    return field(3, field(1, b"".join(varint(int(number) & (2**64 - 1)) for number in array)))


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def jpeg(level: int, size: int = 32) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (size, size), (level, level, level)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()

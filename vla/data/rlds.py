"""RLDS datasets as TFDS stores them: TFRecord shards of episodes, with `features.json` that says what they hold."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.demonstration import Demonstration, checked
from vla.data.errors import DataError, OnBad, Where, attempt, fail, reader, reading
from vla.data.frames import FileFrames, Frames
from vla.data.json_files import member, read_json
from vla.data.layout import Layout
from vla.data.oxe import BUILDERS, LAYOUTS, layout_named
from vla.data.shards import Needed, Slim, read_shard
from vla.data.tfrecord import Feature

_SHARD = re.compile(r"(?P<dataset>.+)-(?P<split>[^-]+)\.tfrecord-(?P<number>\d+)-of-(?P<count>\d+)$")


@dataclass(frozen=True)
class FeatureSpec:
    """What `features.json` says of one feature.

    Attributes:
        kind: "tensor", "image" or "text".
        shape: of one step.
        dtype: NumPy's name, or "string".
        encoding: "none", "bytes" or "zlib": how a tensor is stored.
    """

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = "string"
    encoding: str = "none"


@reader
def read_rlds(
    directory: Path, split: str = "train", layout: Layout | None = None, on_bad: OnBad = fail
) -> Iterator[Demonstration]:
    """Yield the episodes of one split, shard by shard, in the order of the files.

    Args:
        directory: a TFDS version folder (with `features.json`), or the folder above its only version.
        split: which split.
        layout: what the action numbers mean; by default that of the dataset's name.
        on_bad: called for what cannot be read.

    Raises:
        DataError: the folder is no dataset or its layout is unknown; or what `on_bad` raises.
    """
    folder = version_folder(directory)
    specs = read_specs(folder / "features.json")
    builder, shards = _shards(folder, split, on_bad)
    name = dataset_name(folder, builder)
    layout = layout or layout_named(name, folder)
    _check_layout(layout, specs, folder)
    needed = _needed(layout, specs)
    lengths = _declared_lengths(folder / "dataset_info.json", split)
    for shard in shards:
        for record in _records(shard, needed, lengths.get(_number(shard)), on_bad):
            where = Where(shard, f"record {record.number}")
            yield from attempt(partial(_episode, name, layout, specs, record, where), where, on_bad)


def dataset_name(folder: Path, builder: str) -> str:
    """Return the dataset's name, the key of its statistics.

    It is the builder's, which the files begin with, if a layout has it; else that of the folder if a layout has that
    (OpenVLA's LIBERO lies in libero_10_no_noops/1.0.0/liber_o10-train.tfrecord-...), else what the builder is known as.

    Args:
        folder: the version folder.
        builder: name before "-train.tfrecord-".
    """
    known = {layout.name for layout in LAYOUTS}
    for name in (builder, folder.name, folder.resolve().parent.name):
        if name in known:
            return name
    return BUILDERS.get(builder, builder)


def version_folder(directory: Path) -> Path:
    """Return the folder that holds `features.json`: `directory` or its only version.

    Raises:
        DataError: there is none, or more than one.
    """
    if (directory / "features.json").is_file():
        return directory
    versions = sorted(path.parent for path in directory.glob("*/features.json"))
    if len(versions) != 1:
        found = ", ".join(path.name for path in versions) or "none"
        raise DataError(Where(directory), f"name the version folder that holds features.json; found here: {found}.")
    return versions[0]


def read_specs(path: Path) -> dict[str, FeatureSpec]:
    """Read `features.json` and return feature name ("steps/observation/image") -> what it is."""
    specs: dict[str, FeatureSpec] = {}

    def walk(node: dict[str, Any], name: str) -> None:
        if "featuresDict" in node:
            for key, child in node["featuresDict"]["features"].items():
                walk(child, f"{name}/{key}" if name else key)
        elif "sequence" in node:
            walk(node["sequence"]["feature"], name)
        elif "tensor" in node:
            tensor = node["tensor"]
            shape = tuple(int(size) for size in tensor["shape"].get("dimensions", ()))
            if min(shape, default=0) < 0:
                raise ValueError(f"{name} has shape {shape}")
            specs[name] = FeatureSpec("tensor", shape, tensor["dtype"], tensor.get("encoding", "none"))
        elif "image" in node or "text" in node:
            specs[name] = FeatureSpec("image" if "image" in node else "text")

    with reading(Where(path), "cannot read the feature description"):
        walk(read_json(path), "")
    return specs


def _declared_lengths(path: Path, split: str) -> dict[int, int]:
    """Return shard number -> records that the dataset's description says it has; empty where it says nothing."""
    if not path.is_file():
        return {}
    for described in read_json(path).get("splits") or ():
        if isinstance(described, dict) and described.get("name") == split and described.get("shardLengths"):
            with reading(Where(path, field="shardLengths"), "is no list of whole numbers"):
                return {
                    number: int(length) for number, length in enumerate(member(described, "shardLengths", list, path))
                }
    return {}


def _number(shard: Path) -> int:
    """Return the number of a shard among those of its split."""
    found = _SHARD.match(shard.name)
    return int(found["number"]) if found else 0


def _needed(layout: Layout, specs: dict[str, FeatureSpec]) -> Needed:
    """Return the features that a layout reads; images stay where they are."""
    read = {*layout.inputs, *layout.state, layout.instruction} & {name.removeprefix("steps/") for name in specs}
    images = {key for key in layout.cameras.values() if f"steps/{key}" in specs}
    return Needed(tuple(sorted(read)), tuple(sorted(images)), layout.instruction)


def _records(shard: Path, needed: Needed, declared: int | None, on_bad: OnBad) -> Iterator[Slim]:
    """Yield the records of a file and report where they are not as many as the description says."""
    seen = 0

    def count(error: DataError) -> None:
        nonlocal seen
        lost = error.episodes or (declared - seen if declared is not None else None)
        seen += lost or 0
        on_bad(DataError(error.where, error.problem, lost))

    for record in read_shard(shard, needed, count):
        seen += 1
        yield record
    if declared is None and not shard.stat().st_size:
        on_bad(DataError(Where(shard), "is empty. Fetch it again.", None))
    if declared not in (None, seen):
        problem = f"holds {seen} records; dataset_info.json says {declared}. Fetch it again, or mend that file."
        on_bad(DataError(Where(shard), problem, max((declared or 0) - seen, 0)))


def _shards(folder: Path, split: str, on_bad: OnBad) -> tuple[str, list[Path]]:
    """Return the dataset's name and the files of a split; missing ones are reported."""
    # Archives that macOS wrote have a "._" companion beside each file.
    files = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    matches = [(path, match) for path in files if (match := _SHARD.match(path.name))]
    chosen = [(path, match) for path, match in matches if match["split"] == split]
    if not chosen:
        found = ", ".join(sorted({match["split"] for _, match in matches})) or "no TFRecord file"
        raise DataError(Where(folder), f"has no file of split {split!r}; found: {found}.")
    present = {int(match["number"]) for _, match in chosen}
    count = int(chosen[0][1]["count"])
    dataset = chosen[0][1]["dataset"]
    lengths = _declared_lengths(folder / "dataset_info.json", split)
    for number in sorted(set(range(count)) - present):
        missing = folder / f"{dataset}-{split}.tfrecord-{number:05d}-of-{count:05d}"
        on_bad(DataError(Where(missing), f"is missing; the split has {count} files. Fetch it.", lengths.get(number)))
    return dataset, [path for path, _ in chosen]


def _check_layout(layout: Layout, specs: dict[str, FeatureSpec], folder: Path) -> None:
    needed = (*layout.inputs, *layout.state, layout.instruction)
    missing = [name for name in needed if f"steps/{name}" not in specs]
    if not any(f"steps/{feature}" in specs for feature in layout.cameras.values()):
        missing.append(" or ".join(layout.cameras.values()))
    if missing:
        steps = sorted(name.removeprefix("steps/") for name in specs if name.startswith("steps/"))
        raise DataError(
            Where(folder / "features.json", field=missing[0]),
            f"is not in this dataset, but layout {layout.name!r} needs it. It holds: {', '.join(steps)}.",
        )


def _episode(name: str, layout: Layout, specs: dict[str, FeatureSpec], record: Slim, where: Where) -> Demonstration:

    def feature(key: str) -> Feature:
        if key not in record.features:
            raise DataError(Where(where.file, where.episode, key), "is missing from this record.")
        return record.features[key]

    def tensor(key: str) -> NDArray[np.float32]:
        spec = specs[f"steps/{key}"]
        return _tensor(feature(key), spec, Where(where.file, where.episode, key))

    steps = {key: tensor(key) for key in (*layout.inputs, *layout.state)}
    length = len(steps[layout.inputs[0]])
    for key, values in steps.items():
        if len(values) != length:
            raise DataError(Where(where.file, where.episode, key), f"has {len(values)} steps, others {length}.")
    layout.require_steps(length, where)
    stored = layout.stored_gripper(steps, where)
    state = [np.zeros((length, 0), np.float32), *(steps[key].reshape(length, -1) for key in layout.state)]
    cameras: dict[str, Frames] = {}
    for camera, key in layout.cameras.items():
        if f"steps/{key}" in specs and (spans := feature(key).spans) is not None:
            cameras[camera] = FileFrames(Where(where.file, where.episode, key), spans[layout.keep])
    return checked(
        Demonstration(
            dataset=name,
            where=where,
            instruction=_first_text(feature(layout.instruction)),
            actions=layout.actions(steps),
            state=np.concatenate(state, axis=1)[layout.keep],
            cameras=cameras,
            control_hz=layout.control_hz,
            convention=layout.convention,
            stored_gripper=stored,
        )
    )


def _tensor(feature: Feature, spec: FeatureSpec, where: Where) -> NDArray[np.float32]:
    """`[T, *shape]`, from a flat list of numbers or from one encoded array a step."""
    with reading(where, "cannot be decoded"):
        return _decoded(feature, spec, where)


def _decoded(feature: Feature, spec: FeatureSpec, where: Where) -> NDArray[np.float32]:
    size = math.prod(spec.shape)
    if feature.numbers is not None:
        flat = feature.numbers
    else:
        stored = np.dtype(spec.dtype)
        if stored.kind not in "biuf":
            raise DataError(where, f"has dtype {spec.dtype!r}; numbers are expected.")
        encoded = feature.values or ()
        most = size * stored.itemsize
        raw = [_inflated(entry, most) for entry in encoded] if spec.encoding == "zlib" else encoded
        flat = np.frombuffer(b"".join(raw), stored)
    if size == 0 or len(flat) % size:
        raise DataError(where, f"holds {len(flat)} numbers; a multiple of {size} (shape {spec.shape}) is expected.")
    return flat.reshape(-1, *spec.shape).astype(np.float32)


def _inflated(entry: bytes, size: int) -> bytes:
    """Decompress to `size` bytes, and no more than that whatever the stream holds."""
    stream = zlib.decompressobj()
    raw = stream.decompress(entry, size + 1)
    if len(raw) != size:
        raise ValueError(f"a compressed step has {'more' if len(raw) > size else 'fewer'} than its {size} bytes")
    return raw


def _first_text(feature: Feature) -> str:
    return feature.values[0].decode(errors="replace") if feature.values else ""

"""The records of a TFRecord shard as a data set needs them: a few features each, read once and indexed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla.data.errors import DataError, OnBad, Where
from vla.data.index import Entry, load_index, save_index, stamp_of
from vla.data.tfrecord import Feature, Record, read_example, read_records

_PREFIX = "steps/"


class Needed(NamedTuple):
    """Which features of a record are kept.

    Attributes:
        values: names below `steps/` of features whose values are kept: numbers, encoded arrays, texts.
        places: names below `steps/` of features of which it is kept where in the file they lie: images.
        once: the feature among `values` of which the first value says all: the instruction.
    """

    values: tuple[str, ...]
    places: tuple[str, ...]
    once: str


class Slim(NamedTuple):
    """What is kept of a record: its number, and its features by their names below `steps/`."""

    number: int
    features: Mapping[str, Feature]


def read_shard(shard: Path, needed: Needed, on_bad: OnBad) -> Iterator[Slim]:
    """Yield what is needed of every sound record: from the shard's index, or from the shard, which is then indexed.

    Reading the shard verifies all checksums. Faults are reported in the same words from the index, until the file
    changes.
    """
    purpose = json.dumps(["shard", *needed])
    known = load_index(shard, purpose)
    if known is not None:
        for field, episode, problem, episodes in known.text["faults"]:
            on_bad(DataError(Where(shard, episode, field), problem, episodes))
        yield from _unpacked(known)
        return
    stamp = stamp_of(shard, purpose)
    faults: list[tuple[str, str, str, int | None]] = []
    records: list[Slim] = []

    def note(error: DataError) -> None:
        faults.append((error.where.field, error.where.episode, error.problem, error.episodes))
        on_bad(error)

    for record in read_records(shard, note):
        try:
            slim = _slim(record, needed, Where(shard, f"record {record.number}"))
        except DataError as error:
            note(error)
            continue
        records.append(slim)
        yield slim
    save_index(shard, purpose, _packed(records, faults), stamp)


def _slim(record: Record, needed: Needed, where: Where) -> Slim:
    features = read_example(record, where)
    kept = {}
    for name in (*needed.values, *needed.places):
        feature = features.get(f"{_PREFIX}{name}")
        if feature is None:
            continue
        if feature.spans is not None and name in needed.values:
            spans = feature.spans[:1] if name == needed.once else feature.spans
            feature = Feature(None, None, tuple(_slice(record, span) for span in spans))
        kept[name] = feature
    return Slim(record.number, kept)


def _slice(record: Record, span: NDArray[np.int64]) -> bytes:
    start = int(span[0]) - record.offset
    return record.data[start : start + int(span[1])]


def _packed(records: Sequence[Slim], faults: Sequence[object]) -> Entry:
    """Put records into few arrays: of each feature and kind one of all records, and how much of it each record has."""
    arrays: dict[str, NDArray[Any]] = {}
    names = sorted({name for record in records for name in record.features})
    for name in names:
        for kind, parts in _KINDS.items():
            found = [parts(record.features[name]) if name in record.features else None for record in records]
            there = [part for part in found if part is not None]
            for dtype in sorted({part.dtype.str for part in there}):
                sizes = [-1 if part is None or part.dtype.str != dtype else len(part) for part in found]
                key = f"{kind} {dtype} {name}"
                arrays[f"{key} sizes"] = np.array(sizes, np.int64)
                arrays[f"{key} all"] = np.concatenate([part for part in there if part.dtype.str == dtype])
            if kind == "values" and there:
                content = [
                    b"".join(record.features[name].values or ()) for record in records if name in record.features
                ]
                arrays[f"bytes {name}"] = np.frombuffer(b"".join(content), np.uint8)
    told = {"numbers": [record.number for record in records], "faults": list(faults), "features": names}
    return Entry(told, arrays)


def _lengths(feature: Feature) -> NDArray[np.int64] | None:
    return None if feature.values is None else np.array([len(value) for value in feature.values], np.int64)


_KINDS: Mapping[str, Callable[[Feature], NDArray[Any] | None]] = {
    "numbers": lambda feature: feature.numbers,
    "spans": lambda feature: feature.spans,
    "values": _lengths,
}


def _unpacked(entry: Entry) -> Iterator[Slim]:
    """Yield the records that `_packed` packed; their arrays are parts of the index's."""
    count = len(entry.text["numbers"])
    features: list[dict[str, Feature]] = [{} for _ in range(count)]
    for key in [key.removesuffix(" all") for key in entry.arrays if key.endswith(" all")]:
        kind, _, name = key.split(" ", 2)
        content, at = (entry.arrays[f"bytes {name}"].tobytes(), 0) if kind == "values" else (b"", 0)
        end = 0
        for number, size in enumerate(entry.arrays[f"{key} sizes"].tolist()):
            if size < 0:
                continue
            part = entry.arrays[f"{key} all"][end : end + size]
            end += size
            if kind == "values":
                ends = at + np.cumsum(part)
                values = tuple(content[b - n : b] for b, n in zip(ends.tolist(), part.tolist(), strict=True))
                at = int(ends[-1]) if size else at
                features[number][name] = Feature(None, None, values)
            else:
                features[number][name] = Feature(part, None) if kind == "numbers" else Feature(None, part)
    for number, found in zip(entry.text["numbers"], features, strict=True):
        yield Slim(number, found)

"""LeRobotDataset directories, versions 2.0, 2.1 and 3.0, without the `lerobot` library.

Layout after huggingface/lerobot (docs/source/lerobot-dataset-v3.mdx, datasets/utils.py): version 2 keeps one parquet
file and one video per camera for each episode, and its lists as JSON lines; version 3 joins many episodes in one file,
and keeps its lists as parquet.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from vla.data.episode import Episode, checked
from vla.data.errors import DataError, OnBad, Where, fail
from vla.data.frames import Frames, ParquetFrames, VideoFrames
from vla.data.layout import Layout, check_names
from vla.data.oxe import layout_named

ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper_open")
"""Names of the action's entries by which a dataset says that it keeps our convention."""

INTENT = "intent"
"""Column of the motion sentence that an expert intended."""

_ALIASES = {"action": ("action", "actions"), "observation/state": ("observation.state", "state")}
_INDEX = ("episode_index", "task_index", "timestamp")


@dataclass(frozen=True)
class _Entry:
    """One episode as the metadata lists it."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, tuple[Path, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Dataset:
    """What `meta/` says of the whole dataset."""

    root: Path
    info: Mapping[str, Any]
    tasks: Mapping[int, str]
    layout: Layout
    columns: Mapping[str, str]
    cameras: Mapping[str, str]


def read_lerobot(directory: Path, layout: Layout | None = None, on_bad: OnBad = fail) -> Iterator[Episode]:
    """Yield the episodes in the order of their index within each data file.

    Args:
        directory: the folder that holds `meta/info.json`.
        layout: what the action numbers mean; may be left out where the action's names are `ACTION_NAMES`.
        on_bad: called for what cannot be read.

    Raises:
        DataError: the folder is no dataset of a known version, its action layout is unknown, or what `on_bad` raises.
    """
    dataset, entries = _open(directory, layout)
    by_file: dict[Path, list[_Entry]] = defaultdict(list)
    for entry in entries:
        by_file[entry.data].append(entry)
    for path, members in by_file.items():
        try:
            table = _table(path, dataset)
        except DataError as error:
            on_bad(error)
            continue
        owner = _numbers(table, "episode_index")
        for entry in members:
            try:
                yield _episode(dataset, entry, table, np.flatnonzero(owner == entry.index))
            except DataError as error:
                on_bad(error)


def _open(root: Path, layout: Layout | None) -> tuple[_Dataset, list[_Entry]]:
    info = _json(root / "meta/info.json")
    version = str(info.get("codebase_version", ""))
    if version not in ("v2.0", "v2.1", "v3.0"):
        raise DataError(
            Where(root / "meta/info.json", field="codebase_version"), f"is {version!r}; v2.0, v2.1 or v3.0 is expected."
        )
    features: Mapping[str, Mapping[str, Any]] = info["features"]
    layout = layout or _declared_layout(root, features)
    check_names(features.get("action", {}).get("names"), Where(root / "meta/info.json", field="action"))
    columns = {name: _column_of(name, features) for name in (*layout.inputs, *layout.state, INTENT)}
    for name in layout.inputs:
        if not columns[name]:
            raise DataError(
                Where(root / "meta/info.json", field=name), f"is no feature; the dataset holds {', '.join(features)}."
            )
    cameras = {
        key: str(feature["dtype"])
        for key, feature in features.items()
        if feature["dtype"] in ("image", "video") and not (feature.get("info") or {}).get("is_depth_map")
    }
    tasks, entries = (_version_3 if version == "v3.0" else _version_2)(root, info, cameras)
    return _Dataset(root, info, tasks, layout, {n: c for n, c in columns.items() if c}, cameras), entries


def _declared_layout(root: Path, features: Mapping[str, Mapping[str, Any]]) -> Layout:
    """Return our own layout if the action's names say so."""
    names = features.get("action", {}).get("names")
    if isinstance(names, list) and tuple(names) == ACTION_NAMES:
        return layout_named("standard", root)
    return layout_named(root.name, root)


def _column_of(name: str, features: Mapping[str, Any]) -> str:
    """Return the column that holds a feature of a layout, or ""."""
    candidates = (*_ALIASES.get(name, ()), name.replace("/", "."))
    return next((candidate for candidate in candidates if candidate in features), "")


def _version_2(root: Path, info: Mapping[str, Any], cameras: Mapping[str, str]) -> tuple[dict[int, str], list[_Entry]]:
    """Read the lists of versions 2.0 and 2.1: JSON lines."""
    tasks = {int(line["task_index"]): str(line["task"]) for line in _json_lines(root / "meta/tasks.jsonl")}
    entries = []
    for line in _json_lines(root / "meta/episodes.jsonl"):
        index = int(line["episode_index"])
        place = {"episode_chunk": index // int(info["chunks_size"]), "episode_index": index}
        videos = {
            key: (root / info["video_path"].format(video_key=key, **place), 0.0)
            for key, dtype in cameras.items()
            if dtype == "video"
        }
        data = root / info["data_path"].format(**place)
        entries.append(_Entry(index, int(line["length"]), tuple(line["tasks"]), data, videos))
    return tasks, entries


def _version_3(root: Path, info: Mapping[str, Any], cameras: Mapping[str, str]) -> tuple[dict[int, str], list[_Entry]]:
    """Read the lists of version 3.0: parquet; the tasks' index is the text, under either name pandas gives it."""
    listed = _read_table(root / "meta/tasks.parquet").to_pydict()
    texts = next(values for name, values in listed.items() if name != "task_index")
    tasks = dict(zip(listed["task_index"], texts, strict=True))
    entries = []
    for path in sorted((root / "meta/episodes").glob("*/*.parquet")):
        names = pyarrow.parquet.read_schema(path).names
        for row in _read_table(path, [name for name in names if not name.startswith("stats/")]).to_pylist():
            videos = {
                key: (
                    root / info["video_path"].format(video_key=key, **_file_numbers(row, f"videos/{key}")),
                    float(row[f"videos/{key}/from_timestamp"]),
                )
                for key, dtype in cameras.items()
                if dtype == "video"
            }
            data = root / info["data_path"].format(**_file_numbers(row, "data"))
            entries.append(_Entry(int(row["episode_index"]), int(row["length"]), tuple(row["tasks"]), data, videos))
    return tasks, entries


def _file_numbers(row: Mapping[str, Any], kind: str) -> dict[str, int]:
    return {name: int(row[f"{kind}/{name}"]) for name in ("chunk_index", "file_index")}


def _table(path: Path, dataset: _Dataset) -> pa.Table:
    """Read the columns of a data file that are not images."""
    if not path.is_file():
        raise DataError(Where(path), "is missing; meta/ lists episodes in it. Fetch it.")
    images = [key for key, dtype in dataset.cameras.items() if dtype == "image"]
    wanted = (*_INDEX, *dataset.columns.values())
    try:
        names = pyarrow.parquet.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(Where(path), f"is no readable parquet file: {error}.") from error
    for column in (*wanted, *images):
        if column not in names:
            raise DataError(Where(path, field=column), f"is no column of this file; it has {', '.join(names)}.")
    return _read_table(path, list(wanted))


def _episode(dataset: _Dataset, entry: _Entry, table: pa.Table, rows: NDArray[np.int64]) -> Episode:
    layout, name = dataset.layout, str(entry.index)
    where = Where(entry.data, name)
    if len(rows) != entry.length or not entry.length:
        raise DataError(where, f"has {len(rows)} rows; meta/ says {entry.length}, and an episode needs at least one.")
    held = [key for key in (*layout.inputs, *layout.state) if key in dataset.columns]
    steps = {key: _numbers(table, dataset.columns[key])[rows].astype(np.float32) for key in held}
    layout.require_steps(len(rows), where)
    stored = layout.stored_gripper(steps, where)
    kept = rows[layout.keep]
    state = [
        np.zeros((len(rows), 0), np.float32),
        *(steps[key].reshape(len(rows), -1) for key in layout.state if key in steps),
    ]
    texts = table.column(INTENT).take(kept).to_pylist() if INTENT in dataset.columns else ()
    task = int(_numbers(table, "task_index")[rows[0]])
    return checked(
        Episode(
            dataset=dataset.root.name,
            where=where,
            instruction=dataset.tasks.get(task) or next(iter(entry.tasks), ""),
            actions=layout.actions(steps),
            state=np.concatenate(state, axis=1)[layout.keep],
            cameras={
                key.removeprefix("observation.").removeprefix("images."): frames
                for key, frames in _frames(dataset, entry, kept, _numbers(table, "timestamp")[kept]).items()
            },
            control_hz=float(dataset.info["fps"]),
            intents=tuple(texts),
            convention=replace(layout.convention, control_hz=float(dataset.info["fps"])),
            stored_gripper=stored,
        )
    )


def _frames(
    dataset: _Dataset, entry: _Entry, rows: NDArray[np.int64], seconds: NDArray[np.floating]
) -> dict[str, Frames]:
    frames: dict[str, Frames] = {}
    for key, dtype in dataset.cameras.items():
        if dtype == "image":
            frames[key] = ParquetFrames(Where(entry.data, str(entry.index), key), rows)
            continue
        path, start = entry.videos[key]
        where = Where(path, str(entry.index), key)
        if not path.is_file():
            raise DataError(where, "the video file is missing. Fetch it, or leave the episode out with --skip-bad.")
        frames[key] = VideoFrames(where, start + seconds.astype(np.float64), 0.5 / float(dataset.info["fps"]))
    return frames


def _numbers(table: pa.Table, column: str) -> NDArray[Any]:
    """`[N]` of a column of numbers, `[N, ...]` of a column of lists."""
    array = table.column(column).combine_chunks()
    depth = 0
    while pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array, depth = array.flatten(), depth + 1
    flat: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return flat.reshape(table.num_rows, -1) if depth else flat


def _read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pyarrow.parquet.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(Where(path), f"is no readable parquet file: {error}.") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(Where(path), f"cannot be read: {error}.") from error
    return content


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(Where(path), f"cannot be read: {error}.") from error

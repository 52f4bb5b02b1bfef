"""LeRobotDataset directories, versions 2.0, 2.1 and 3.0, without the `lerobot` library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vla.data.columns import column_names, numbers, read_table, scalars, texts
from vla.data.demonstration import Demonstration, checked
from vla.data.errors import DataError, OnBad, Where, attempt, fail, reader
from vla.data.frames import Frames, ParquetFrames, VideoFrames, presentation_times
from vla.data.layout import Layout, check_names
from vla.data.lerobot_meta import Entry, Info, read_info, read_lists
from vla.data.oxe import layout_named

ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper_open")
"""Names of the action's entries by which a dataset says that it keeps our convention."""

INTENT = "intent"
"""Column of the motion sentence that an expert intended."""

_ALIASES = {"action": ("action", "actions"), "observation/state": ("observation.state", "state")}
_INDEX = ("episode_index", "task_index", "timestamp")
_COUNTERS = ("frame_index", "index")
# LeRobot's own tolerance (LeRobotDataset's tolerance_s): beyond it, it refuses a dataset.
_OFF_GRID_SECONDS = 1e-4


@dataclass(frozen=True)
class _Dataset:
    """What `meta/` says of the whole dataset."""

    info: Info
    tasks: Mapping[int, str]
    layout: Layout
    columns: Mapping[str, str]


@reader
def read_lerobot(directory: Path, layout: Layout | None = None, on_bad: OnBad = fail) -> Iterator[Demonstration]:
    """Yield the episodes in the order of their index within each data file.

    Args:
        directory: the folder that holds `meta/info.json`.
        layout: what the action numbers mean; may be left out where the action's names are `ACTION_NAMES`.
        on_bad: called for what cannot be read.

    Raises:
        DataError: the folder is no dataset of a known version, its action layout is unknown, or what `on_bad` raises.
    """
    info = read_info(directory)
    layout = layout or _declared_layout(directory, info.features)
    check_names(info.features.get("action", {}).get("names"), Where(info.path, field="action"))
    columns = _columns(info, layout)
    tasks, entries = read_lists(info, on_bad)
    dataset = _Dataset(info, tasks, layout, columns)
    by_file: dict[Path, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_file[entry.data].append(entry)
    for path, members in by_file.items():
        try:
            table = _table(path, dataset)
            owner = scalars(table, "episode_index", Where(path))
        except DataError as error:
            on_bad(DataError(error.where, error.problem, len(members)))
            continue
        for entry in members:
            where = Where(path, str(entry.index))
            rows = np.flatnonzero(owner == entry.index)
            yield from attempt(partial(_episode, dataset, entry, table, rows), where, on_bad)


def _declared_layout(root: Path, features: Mapping[str, Mapping[str, Any]]) -> Layout:
    """Return our own layout if the action's names say so."""
    names = features.get("action", {}).get("names")
    if isinstance(names, list) and tuple(names) == ACTION_NAMES:
        return layout_named("standard", root)
    return layout_named(root.name, root)


def _columns(info: Info, layout: Layout) -> dict[str, str]:
    """Return feature of the layout -> column that holds it, for those that there are."""
    columns = {}
    for name in (*layout.inputs, *layout.state, INTENT):
        candidates = (*_ALIASES.get(name, ()), name.replace("/", "."))
        found = next((candidate for candidate in candidates if candidate in info.features), "")
        if found:
            columns[name] = found
        elif name in layout.inputs:
            raise DataError(
                Where(info.path, field=name), f"is no feature; the dataset holds {', '.join(info.features)}."
            )
    return columns


def _table(path: Path, dataset: _Dataset) -> pa.Table:
    """Read the columns of a data file that are not images."""
    if not path.is_file():
        raise DataError(Where(path), "is missing; meta/ lists episodes in it. Fetch it.")
    images = [key for key, dtype in dataset.info.cameras.items() if dtype == "image"]
    wanted = (*_INDEX, *dataset.columns.values())
    names = column_names(path)
    for column in (*wanted, *images):
        if column not in names:
            raise DataError(Where(path, field=column), f"is no column of this file; it has {', '.join(names)}.")
    return read_table(path, [*wanted, *(name for name in _COUNTERS if name in names)])


def _episode(dataset: _Dataset, entry: Entry, table: pa.Table, rows: NDArray[np.int64]) -> Demonstration:
    layout, name = dataset.layout, str(entry.index)
    where = Where(entry.data, name)
    steps = len(rows)
    if steps != entry.length or not steps:
        raise DataError(where, f"has {steps} rows; meta/ says {entry.length}, and an episode needs at least one.")
    layout.require_steps(steps, where)
    table = table.take(pa.array(rows))
    _check_order(table, where)
    held = [key for key in (*layout.inputs, *layout.state) if key in dataset.columns]
    values = {key: numbers(table, dataset.columns[key], where).astype(np.float32) for key in held}
    stored = layout.stored_gripper(values, where)
    state = [
        np.zeros((steps, 0), np.float32),
        *(values[key].reshape(steps, -1) for key in layout.state if key in values),
    ]
    task = scalars(table, "task_index", where)[0]
    return checked(
        Demonstration(
            dataset=dataset.info.root.name,
            where=where,
            instruction=dataset.tasks.get(int(task)) or next(iter(entry.tasks), ""),
            actions=layout.actions(values),
            state=np.concatenate(state, axis=1)[layout.keep],
            cameras={
                key.removeprefix("observation.").removeprefix("images."): frames
                for key, frames in _frames(dataset, entry, rows, scalars(table, "timestamp", where)).items()
            },
            control_hz=dataset.info.fps,
            intents=texts(table, INTENT, where)[layout.keep] if INTENT in dataset.columns else (),
            convention=replace(layout.convention, control_hz=dataset.info.fps),
            stored_gripper=stored,
        )
    )


def _check_order(table: pa.Table, where: Where) -> None:
    """Refuse rows that are not one step after the other."""
    for name in _COUNTERS:
        if name not in table.column_names:
            continue
        counted = scalars(table, name, where)
        first = 0 if name == "frame_index" else counted[0]
        wrong = np.flatnonzero(counted != first + np.arange(len(counted)))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                Where(where.file, where.episode, name),
                f"is {counted[row]} in the episode's row {row}, where {first + row} is expected: rows are lost, "
                "doubled, or in another order than the frames.",
            )


def _frames(
    dataset: _Dataset, entry: Entry, rows: NDArray[np.int64], seconds: NDArray[np.floating]
) -> dict[str, Frames]:
    frames: dict[str, Frames] = {}
    keep = dataset.layout.keep
    for key, dtype in dataset.info.cameras.items():
        if dtype == "image":
            frames[key] = ParquetFrames(Where(entry.data, str(entry.index), key), rows[keep])
            continue
        path = entry.videos[key].path
        where = Where(path, str(entry.index), key)
        if not path.is_file():
            raise DataError(where, "the video file is missing. Fetch it.")
        total = entry.length if entry.videos[key].end is None else 0
        times = _times(dataset.info.fps, entry, key, seconds)
        frames[key] = VideoFrames(where, times[keep], 0.5 / dataset.info.fps, total)
    return frames


def _times(fps: float, entry: Entry, camera: str, seconds: NDArray[np.floating]) -> NDArray[np.float64]:
    """`[T]` presentation time of each step's frame in the video file.

    A timestamp says it where timestamps lie on the grid of the frames. Those of a robot's own clock do not: the frame
    at that time may be another step's. Then the k-th frame is the k-th step's, if there are as many of both.
    """
    segment = entry.videos[camera]
    grid = np.arange(entry.length) / fps
    off = np.abs(seconds - grid) - np.abs(seconds) * np.finfo(np.float32).eps
    if (off <= _OFF_GRID_SECONDS).all():
        return segment.start + grid
    where = Where(segment.path, str(entry.index), camera)
    half = 0.5 / fps
    times = presentation_times(where)
    times = times[(times >= segment.start - half) & (times < (np.inf if segment.end is None else segment.end - half))]
    if len(times) != entry.length:
        raise DataError(
            Where(entry.data, str(entry.index), "timestamp"),
            f"leaves the grid of {fps:g} frames a second by {off.max():.3g} s, and the video has {len(times)} frames "
            f"for {entry.length} steps: which frame is whose cannot be known.",
        )
    return times

"""What `meta/` of a LeRobotDataset says, versions 2.0, 2.1 and 3.0: features, tasks, and where each episode lies.

Layout after huggingface/lerobot (docs/source/lerobot-dataset-v3.mdx, datasets/utils.py): version 2 keeps one parquet
file and one video per camera for each episode, and its lists as JSON lines; version 3 joins many episodes in one file,
and keeps its lists as parquet.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vla.data.columns import column_names, read_table
from vla.data.errors import DataError, OnBad, Where, printable, reading
from vla.data.json_files import member, read_json, read_json_lines

INFO = "meta/info.json"
_VERSIONS = ("v2.0", "v2.1", "v3.0")
_WIDEST = 12


class Segment(NamedTuple):
    """Where an episode lies in a video file: from `start` to `end` in seconds; `end` None where it is the whole."""

    path: Path
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class Entry:
    """One episode as the metadata lists it."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, Segment] = field(default_factory=dict)


@dataclass(frozen=True)
class Info:
    """`meta/info.json`, checked.

    Attributes:
        root: the dataset's folder.
        raw: the content of meta/info.json, unchanged.
        version: "v2.0", "v2.1" or "v3.0".
        fps: control steps, and frames of videos, per second.
        features: column or camera -> its description.
        cameras: camera -> "image" or "video".
    """

    root: Path
    raw: Mapping[str, Any]
    version: str
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    cameras: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.root / INFO

    def file(self, template: str, **place: object) -> Path:
        """Return the path that `data_path` or `video_path` gives a place.

        Raises:
            DataError: the template is missing, asks for something else, or leads out of the dataset.
        """
        pattern = member(self.raw, template, str, self.path)
        where = Where(self.path, field=template)
        with reading(where, f"is {printable(pattern[:80])!r}"):
            for _, name, spec, conversion in string.Formatter().parse(pattern):
                digits = (spec or "").rstrip("d")
                if name is not None and (name not in place or conversion or (digits and int(digits) > _WIDEST)):
                    raise DataError(where, f"is {printable(pattern[:80])!r}; of {', '.join(place)} it can be made.")
            path = Path(pattern.format(**place))
        if path.is_absolute() or ".." in path.parts:
            raise DataError(where, f"is {printable(pattern[:80])!r}, which leads out of the dataset.")
        return self.root / path


def read_info(root: Path) -> Info:
    """Read `meta/info.json`.

    Raises:
        DataError: of an unknown version, or a field is missing or of another kind.
    """
    path = root / INFO
    raw = read_json(path)
    version = str(raw.get("codebase_version", ""))
    if version not in _VERSIONS:
        known = f"{', '.join(_VERSIONS[:-1])} or {_VERSIONS[-1]}"
        raise DataError(Where(path, field="codebase_version"), f"is {version!r}; {known} is expected.")
    fps = member(raw, "fps", float, path)
    if not 0 < fps < math.inf:
        raise DataError(Where(path, field="fps"), f"is {fps}; more than 0 is expected.")
    features = member(raw, "features", dict, path)
    for name in features:
        member(features, name, dict, path)
    cameras = {
        key: str(feature["dtype"])
        for key, feature in features.items()
        if feature.get("dtype") in ("image", "video") and not (feature.get("info") or {}).get("is_depth_map")
    }
    return Info(root, raw, version, fps, features, cameras)


def read_lists(info: Info, on_bad: OnBad) -> tuple[dict[int, str], list[Entry]]:
    """Return task number -> text, and the episodes; what the lists contradict each other in is reported.

    Raises:
        DataError: a list cannot be read, or what `on_bad` raises.
    """
    tasks = dict(_tasks_3(info.root) if info.version == "v3.0" else _tasks_2(info.root))
    entries: dict[int, Entry] = {}
    lists = info.root / "meta"
    for entry in _episodes_3(info) if info.version == "v3.0" else _episodes_2(info):
        if entry.index in entries:
            on_bad(DataError(Where(lists, str(entry.index)), "is listed twice; the first listing is read.", 0))
        else:
            entries[entry.index] = entry
    for name, listed in (("total_episodes", len(entries)), ("total_frames", sum(e.length for e in entries.values()))):
        declared = info.raw.get(name, listed)
        if declared != listed:
            lost = declared - listed if name == "total_episodes" and isinstance(declared, int) else 0
            problem = f"is {declared!r}; meta/ lists {listed}. Fetch the dataset again, or mend one of them."
            on_bad(DataError(Where(info.path, field=name), problem, max(lost, 0)))
    for entry in _sharing(entries.values()):
        del entries[entry.index]
        on_bad(DataError(Where(entry.data, str(entry.index)), "shares frames of a video with the episode before it."))
    return tasks, list(entries.values())


def _tasks_2(root: Path) -> Iterator[tuple[int, str]]:
    path = root / "meta/tasks.jsonl"
    for line in read_json_lines(path):
        yield member(line, "task_index", int, path), _text(line.get("task"))


def _tasks_3(root: Path) -> Iterator[tuple[int, str]]:
    """Read the tasks, whose index is the text, under whichever name pandas gives it."""
    path = root / "meta/tasks.parquet"
    listed = read_table(path).to_pydict()
    texts = [values for name, values in listed.items() if name != "task_index"]
    if not texts or len(texts) == len(listed):
        raise DataError(Where(path), f"has the columns {', '.join(listed)}; task_index and the texts are expected.")
    yield from ((int(number), _text(text)) for number, text in zip(listed["task_index"], texts[0], strict=True))


def _episodes_2(info: Info) -> Iterator[Entry]:
    path = info.root / "meta/episodes.jsonl"
    size = member(info.raw, "chunks_size", int, info.path)
    if size < 1:
        raise DataError(Where(info.path, field="chunks_size"), f"is {size}; at least 1 is expected.")
    for line in read_json_lines(path):
        index = member(line, "episode_index", int, path)
        place = {"episode_chunk": index // size, "episode_index": index}
        videos = {
            key: Segment(info.file("video_path", video_key=key, **place))
            for key, dtype in info.cameras.items()
            if dtype == "video"
        }
        data = info.file("data_path", **place)
        yield Entry(index, member(line, "length", int, path), _texts(line.get("tasks")), data, videos)


def _episodes_3(info: Info) -> Iterator[Entry]:
    for path in sorted((info.root / "meta/episodes").glob("*/[!.]*.parquet")):
        names = [name for name in column_names(path) if not name.startswith("stats/")]
        for row in read_table(path, names).to_pylist():
            index, length = member(row, "episode_index", int, path), member(row, "length", int, path)
            videos = {key: _segment(info, row, key, path) for key, dtype in info.cameras.items() if dtype == "video"}
            data = info.file("data_path", **_file_numbers(row, "data", path))
            yield Entry(index, length, _texts(row.get("tasks")), data, videos)


def _segment(info: Info, row: Mapping[str, Any], camera: str, path: Path) -> Segment:
    name = f"videos/{camera}"
    start, length = member(row, f"{name}/from_timestamp", float, path), member(row, "length", int, path)
    end = member(row, f"{name}/to_timestamp", float, path)
    if not abs((end - start) * info.fps - length) < 0.5:
        raise DataError(
            Where(path, str(row["episode_index"]), f"{name}/to_timestamp"),
            f"is {end} s after {start} s; {length} steps at {info.fps:g} Hz take {length / info.fps:g} s.",
        )
    return Segment(info.file("video_path", video_key=camera, **_file_numbers(row, name, path)), start, end)


def _file_numbers(row: Mapping[str, Any], kind: str, path: Path) -> dict[str, int]:
    return {name: member(row, f"{kind}/{name}", int, path) for name in ("chunk_index", "file_index")}


def _sharing(entries: Iterable[Entry]) -> list[Entry]:
    """Return the episodes whose part of a video begins well before that of another ends."""
    parts = sorted(
        ((s.path, s.start, s.end, e.index, e) for e in entries for s in e.videos.values() if s.end is not None),
        key=lambda part: part[:2],
    )
    found: dict[int, Entry] = {}
    for (path, start, end, _, before), (next_path, next_start, _, index, entry) in itertools.pairwise(parts):
        half = (end - start) / max(before.length, 1) / 2
        if path == next_path and next_start < end - half:
            found[index] = entry
    return list(found.values())


def _texts(listed: object) -> tuple[str, ...]:
    if isinstance(listed, str):
        return (listed,)
    return tuple(map(_text, listed)) if isinstance(listed, list) else ()


def _text(value: object) -> str:
    """Return a task in words; null means that there is none."""
    return value if isinstance(value, str) else ""

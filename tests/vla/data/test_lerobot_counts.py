"""LeRobot's declared counts, orders and times are compared with what is there."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.vla.data import lerobot_files as files
from vla.data.errors import DataError
from vla.data.lerobot import read_lerobot

DATA = "data/chunk-000/episode_000001.parquet"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return files.write_v2(tmp_path / "drawers", [4, 6, 3])


def edit_info(root: Path, **changes) -> None:
    path = root / "meta/info.json"
    info = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in info.items() if value != "DROP"}))


def edit_lines(path: Path, change) -> None:
    lines = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")


def set_column(root: Path, **columns) -> None:
    table = pq.read_table(root / DATA)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    pq.write_table(table, root / DATA)


def read(root: Path):
    bad: list[DataError] = []
    return list(read_lerobot(root, on_bad=bad.append)), bad


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fps": 0}, r"'fps': is 0\.0; more than 0"),
        ({"fps": float("nan")}, "'fps': is nan"),
        ({"fps": "ten"}, "'fps': is 'ten'; a float is expected"),
        ({"fps": "DROP"}, "'fps': is missing"),
        ({"chunks_size": 0}, "'chunks_size': is 0"),
        ({"chunks_size": True}, "'chunks_size': is True; a int"),
        ({"features": None}, "'features': is None"),
        ({"features": {"action": 5}}, "'action': is 5; a dict"),
        ({"video_path": None}, "'video_path': is None; a str"),
        ({"data_path": "{episode_chunk.__class__}"}, "'data_path': is "),
        ({"data_path": "{episode_index:0999999999d}"}, "'data_path': is "),
        ({"data_path": "{0}"}, "'data_path': is "),
        ({"data_path": "../../{episode_index}"}, "leads out of the dataset"),
        ({"data_path": "/etc/{episode_index}"}, "leads out of the dataset"),
        ({"total_episodes": 4}, "'total_episodes': is 4; meta/ lists 3"),
        ({"total_frames": 99}, "'total_frames': is 99; meta/ lists 13"),
    ],
)
def test_a_field_of_the_description_that_cannot_hold_is_named(root: Path, changes: dict, said: str):
    edit_info(root, **changes)
    with pytest.raises(DataError, match=rf"info\.json, field .*{said}"):
        list(read_lerobot(root))


def test_an_episode_that_is_listed_twice_is_read_once_and_said(root: Path):
    edit_lines(root / "meta/episodes.jsonl", lambda lines: [*lines, lines[1]])
    episodes, bad = read(root)
    assert [episode.where.episode for episode in episodes] == ["0", "1", "2"]
    assert [str(error).split("meta, ")[1] for error in bad] == [
        "episode 1: is listed twice; the first listing is read."
    ]


@pytest.mark.parametrize("order", [[3, 0, 4, 1, 2, 5], [0, 1, 1, 2, 3, 4], [1, 2, 3, 4, 5, 0]])
def test_rows_that_are_not_in_the_order_of_their_steps_are_refused(root: Path, order: list[int]):
    pq.write_table(pq.read_table(root / DATA).take(pa.array(order)), root / DATA)
    episodes, bad = read(root)
    assert [episode.where.episode for episode in episodes] == ["0", "2"]
    assert "episode 1, field 'frame_index': is " in str(bad[0])


def test_a_task_that_is_null_is_no_instruction(root: Path):
    edit_lines(root / "meta/tasks.jsonl", lambda lines: [lines[0], {**lines[1], "task": None}])
    edit_lines(root / "meta/episodes.jsonl", lambda lines: [{**line, "tasks": None} for line in lines])
    assert [episode.instruction for episode in read_lerobot(root)] == ["open the drawer"] * 2


def test_tasks_may_be_a_text_or_missing(root: Path):
    edit_lines(root / "meta/episodes.jsonl", lambda lines: [{**line, "tasks": "go"} for line in lines])
    (root / "meta/tasks.jsonl").write_text("")
    assert [episode.instruction for episode in read_lerobot(root)] == ["go"] * 3


@pytest.mark.parametrize("shift", [lambda t: t * 1.015, lambda t: t + 0.03 * np.sin(7 * t), lambda t: t * 0 + np.nan])
def test_times_off_the_grid_do_not_give_a_step_the_picture_of_another(root: Path, shift):
    set_column(root, timestamp=pa.array(shift(np.arange(6) / files.FPS).astype(np.float32)))
    frames = next(e for e in read_lerobot(root) if e.where.episode == "1").cameras["front"]
    shown = [float(frames[step].mean()) for step in range(6)]
    np.testing.assert_allclose(shown, files.LEVELS[:6] + 1, atol=3)


def test_times_off_the_grid_are_refused_where_the_frames_do_not_count_the_steps(root: Path):
    files.write_video(root / f"videos/chunk-000/{files.CAMERA}/episode_000001.mp4", files.LEVELS[:5])
    set_column(root, timestamp=pa.array((np.arange(6) * 0.103).astype(np.float32)))
    _, bad = read(root)
    assert "episode 1, field 'timestamp': leaves the grid of 10 frames a second by 0.015 s" in str(bad[0])


ACTION = np.tile([0.25, 0, 0, 0, 0, 0, 1], (6, 1))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float16(), 7),
        pa.list_(pa.list_(pa.float32())),
    ],
    ids=str,
)
def test_numbers_of_any_width_and_lists_of_any_kind_are_read(root: Path, kind: pa.DataType):
    nested = pa.types.is_list(kind.value_type)
    rows = ACTION.astype(np.float16 if pa.types.is_float16(kind.value_type) else np.float64)
    values = [[list(row)] if nested else list(row) for row in rows]
    set_column(
        root,
        action=pa.array(values, kind),
        task_index=pa.array([1] * 6, pa.int8()).dictionary_encode(),
        episode_index=pa.array([[1]] * 6, pa.list_(pa.int32())),
    )
    episode = next(e for e in read_lerobot(root) if e.where.episode == "1")
    np.testing.assert_array_equal(episode.actions, ACTION.astype(np.float32))
    assert episode.instruction == "close the drawer"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([[0.1] * 7, [0.1] * 6, [0.1] * 8, *[[0.1] * 7] * 3]), "has lists of 6 and 7 entries"),
        (pa.array([None, *[[0.1] * 7] * 5]), "is null at entry 0"),
        (pa.array([[0.1] * 6 + [None]] * 6), "is null at entry 6"),
        (pa.array([["a"] * 7] * 6), "is of type list<.*string>; numbers are expected"),
        (pa.array([{"x": 1}] * 6), "is of type struct"),
        (pa.array(["a"] * 6).dictionary_encode(), "is of type dictionary"),
    ],
)
def test_a_column_that_is_no_table_of_numbers_is_named(root: Path, values: pa.Array, said: str):
    set_column(root, action=values)
    with pytest.raises(DataError, match=rf"episode_000001\.parquet, episode 1, field 'action': {said}"):
        list(read_lerobot(root))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (f"videos/{files.CAMERA}/to_timestamp", 0.7, "is 0.7 s after 0.0 s; 4 steps at 10 Hz take 0.4 s"),
        ("length", None, "field 'length': is None"),
        ("data/file_index", "x", "field 'data/file_index': is 'x'"),
    ],
)
def test_a_list_of_episodes_that_contradicts_itself_is_named(tmp_path: Path, column: str, value, said: str):
    root = files.write_v3(tmp_path / "drawers", [4, 4])
    path = next(root.glob("meta/episodes/*/*.parquet"))
    rows = pq.read_table(path).to_pylist()
    rows[0][column] = value
    if isinstance(value, str):
        rows[1][column] = value
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(DataError, match=said):
        list(read_lerobot(root))


def test_two_episodes_that_show_the_same_frames_are_not_both_read(tmp_path: Path):
    root = files.write_v3(tmp_path / "drawers", [4, 4])
    path = next(root.glob("meta/episodes/*/*.parquet"))
    rows = pq.read_table(path).to_pylist()
    for end in ("from", "to"):
        rows[1][f"videos/{files.CAMERA}/{end}_timestamp"] = rows[0][f"videos/{files.CAMERA}/{end}_timestamp"]
    pq.write_table(pa.Table.from_pylist(rows), path)
    episodes, bad = read(root)
    assert len(episodes) == 1
    assert "shares frames of a video" in str(bad[0])

"""Writes LeRobot datasets file by file, as the library's versions 2.1 and 3.0 lay them out: made for tests only."""

import json
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS = 10
CAMERA = "observation.images.front"
LEVELS = np.array([20, 60, 100, 140, 180, 220])


def info(version: str, features: dict, episodes: int) -> dict:
    one = version == "v3.0"
    return {
        "codebase_version": version,
        "robot_type": "panda",
        "total_episodes": episodes,
        "fps": FPS,
        "chunks_size": 1000,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if one
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if one
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }


FEATURES = {
    CAMERA: {"dtype": "video", "shape": [64, 64, 3], "names": ["height", "width", "channels"], "info": {}},
    "action": {
        "dtype": "float32",
        "shape": [7],
        "names": ["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper_open"],
    },
    "observation.state": {"dtype": "float32", "shape": [8], "names": None},
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}


def rows(episode: int, steps: int, first: int = 0) -> pa.Table:
    action = np.full((steps, 7), 0.1 * (episode + 1), np.float32)
    action[:, 6] = 1
    columns = {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(action.ravel()), 7),
        "observation.state": pa.array(np.zeros((steps, 8), np.float32).tolist(), pa.list_(pa.float32())),
        "timestamp": pa.array((np.arange(steps) / FPS).astype(np.float32)),
        "frame_index": pa.array(np.arange(steps)),
        "episode_index": pa.array(np.full(steps, episode)),
        "index": pa.array(first + np.arange(steps)),
        "task_index": pa.array(np.full(steps, episode % 2)),
    }
    return pa.table(columns)


def write_video(path: Path, levels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": "2", "crf": "18"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for level in levels:
            picture = np.full((64, 64, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_v2(root: Path, lengths: list[int]) -> Path:
    write_json(root / "meta/info.json", info("v2.1", FEATURES, len(lengths)))
    tasks = ["open the drawer", "close the drawer"]
    lines = [json.dumps({"task_index": number, "task": task}) for number, task in enumerate(tasks)]
    (root / "meta/tasks.jsonl").write_text("\n".join(lines) + "\n")
    lines = [
        json.dumps({"episode_index": episode, "tasks": [tasks[episode % 2]], "length": steps})
        for episode, steps in enumerate(lengths)
    ]
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    (root / "data/chunk-000").mkdir(parents=True)
    for episode, steps in enumerate(lengths):
        pq.write_table(rows(episode, steps), root / f"data/chunk-000/episode_{episode:06d}.parquet")
        write_video(root / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4", LEVELS[:steps] + episode)
    return root


def write_v3(root: Path, lengths: list[int]) -> Path:
    """All episodes in one data file and one video."""
    import pandas

    write_json(root / "meta/info.json", info("v3.0", FEATURES, len(lengths)))
    tasks = pandas.DataFrame({"task_index": [0, 1]}, index=["open the drawer", "close the drawer"])
    tasks.to_parquet(root / "meta/tasks.parquet")
    starts = np.cumsum([0, *lengths])
    entries = [
        {
            "episode_index": episode,
            "tasks": [tasks.index[episode % 2]],
            "length": steps,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": int(starts[episode]),
            "dataset_to_index": int(starts[episode + 1]),
            f"videos/{CAMERA}/chunk_index": 0,
            f"videos/{CAMERA}/file_index": 0,
            f"videos/{CAMERA}/from_timestamp": starts[episode] / FPS,
            f"videos/{CAMERA}/to_timestamp": starts[episode + 1] / FPS,
            "stats/action/min": [0.0] * 7,
        }
        for episode, steps in enumerate(lengths)
    ]
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(entries), root / "meta/episodes/chunk-000/file-000.parquet")
    (root / "data/chunk-000").mkdir(parents=True)
    table = pa.concat_tables([rows(e, steps, int(starts[e])) for e, steps in enumerate(lengths)])
    pq.write_table(table, root / "data/chunk-000/file-000.parquet")
    levels = np.concatenate([LEVELS[:steps] + episode for episode, steps in enumerate(lengths)])
    write_video(root / f"videos/{CAMERA}/chunk-000/file-000.mp4", levels)
    return root

"""Writes LeRobotDataset v3.0 directories that the `lerobot` library and `read_lerobot` both read.

Layout after huggingface/lerobot 0.6.1 (datasets/{dataset_metadata,dataset_writer,utils}.py); `scripts/check_lerobot.sh`
loads what is written here with that library. Images are parquet columns: lossless, and each can be read alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from PIL import Image as Pillow

from vla.data.demonstration import Demonstration, checked
from vla.data.drawn import DrawnFrames
from vla.data.errors import DataError, Where
from vla.data.frames import Frames, Image
from vla.data.lerobot import ACTION_NAMES, INTENT

STEPS_PER_ROW_GROUP = 8
"""Reading one image means reading its row group: short groups make random access cheap."""

_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
_FILES_PER_CHUNK = 1000
_IMAGES = "observation.images."
_QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
_IMAGE_STRIDE = 16
_BOOKKEEPING = {
    "timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64",
}  # fmt: skip


class LeRobotWriter:
    """Adds episodes to a new dataset; nothing is complete until `close` (or the end of a `with` block without error).

    All episodes have the cameras, the state and the extra columns of the first one.
    """

    def __init__(
        self,
        root: Path,
        fps: int,
        *,
        robot_type: str = "",
        encoding: Literal["png", "jpeg"] = "png",
        file_mb: int = 100,
    ) -> None:
        """Begin a dataset.

        Args:
            root: its folder, which must be missing or empty.
            fps: control steps per second.
            robot_type: name of the robot, as LeRobot records it.
            encoding: of the images; PNG is lossless, JPEG (quality 95) five to ten times smaller. Images that
                `vla-eval render` stored keep their format.
            file_mb: a data file is closed when it is this big.

        Raises:
            DataError: the folder holds something.
        """
        if root.exists() and any(root.iterdir()):
            raise DataError(Where(root), "is not empty; name a new folder, or remove it.")
        self._root, self._fps, self._robot_type = root, fps, robot_type
        self._encoding, self._file_mb = encoding, file_mb
        self._features: dict[str, dict[str, Any]] = {}
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._numbers: dict[str, list[NDArray[Any]]] = {}
        self._image_moments: dict[str, list[NDArray[np.float64]]] = {}
        self._frames = self._file = 0
        self._writer: pyarrow.parquet.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif self._writer:
            self._writer.close()

    def add(self, episode: Demonstration, columns: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Write one episode.

        Args:
            episode: its actions, state, images, instruction and intents.
            columns: further columns, name -> `[T]` or `[T, N]` numbers.

        Raises:
            DataError: the episode cannot be trained on, or has other columns than the first.
        """
        checked(episode)
        arrays = self._arrays(episode, columns or {})
        images = {
            f"{_IMAGES}{name}": [frames[step] for step in range(len(frames))]
            for name, frames in episode.cameras.items()
        }
        features = _features(arrays, images, episode)
        if not self._features:
            self._features = features
        elif features != self._features:
            odd = [key for key in {**features, **self._features} if features.get(key) != self._features.get(key)]
            raise DataError(episode.where, f"differs from the first episode in {', '.join(odd)}.")
        for name, array in arrays.items():
            if array.dtype.kind in "fi":
                self._numbers.setdefault(name, []).append(array)
        for name, pixels in images.items():
            self._image_moments.setdefault(name, []).extend(_moments(image) for image in pixels[::_IMAGE_STRIDE])
        self._write(arrays, images, episode)

    def close(self) -> None:
        """Write the metadata; the dataset is complete after this.

        Raises:
            DataError: there is no episode.
        """
        if not self._writer:
            raise DataError(Where(self._root), "no episode was added; there is no dataset to write.")
        self._writer.close()
        count = len(self._episodes)
        info = {
            "codebase_version": "v3.0", "robot_type": self._robot_type or None, "total_episodes": count,
            "total_frames": self._frames, "total_tasks": len(self._tasks), "chunks_size": _FILES_PER_CHUNK,
            "data_files_size_in_mb": self._file_mb, "video_files_size_in_mb": 200, "fps": self._fps,
            "splits": {"train": f"0:{count}"}, "data_path": _DATA, "video_path": None, "features": self._features,
        }  # fmt: skip
        path = self._root / _EPISODES
        path.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(pa.Table.from_pylist(self._episodes), path)
        pyarrow.parquet.write_table(_tasks_table(self._tasks), self._root / "meta/tasks.parquet")
        statistics = {name: _statistics(np.concatenate(arrays)) for name, arrays in self._numbers.items()}
        statistics |= {name: _image_statistics(moments) for name, moments in self._image_moments.items()}
        for name, content in (("stats", statistics), ("info", info)):
            (self._root / f"meta/{name}.json").write_text(json.dumps(content, indent=4) + "\n")

    def _arrays(self, episode: Demonstration, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every column that is not an image."""
        steps, number = np.arange(len(episode)), len(self._episodes)
        task = self._tasks.get(episode.instruction, len(self._tasks))
        arrays: dict[str, NDArray[Any]] = {"action": episode.actions}
        if episode.state.shape[1]:
            arrays["observation.state"] = episode.state
        if episode.intents:
            arrays[INTENT] = np.array(episode.intents, object)
        for name, values in columns.items():
            if name in arrays or name in _BOOKKEEPING:
                raise DataError(
                    Where(self._root, str(number), name), "is a column of LeRobot's own; take another name."
                )
            arrays[name] = values
        bookkeeping = (steps / self._fps, steps, steps * 0 + number, steps + self._frames, steps * 0 + task)
        for (name, dtype), values in zip(_BOOKKEEPING.items(), bookkeeping, strict=True):
            arrays[name] = values.astype(dtype)
        return arrays

    def _write(self, arrays: dict[str, NDArray[Any]], images: dict[str, list[Image]], episode: Demonstration) -> None:
        table = pa.table(
            {name: _column(array) for name, array in arrays.items()}
            | {
                name: self._encoded(pixels, episode.cameras[name.removeprefix(_IMAGES)])
                for name, pixels in images.items()
            }
        )
        path = self._data_path()
        if self._writer and path.stat().st_size >= self._file_mb * 2**20:
            self._writer.close()
            self._writer, self._file = None, self._file + 1
            path = self._data_path()
        if not self._writer:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pyarrow.parquet.ParquetWriter(path, table.schema, write_statistics=["episode_index"])
        self._writer.write_table(table, row_group_size=STEPS_PER_ROW_GROUP)
        chunk, file = divmod(self._file, _FILES_PER_CHUNK)
        self._episodes.append(
            {
                "episode_index": len(self._episodes), "tasks": [episode.instruction], "length": len(episode),
                "data/chunk_index": chunk, "data/file_index": file,
                "dataset_from_index": self._frames, "dataset_to_index": self._frames + len(episode),
                "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
            }
        )  # fmt: skip
        self._frames += len(episode)
        self._tasks.setdefault(episode.instruction, len(self._tasks))

    def _data_path(self) -> Path:
        chunk, file = divmod(self._file, _FILES_PER_CHUNK)
        return self._root / _DATA.format(chunk_index=chunk, file_index=file)

    def _encoded(self, pixels: list[Image], frames: Frames) -> pa.Array:
        """Return the images as Hugging Face `datasets` stores them; rendered ones keep the bytes that they have."""
        entries = []
        for step, image in enumerate(pixels):
            if isinstance(frames, DrawnFrames) and frames.where.file.suffix != ".npy":
                content, ending = frames.encoded(step)
                entries.append({"bytes": content, "path": f"frame-{step:06d}.{ending}"})
                continue
            buffer = BytesIO()
            Pillow.fromarray(image).save(buffer, self._encoding, quality=95)  # of JPEG; PNG has none
            entries.append({"bytes": buffer.getvalue(), "path": f"frame-{step:06d}.{self._encoding}"})
        return pa.array(entries, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def _features(
    arrays: Mapping[str, NDArray[Any]], images: Mapping[str, list[Image]], episode: Demonstration
) -> dict[str, dict[str, Any]]:
    """Return the entries of `info.json` that say what each column is."""
    features: dict[str, dict[str, Any]] = {
        name: {"dtype": "image", "shape": list(pixels[0].shape), "names": ["height", "width", "channels"]}
        for name, pixels in images.items()
    }
    for name, array in arrays.items():
        dtype = "string" if array.dtype == object else str(array.dtype)
        features[name] = {"dtype": dtype, "shape": list(array.shape[1:]) or [1], "names": None}
    features["action"]["names"] = list(ACTION_NAMES)
    return features


def _column(array: NDArray[Any]) -> pa.Array:
    """`[T]` as numbers or text, `[T, N]` as lists of fixed size."""
    if array.ndim == 1:
        return pa.array(array.tolist(), pa.string()) if array.dtype == object else pa.array(array)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def _tasks_table(tasks: Mapping[str, int]) -> pa.Table:
    """Text -> index; the text is marked as the index of a pandas frame, which is how the library reads it."""
    kinds = {"task_index": "int64", "task": "unicode"}
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": "int64" if kind == "int64" else "object",
         "metadata": None}
        for name, kind in kinds.items()
    ]  # fmt: skip
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _statistics(values: NDArray[Any]) -> dict[str, list[float]]:
    columns = values.reshape(len(values), -1).astype(np.float64)
    return _summary(columns) | {f"q{q * 100:02.0f}": np.quantile(columns, q, axis=0).tolist() for q in _QUANTILES}


def _moments(image: Image) -> NDArray[np.float64]:
    """`[4, 3]`: mean, mean square, smallest and largest of each channel in [0, 1]."""
    pixels = image.reshape(-1, 3) / 255
    return np.stack([pixels.mean(0), np.square(pixels).mean(0), pixels.min(0), pixels.max(0)])


def _image_statistics(moments: list[NDArray[np.float64]]) -> dict[str, Any]:
    """Per channel, `[3, 1, 1]`, from the moments of every 16th image of an episode."""
    means, squares, low, high = np.moveaxis(np.stack(moments), 1, 0)
    mean = means.mean(0)
    std = np.sqrt(np.maximum(squares.mean(0) - mean**2, 0))
    summary = {"min": low.min(0), "max": high.max(0), "mean": mean, "std": std}
    return {name: value.reshape(3, 1, 1).tolist() for name, value in summary.items()} | {"count": [len(moments)]}


def _summary(columns: NDArray[np.float64]) -> dict[str, list[float]]:
    return {
        "min": columns.min(0).tolist(), "max": columns.max(0).tolist(), "mean": columns.mean(0).tolist(),
        "std": columns.std(0).tolist(), "count": [len(columns)],
    }  # fmt: skip

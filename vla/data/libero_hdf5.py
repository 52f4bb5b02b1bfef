"""LIBERO's demonstrations: one robomimic HDF5 file a task, `data/demo_<n>` an episode.

Sources: Lifelong-Robot-Learning/LIBERO (scripts/create_dataset.py) for the layout; openvla/openvla
(experiments/robot/libero/regenerate_libero_dataset.py) for no-ops and the half turn of the images. OpenVLA also replays
the filtered actions in the simulator and drops demonstrations that then fail; a reader of files cannot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vla.data.demonstration import Demonstration, checked
from vla.data.errors import DataError, NothingToLearnError, OnBad, Where, attempt, fail, reader, reading
from vla.data.frames import Hdf5Frames
from vla.data.oxe import closing_last, layout_named

CAMERAS = {"agentview": "agentview_rgb", "wrist": "eye_in_hand_rgb"}
STATE = ("ee_states", "gripper_states")
CONTROL_HZ = 20.0

_STILL = 1e-4
# No byte of a deflate stream stands for more than 1032; a small file cannot hold a large array.
_MOST_PACKED, _SMALL = 1032, 1 << 16
_SCENE = re.compile(r"^[A-Z_]+_SCENE\d+_")


@reader
def read_libero_hdf5(directory: Path, keep_noops: bool = False, on_bad: OnBad = fail) -> Iterator[Demonstration]:
    """Yield the demonstrations of every `*.hdf5` file, in the order of file names and demo numbers.

    Args:
        directory: a folder of task files, such as `libero_spatial/`.
        keep_noops: whether to keep the steps that OpenVLA's modified sets leave out; see `moving_steps`.
        on_bad: called for what cannot be read.

    Raises:
        DataError: there is no such file; or what `on_bad` raises.
    """
    # Archives that macOS wrote have a "._" companion beside each file.
    paths = sorted(path for path in directory.glob("*.hdf5") if not path.name.startswith("."))
    if not paths:
        raise DataError(Where(directory), "holds no *.hdf5 file.")
    for path in paths:
        try:
            file, names, instruction = _opened(path)
        except DataError as error:
            on_bad(error)
            continue
        with file:
            declared = file["data"].attrs.get("num_demos")
            for name in names:
                yield from attempt(
                    partial(_episode, file["data"], Where(path, name), instruction, keep_noops),
                    Where(path, name),
                    on_bad,
                )
            if declared is not None and declared != len(names):
                on_bad(DataError(Where(path, field="num_demos"), f"is {declared}; the file holds {len(names)}.", 0))


def moving_steps(actions: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the steps that move the arm, or command the gripper otherwise than the step kept before them.

    The others are no-ops: six deltas with a norm below 1e-4, and the same gripper command (of the first step only the
    norm is asked).

    Args:
        actions: `[T, 7]` as stored.
    """
    still = np.linalg.norm(actions[:, :6], axis=1) < _STILL
    kept: list[int] = []
    for step, quiet in enumerate(still):
        if not quiet or (kept and actions[step, 6] != actions[kept[-1], 6]):
            kept.append(step)
    return np.array(kept, np.int64)


def _opened(path: Path) -> tuple[h5py.File, list[str], str]:
    """Return an open file, the names of its demonstrations in the order of their numbers, and its task in words."""
    with reading(Where(path), "is no readable HDF5 file", episodes=None):
        file = h5py.File(path, "r")
        data = _group(file, "data", Where(path))
        names = sorted(data, key=lambda name: int(re.sub(r"\D", "", name) or -1))
        return file, names, _instruction(data.attrs, path)


def _episode(data: h5py.Group, where: Where, instruction: str, keep_noops: bool) -> Demonstration:
    path, name = where.file, where.episode
    demo = _group(data, name, where)
    stored = _array(demo, "actions", where)
    if stored.ndim != 2 or stored.shape[1] != 7:
        raise DataError(Where(path, name, "actions"), f"has shape {stored.shape}; [T, 7] is expected.")
    steps = len(stored)
    if demo.attrs.get("num_samples", steps) != steps:
        declared = demo.attrs["num_samples"]
        raise DataError(Where(path, name, "num_samples"), f"is {declared}; the demonstration has {steps} actions.")
    observations = _group(demo, "obs", where)
    held = {key: _dataset(observations, key, where) for key in (*STATE, *CAMERAS.values())}
    for key, dataset in held.items():
        if dataset.shape[:1] != (steps,):
            raise DataError(Where(path, name, key), f"has shape {dataset.shape} for {steps} actions.")
    rows = np.arange(steps) if keep_noops else moving_steps(stored)
    if steps and not len(rows):
        raise NothingToLearnError(where, "every action is a no-op; --keep-noops keeps such steps.")
    state = [np.asarray(_array(observations, key, where), np.float32)[rows].reshape(len(rows), -1) for key in STATE]
    return checked(
        Demonstration(
            dataset=path.parent.name,
            where=where,
            instruction=instruction,
            actions=closing_last({"action": stored[rows].astype(np.float32)}),
            state=np.concatenate(state, axis=1),
            cameras={
                camera: Hdf5Frames(Where(path, name, held[key].name), rows, upside_down=True)
                for camera, key in CAMERAS.items()
            },
            control_hz=CONTROL_HZ,
            convention=layout_named("libero", path).convention,
            stored_gripper=stored[rows, 6].astype(np.float32),
        )
    )


def _member(group: h5py.Group, key: str, where: Where, kind: type) -> Any:  # noqa: ANN401  h5py gives either kind
    place = Where(where.file, where.episode, key)
    link = group.get(key, getlink=True)
    if link is None:
        raise DataError(place, f"is missing; {group.name} holds {', '.join(group)}.")
    if isinstance(link, h5py.ExternalLink):
        raise DataError(place, f"lies in another file, {link.filename}; copy it into this one.")
    with reading(place):
        found = group[key]
    if not isinstance(found, kind):
        raise DataError(place, f"is a {type(found).__name__.lower()}; a {kind.__name__.lower()} is expected.")
    return found


def _group(parent: h5py.Group, key: str, where: Where) -> h5py.Group:
    found: h5py.Group = _member(parent, key, where, h5py.Group)
    return found


def _dataset(group: h5py.Group, key: str, where: Where) -> h5py.Dataset:
    """Return an array in the file if it is one of numbers, and as large as it says."""
    found: h5py.Dataset = _member(group, key, where, h5py.Dataset)
    place = Where(where.file, where.episode, key)
    if found.dtype.kind not in "biuf":
        raise DataError(place, f"has dtype {found.dtype}; numbers are expected.")
    if found.external or found.is_virtual:
        raise DataError(place, "lies in another file; copy it into this one.")
    if found.nbytes > max(found.id.get_storage_size() * _MOST_PACKED, _SMALL):
        raise DataError(place, f"declares {found.nbytes} bytes and has {found.id.get_storage_size()}; is it cut short?")
    return found


def _array(group: h5py.Group, key: str, where: Where) -> NDArray[np.floating]:
    dataset = _dataset(group, key, where)
    with reading(Where(where.file, where.episode, key)):
        return np.asarray(dataset)


def _instruction(attributes: h5py.AttributeManager, path: Path) -> str:
    """Return the task in words: from LIBERO's own attribute, else from the file's name as OpenVLA's converter does."""
    if "problem_info" in attributes:
        with reading(Where(path, field="problem_info"), "names no task", episodes=None):
            text = json.loads(attributes["problem_info"])["language_instruction"]
            return "".join(text).strip('"')
    return _SCENE.sub("", path.stem.removesuffix("_demo")).replace("_", " ")

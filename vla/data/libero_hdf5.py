"""LIBERO's demonstrations: one robomimic HDF5 file a task, `data/demo_<n>` an episode.

Sources: Lifelong-Robot-Learning/LIBERO (scripts/create_dataset.py) for the layout; openvla/openvla
(experiments/robot/libero/regenerate_libero_dataset.py) for no-ops and the half turn of the images. OpenVLA also replays
the filtered actions in the simulator and drops demonstrations that then fail; a reader of files cannot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vla.data.episode import Episode, checked
from vla.data.errors import DataError, OnBad, Where, fail
from vla.data.frames import Hdf5Frames
from vla.data.oxe import closing_last, layout_named

CAMERAS = {"agentview": "agentview_rgb", "wrist": "eye_in_hand_rgb"}
STATE = ("ee_states", "gripper_states")
CONTROL_HZ = 20.0

_STILL = 1e-4
_SCENE = re.compile(r"^[A-Z_]+_SCENE\d+_")


def read_libero_hdf5(directory: Path, keep_noops: bool = False, on_bad: OnBad = fail) -> Iterator[Episode]:
    """Yield the demonstrations of every `*.hdf5` file, in the order of file names and demo numbers.

    Args:
        directory: a folder of task files, such as `libero_spatial/`.
        keep_noops: whether to keep the steps that OpenVLA's modified sets leave out; see `moving_steps`.
        on_bad: called for what cannot be read.

    Raises:
        DataError: there is no such file; or what `on_bad` raises.
    """
    paths = sorted(directory.glob("*.hdf5"))
    if not paths:
        raise DataError(Where(directory), "holds no *.hdf5 file.")
    for path in paths:
        try:
            with h5py.File(path, "r") as file:
                data = _member(file, "data", Where(path))
                instruction = _instruction(data.attrs, path)
                for name in sorted(data, key=lambda name: int(re.sub(r"\D", "", name) or -1)):
                    try:
                        yield _episode(path, name, data[name], instruction, keep_noops)
                    except DataError as error:
                        on_bad(error)
        except OSError as error:
            on_bad(DataError(Where(path), f"is no readable HDF5 file: {error}."))
        except DataError as error:
            on_bad(error)


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


def _episode(path: Path, name: str, demo: h5py.Group, instruction: str, keep_noops: bool) -> Episode:
    where = Where(path, name)
    stored = np.asarray(_member(demo, "actions", where))
    if stored.ndim != 2 or stored.shape[1] != 7:
        raise DataError(Where(path, name, "actions"), f"has shape {stored.shape}; [T, 7] is expected.")
    observations = _member(demo, "obs", where)
    rows = np.arange(len(stored)) if keep_noops else moving_steps(stored)
    state = [np.asarray(_member(observations, key, where), np.float32)[rows] for key in STATE]
    return checked(
        Episode(
            dataset=path.parent.name,
            where=where,
            instruction=instruction,
            actions=closing_last({"action": stored[rows].astype(np.float32)}),
            state=np.concatenate(state, axis=1),
            cameras={
                camera: Hdf5Frames(Where(path, name, _member(observations, key, where).name), rows, upside_down=True)
                for camera, key in CAMERAS.items()
            },
            control_hz=CONTROL_HZ,
            convention=layout_named("libero", path).convention,
            stored_gripper=stored[rows, 6].astype(np.float32),
        )
    )


def _member(group: h5py.Group, key: str, where: Where) -> Any:  # noqa: ANN401  h5py gives a group or a dataset
    if key not in group:
        raise DataError(Where(where.file, where.episode, key), f"is missing; {group.name} holds {', '.join(group)}.")
    return group[key]


def _instruction(attributes: h5py.AttributeManager, path: Path) -> str:
    """Return the task in words: from LIBERO's own attribute, else from the file's name as OpenVLA's converter does."""
    if "problem_info" in attributes:
        text = json.loads(attributes["problem_info"])["language_instruction"]
        return "".join(text).strip('"')
    return _SCENE.sub("", path.stem.removesuffix("_demo")).replace("_", " ")

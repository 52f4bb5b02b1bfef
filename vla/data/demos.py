"""Reads demonstration folders as `vla-eval record` writes them: traces of a simulated expert, and drawn images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.convention import Convention
from vla.data.episode import Episode, checked
from vla.data.errors import DataError, OnBad, Where, fail
from vla.data.frames import Frames, Image

MANIFEST = "demos.json"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class DrawnFrames:
    """Every k-th image of an episode, in one npy file.

    Attributes:
        where: file and episode.
        every: control steps from one image to the next.
        steps: control steps of the episode.
    """

    where: Where
    every: int
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Image:
        if step % self.every:
            raise DataError(self.where, f"holds every {self.every}th image; step {step} was not drawn.")
        images: NDArray[np.uint8] = np.load(self.where.file, mmap_mode="r")
        return np.array(images[step // self.every])


def read_demos(directory: Path, view: str | None = None, on_bad: OnBad = fail) -> Iterator[Episode]:
    """Yield the episodes of a demonstration folder.

    Args:
        directory: the folder.
        view: folder under `images/` whose images to use, e.g. "256px-every1"; by default the only one. Episodes that
            were not drawn in it are left out; without any view, episodes have no cameras.
        on_bad: what to do with an episode that cannot be used.

    Raises:
        DataError: the folder is no such folder, has another format, or several views and none was named.
    """
    manifest = _manifest(directory)
    chosen = _view(directory, view)
    for entry in manifest["episodes"]:
        trace = directory / entry["trace"]
        where = Where(trace, f"task {entry['task']} state {entry['initial_state']}")
        images = sorted(chosen.glob(f"{trace.stem}.*.npy")) if chosen else []
        if chosen and not images:
            continue
        try:
            yield _episode(manifest, entry, where, images)
        except DataError as error:
            on_bad(error)


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        raise DataError(Where(path), "is missing; record demonstrations with vla-eval record.")
    manifest: dict[str, Any] = json.loads(path.read_text())
    if manifest.get("format") != FORMAT:
        raise DataError(Where(path), f"has format {manifest.get('format')}; this version reads {FORMAT}.")
    return manifest


def _view(directory: Path, name: str | None) -> Path | None:
    views = {path.name: path for path in sorted((directory / "images").glob("*px-every*"))}
    if name is None and len(views) <= 1:
        return next(iter(views.values()), None)
    if name not in views:
        known = ", ".join(views) or "none: draw some with vla-eval render"
        raise DataError(Where(directory), f"has no view {name!r}; it has {known}. Name one.")
    return views[name]


def _episode(manifest: dict[str, Any], entry: dict[str, Any], where: Where, images: list[Path]) -> Episode:
    if not where.file.is_file():
        raise DataError(where, "is missing; the same vla-eval record command records it again.")
    with np.load(where.file) as trace:
        actions, said, states = trace["actions"].astype(np.float32), trace["said"], trace["states"]
    gripper = manifest["gripper"]
    actions[:, 6] = (actions[:, 6] - gripper["closed"]) / (gripper["open"] - gripper["closed"])
    steps = len(actions)
    cameras: dict[str, Frames] = {}
    for path in images:
        every = int(path.parent.name.rpartition("every")[2])
        cameras[path.name.split(".")[-2]] = DrawnFrames(Where(path, where.episode), every, steps)
    drawn = {frames.every for frames in cameras.values() if isinstance(frames, DrawnFrames)} or {1}
    meant = np.flatnonzero(said != "")
    return checked(
        Episode(
            dataset=manifest["suite"],
            where=where,
            instruction=entry["instruction"],
            actions=actions,
            state=states.astype(np.float32),
            cameras=cameras,
            control_hz=manifest["control_hz"],
            intents=tuple(str(sentence) or "stop" for sentence in said),
            usable=meant[meant % max(drawn) == 0],
            imitated=said != "",
            convention=Convention("demos", manifest["suite"], manifest["control_hz"], "axis_angle"),
        )
    )

"""Reads demonstration folders as `vla-eval record` writes them: traces of a simulated expert, and drawn images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vla.data.convention import Convention
from vla.data.demonstration import Demonstration, checked
from vla.data.drawn import DrawnFrames, drawn_files, every_of
from vla.data.errors import DataError, NothingToLearnError, OnBad, Where, attempt, fail, reader, reading
from vla.data.frames import Frames
from vla.data.json_files import member, read_json

MANIFEST = "demos.json"
FORMAT = 1


@reader
def read_demos(directory: Path, view: str | None = None, on_bad: OnBad = fail) -> Iterator[Demonstration]:
    """Yield the episodes of a demonstration folder.

    Args:
        directory: the folder.
        view: folder under `images/` whose images to use, e.g. "256px-every1"; by default the only one. Episodes that
            were not drawn in it are left out; without any view, episodes have no cameras.
        on_bad: what to do with an episode that cannot be used.

    Raises:
        DataError: the folder is no such folder, has another format, or several views and none was named.
    """
    path = directory / MANIFEST
    manifest = _manifest(path)
    chosen = _view(directory, view)
    drawn = drawn_files(chosen) if chosen else {}
    cameras = sorted({camera for files in drawn.values() for camera in files})
    seen: set[str] = set()
    for number, entry in enumerate(member(manifest, "episodes", list, path)):
        where = Where(path, f"number {number}")
        try:
            with reading(where, "is described otherwise than vla-eval record does"):
                trace = directory / entry["trace"]
                where = Where(trace, f"task {entry['task']} state {entry['initial_state']}")
                if str(trace) in seen:
                    raise DataError(where, f"is listed twice in {MANIFEST}.")
                seen.add(str(trace))
                if chosen and trace.stem not in drawn:
                    raise NothingToLearnError(where, f"has no images in {chosen.name}; vla-eval render draws them.")
                images = drawn.get(trace.stem, {})
                if missing := [camera for camera in cameras if camera not in images]:
                    raise DataError(where, f"has no images of camera {missing[0]}; vla-eval render draws them.")
        except DataError as error:
            on_bad(error)
            continue
        yield from attempt(partial(_episode, manifest, entry, where, images), where, on_bad)


def _manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(Where(path), "is missing; record demonstrations with vla-eval record.")
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise DataError(Where(path), f"has format {manifest.get('format')}; this version reads {FORMAT}.")
    member(manifest, "suite", str, path)
    if not member(manifest, "control_hz", float, path) > 0:
        raise DataError(Where(path, field="control_hz"), f"is {manifest['control_hz']}; more than 0 is expected.")
    gripper = member(manifest, "gripper", dict, path)
    if member(gripper, "open", float, path) == member(gripper, "closed", float, path):
        raise DataError(Where(path, field="gripper"), "has one number for open and closed.")
    return manifest


def _view(directory: Path, name: str | None) -> Path | None:
    views = {path.name: path for path in sorted((directory / "images").glob("*px-every*"))}
    if name is None and len(views) <= 1:
        return next(iter(views.values()), None)
    if name not in views:
        known = ", ".join(views) or "none: draw some with vla-eval render"
        raise DataError(Where(directory), f"has no view {name!r}; it has {known}. Name one.")
    return views[name]


def _episode(manifest: dict[str, Any], entry: dict[str, Any], where: Where, images: dict[str, Path]) -> Demonstration:
    if not where.file.is_file():
        raise DataError(where, "is missing; the same vla-eval record command records it again.")
    with reading(where, "is no trace of vla-eval record"), np.load(where.file) as trace:
        said = trace["motion" if "motion" in trace.files else "said"]  # as older traces call it
        actions, states = trace["actions"].astype(np.float32), trace["states"]
        if said.dtype.kind != "U" or len(said) != len(actions):
            raise ValueError(f"{len(said)} sentences of {said.dtype} for {len(actions)} actions")
    gripper = manifest["gripper"]
    # As evals.spaces.gripper_level, but unclipped: what lies beyond open or closed is refused with the demonstration.
    actions[:, 6] = (actions[:, 6] - gripper["closed"]) / (gripper["open"] - gripper["closed"])
    steps = len(actions)
    if entry.get("steps", steps) != steps:
        raise DataError(where, f"has {steps} steps; {MANIFEST} says {entry['steps']}. Record it again.")
    cameras: dict[str, Frames] = {}
    every = 1
    for camera, path in images.items():
        every = every_of(path.parent)
        cameras[camera] = drawn = DrawnFrames(Where(path, where.episode, camera), every, steps)
        drawn.check()
    meant = np.flatnonzero(said != "")
    return checked(
        Demonstration(
            dataset=manifest["suite"],
            where=where,
            instruction=entry["instruction"],
            actions=actions,
            state=states.astype(np.float32),
            cameras=cameras,
            control_hz=manifest["control_hz"],
            intents=tuple(str(sentence) or "stop" for sentence in said),
            valid_starts=meant[meant % every == 0],
            is_expert=said != "",
            convention=Convention("demos", manifest["suite"], manifest["control_hz"], "axis_angle"),
            scene=f"task {entry['task']} state {entry['initial_state']} seed {entry.get('seed', 0)}",
        )
    )

"""Finds out which demonstrations have all of their images, rendered from exactly the recorded trajectory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from evals.demos.pictures import RAW, SUFFIX, count_pictures
from evals.errors import RecordError, RunIncompleteError, UnknownNameError, UsageError
from evals.record import HEADER, read_run
from evals.types import EpisodeResult, Suite

Entry: TypeAlias = Mapping[str, Any]
"""An episode of a manifest."""


@dataclass(frozen=True)
class View:
    """Rendered images of a demonstration folder: one size, some cameras, every k-th control step.

    Attributes:
        folder: holds `<name of the trace>.<camera>.zip` (or raw arrays, `.npy`), and a folder for each run that
            rendered some of them.
        cameras: names of the rendered cameras.
        every: number of control steps between images.
    """

    folder: Path
    cameras: tuple[str, ...]
    every: int

    def lacks(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the episodes that are not rendered: images are missing, or no run replayed the recorded trajectory."""
        played = {(*_key(result), result.trajectory_hash) for run in self._runs() for result in self._scored(run)}
        return [
            entry
            for entry in entries
            if (entry["task"], entry["initial_state"], entry["seed"], entry["trajectory_hash"]) not in played
            or not all(self._is_whole(name, entry) for name in self._names(entry))
        ]

    def run_folder(self, missing: Sequence[Entry]) -> Path:
        """Return the folder of the run that renders the missing episodes.

        It is the folder of the last run, unless that run already has a result of one of these episodes.
        """
        wanted = {(entry["task"], entry["initial_state"], entry["seed"]) for entry in missing}
        runs = self._runs()
        if runs and not any(_key(result) in wanted for result in self._scored(runs[-1])):
            return runs[-1]
        return self.folder / (self._name if not runs else f"{self._name}.{len(runs) + 1}")

    def require_equal(self, played: Sequence[EpisodeResult], entries: Sequence[Entry]) -> None:
        """Check that every replayed episode equals its recording, and remove the images of those that do not.

        Raises:
            RecordError: a replayed episode differs from its recording.
            RunIncompleteError: an episode could not be replayed to its end.
        """
        known = {(entry["task"], entry["initial_state"], entry["seed"]): entry for entry in entries}
        lost = [result for result in played if not result.status.scored]
        unlike = [
            result
            for result in played
            if result.status.scored and result.trajectory_hash != known[_key(result)]["trajectory_hash"]
        ]
        for result in unlike:
            for name in self._names(known[_key(result)]):
                for suffix in (SUFFIX, RAW):
                    (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
        if unlike:
            raise RecordError(
                f"{len(unlike)} of {len(played)} episodes did not play as they were recorded, the first of task "
                f"{unlike[0].task} state {unlike[0].initial_state}: other versions of the simulator draw other images. "
                "Theirs were removed."
            )
        if lost:
            reason = (lost[0].error or "").strip().splitlines()[-1:]
            raise RunIncompleteError(
                f"{len(lost)} of {len(played)} episodes could not be drawn, the first of task {lost[0].task} state "
                f"{lost[0].initial_state}: {''.join(reason)}. The same command draws them."
            )

    @property
    def _name(self) -> str:
        return f"run-{'-'.join(self.cameras)}"

    def _runs(self) -> list[Path]:
        named = re.compile(re.escape(self._name) + r"(?:\.(\d+))?")
        numbers = {
            int(match[1] or 1): path for path in self.folder.glob("run-*") if (match := named.fullmatch(path.name))
        }
        return [numbers[number] for number in sorted(numbers)]

    def _scored(self, run: Path) -> list[EpisodeResult]:
        if not (run / HEADER).is_file():
            return []
        return [result for result in read_run(run).results if result.status.scored]

    def _names(self, entry: Entry) -> list[str]:
        return [f"{Path(entry['trace']).stem}.{camera}" for camera in self.cameras]

    def _is_whole(self, name: str, entry: Entry) -> bool:
        expected = -(-entry["steps"] // self.every)
        return any(count_pictures(self.folder / f"{name}{suffix}") == expected for suffix in (SUFFIX, RAW))


def cameras_of(suite: Suite, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of cameras, each once; all cameras of the suite if there is none.

    Raises:
        UnknownNameError: the suite has no camera of that name.
    """
    known = [camera.name for camera in suite.protocol.cameras]
    for name in names:
        if name not in known:
            raise UnknownNameError(f"camera of suite {suite.name!r}", name, known)
    return tuple(dict.fromkeys(names or known))


def height_of(suite: Suite, height: int | None) -> int:
    """Return the height of images in pixels, by default the protocol's.

    Raises:
        UsageError: the height is not positive.
    """
    if height is not None and height < 1:
        raise UsageError(f"--size is {height}; images must be at least 1 pixel high.")
    return height or suite.protocol.cameras[0].height


def resized(suite: Suite, height: int) -> Suite:
    """Return the suite with images of another height; the protocol hash changes, what happens in episodes does not."""
    cameras = tuple(
        replace(camera, height=height, width=round(camera.width * height / camera.height))
        for camera in suite.protocol.cameras
    )
    return replace(suite, protocol=replace(suite.protocol, cameras=cameras))


def _key(result: EpisodeResult) -> tuple[int, int, int]:
    return result.task, result.initial_state, result.seed

"""A policy that replays recorded actions and saves the images: how images are rendered after recording.

An episode depends only on its identity and its actions, so a replay of both gives exactly the images of the recording.
Physics costs little compared with rendering, and no state that a simulator keeps hidden has to be restored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evals.demos.pictures import SUFFIX, ImageFormat, save_pictures
from evals.errors import UsageError
from evals.spaces import StateSpace
from evals.types import ActionChunk, Episode, Image, Observation, Suite


class Replay:
    """Replays the trace of each episode, keeps an image every `every` steps, and saves them at the end.

    Args:
        suite: the suite of the recorded run.
        traces: (task, initial state, seed) -> npz file of the recorded episode.
        images: folder in which `<name of the trace>.<camera>.zip` is saved.
        cameras: names of the cameras to render.
        every: number of control steps between images.
        image_format: how images are stored.
    """

    name = "replay"
    state_space: StateSpace | None = None

    def __init__(
        self,
        suite: Suite,
        traces: dict[tuple[int, int, int], Path],
        images: Path,
        cameras: tuple[str, ...],
        every: int,
        image_format: ImageFormat = "webp",
    ) -> None:
        self.action_space = suite.action_space
        self.cameras = cameras
        self.replan_every = every
        self._traces = traces
        self._folder = images
        self._format: ImageFormat = image_format
        self._actions: dict[str, np.ndarray] = {}
        self._seen: dict[str, dict[str, list[Image]]] = {}

    def begin(self, episode: Episode) -> None:
        """Read the episode's actions."""
        path = self._trace(episode)
        if not path.is_file():
            raise UsageError(f"{path} is missing: only runs that were recorded with --traces can be rendered.")
        with np.load(path) as trace:
            actions = trace["actions"]
        spare = -len(actions) % self.replan_every
        self._actions[episode.id] = np.concatenate([actions, np.tile(self.action_space.idle(), (spare, 1))])
        self._seen[episode.id] = {name: [] for name in self.cameras}

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Keep the images, and return the recorded actions up to the next image."""
        chunks = []
        for seen in observations:
            for name in self.cameras:
                self._seen[seen.episode.id][name].append(seen.images[name])
            actions = self._actions[seen.episode.id][seen.step : seen.step + self.replan_every]
            chunks.append(ActionChunk(actions))
        return chunks

    def end(self, episode: Episode) -> None:
        """Save the images of a complete episode; an incomplete one saves nothing, and is replayed again."""
        looks = len(self._actions.pop(episode.id, ())) // self.replan_every
        seen = self._seen.pop(episode.id, {})
        if any(len(images) != looks for images in seen.values()):
            return
        for name, images in seen.items():
            path = self._folder / f"{self._trace(episode).stem}.{name}{SUFFIX}"
            save_pictures(path, images, self.replan_every, self._format)

    def _trace(self, episode: Episode) -> Path:
        return self._traces[episode.task, episode.initial_state, episode.seed]

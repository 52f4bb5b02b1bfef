"""Writes recorded demonstrations as a LeRobotDataset v3.0, which the `lerobot` library reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from vla.data.demos import MANIFEST, read_demos
from vla.data.lerobot_writer import LeRobotWriter


def export(demonstrations: Path, target: Path) -> None:
    """Write a demonstration folder as a LeRobot dataset.

    Cameras are written where every step was drawn; a folder with every k-th image keeps them to itself, and its dataset
    has states, actions and intents. Extra columns: `initial_state`, `seed`, and `imitate`, which is 0 where the arm was
    pushed off its path.

    Raises:
        DataError: an episode cannot be used, or the target is not empty.
    """
    manifest = json.loads((demonstrations / MANIFEST).read_text())
    views = [path.name for path in sorted((demonstrations / "images").glob("*px-every1"))]
    entries = {entry["trace"]: entry for entry in manifest["episodes"]}
    with LeRobotWriter(target, fps=round(manifest["control_hz"]), robot_type=manifest["robot"]) as writer:
        for episode in read_demos(demonstrations, views[0] if views else None):
            entry = entries[str(episode.where.file.relative_to(demonstrations))]
            numbers = {name: np.full(len(episode), entry[name]) for name in ("initial_state", "seed")}
            imitate = np.zeros(len(episode), np.int64)
            imitate[episode.usable] = 1
            cameras = episode.cameras if views else {}
            writer.add(replace(episode, cameras=cameras), {**numbers, "imitate": imitate})

"""Writes recorded demonstrations as a LeRobotDataset v3.0, which the `lerobot` library reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vla.data.demos import MANIFEST, read_demos
from vla.data.drawn import drawn_files, every_of
from vla.data.errors import DataError, Where
from vla.data.lerobot_writer import LeRobotWriter


def export(demonstrations: Path, target: Path) -> None:
    """Write a demonstration folder as a LeRobot dataset.

    Cameras are written where every step was drawn; a folder with every k-th image keeps them to itself, and its dataset
    has states, actions and intents. Extra columns: `initial_state`, `seed`, and `imitate`, which is 0 where the arm was
    pushed off its path. `README.md` is the dataset card.

    Raises:
        DataError: an episode cannot be used, or the target is not empty, or images are there of some episodes only.
    """
    manifest = json.loads((demonstrations / MANIFEST).read_text())
    entries = {entry["trace"]: entry for entry in manifest["episodes"]}
    views = [
        path.name
        for path in sorted((demonstrations / "images").glob("*px-every1*"))
        if every_of(path) == 1 and {Path(trace).stem for trace in entries} <= drawn_files(path).keys()
    ]
    written = 0
    with LeRobotWriter(target, fps=round(manifest["control_hz"]), robot_type=manifest["robot"]) as writer:
        for episode in read_demos(demonstrations, views[0] if views else None):
            entry = entries[str(episode.where.file.relative_to(demonstrations))]
            numbers = {name: np.full(len(episode), entry[name]) for name in ("initial_state", "seed")}
            imitate = np.asarray(episode.is_expert, np.int64)
            cameras = episode.cameras if views else {}
            writer.add(replace(episode, cameras=cameras), {**numbers, "imitate": imitate})
            written += 1
    if written != len(entries):
        where = Where(demonstrations / MANIFEST)
        raise DataError(where, f"lists {len(entries)} episodes, {written} are drawn; draw all: vla-eval render.")
    (target / "README.md").write_text(card(manifest))


def card(manifest: Mapping[str, Any]) -> str:
    """Write the dataset card of a demonstration folder's manifest: where its scenes come from, and how it was made."""
    recorded = "".join(_recorded(part) for part in manifest.get("merged_from", [manifest]))
    tasks = {entry["instruction"] for entry in manifest["episodes"]}
    return f"""---
task_categories: [robotics]
tags: [LeRobot]
configs:
- config_name: default
  data_files: data/*/*.parquet
---

# Demonstrations of {manifest["suite"]}

{len(manifest["episodes"])} successful episodes of a scripted expert in {len(tasks)} tasks,
{manifest["control_hz"]:g} control steps a second.

- **Scenes**: {manifest["placements"]}.
  They are drawn by the tasks' own samplers, seeded by suite, task, seed and the number of the initial state
  (columns `seed` and `initial_state`).
{recorded}- **State**: {", ".join(manifest["state_names"])}:
  {manifest["robot"]}.
- **Action**: seven numbers a control step as the suite's controller takes them, but for the gripper, which is a level:
  1 = open, 0 = closed.
- **Intent**: what the expert meant to do at every step, as a motion sentence.
- **States hash**: {manifest["states_hash"]}; recording again gives the same.
"""


def _recorded(part: Mapping[str, Any]) -> str:
    """Write how one recording was made; of several that were put together, each by its folder's name."""
    perturbation = part.get("perturbation") or part["widening"]  # as older manifests call it
    pushed = perturbation.get("push_fraction", perturbation.get("pushed", 0.0))
    alike = perturbation.get("consistent_grasp", perturbation.get("steady", False))
    slowest, fastest = perturbation["slowest"], perturbation["fastest"]
    taken = ""
    if perturbation.get("takeover"):
        taken = (
            f"  The policy {perturbation['takeover']} acts for up to {perturbation['takeover_steps']} steps first; its "
            "steps have\n  `imitate` 0 too.\n"
        )
    named = f" ({part['folder']}, {part['episodes']} episodes)" if "folder" in part else ""
    return f"""- **Perturbation**{named}: speed times {slowest:g} to {fastest:g}, one factor an episode;
  {perturbation["noise"]:g} m of noise on the path; the arm is pushed off its path in {pushed:.0%} of the steps.
  Pushed steps have `imitate` 0: what follows them is to be learnt, they are not.
{taken}- **Grasps**{named}: {"the same one" if alike else "the one with most clearance"} of several sound ones.
"""

"""Run folders to one DataFrame, one row an episode, with declared columns."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from evals.errors import RunFolderError, UsageError
from evals.record import HEADER, Run, read_run
from evals.types import EpisodeResult

CONDITIONS = ("size", "init", "pretrain_target", "motion", "method")
# Column -> dtype. What is constant within a run is categorical: a million rows stay small.
COLUMNS = {
    "run": "category",
    "suite": "category",
    "policy": "category",
    "protocol_hash": "category",
    **dict.fromkeys(CONDITIONS, "category"),
    "task": "int32",
    "initial_state": "int32",
    "seed": "int64",
    "episode_id": "str",
    "status": "category",
    "scored": "bool",
    "success": "bool",
    "success_first": "float64",
    "success_ever": "bool",
    "success_last": "bool",
    "success_at_reset": "bool",
    "official": "bool",
    "steps": "int32",
    "physics_seconds": "float64",
    "render_seconds": "float64",
    "policy_seconds": "float64",
    "reset_seconds": "float64",
    "trajectory_hash": "str",
    "scene_hash": "str",
    "worker": "int32",
    "attempt": "int32",
    "error": "str",
}


def find_runs(*places: str | Path) -> list[Path]:
    """Return the run folders at or below places, sorted, each once.

    Args:
        places: run folders, folders of run folders, or patterns such as "results/runs/*/expert".

    Raises:
        UsageError: a place does not exist, or holds no run.
    """
    runs: set[Path] = set()
    for place in places:
        folders = [Path(match) for match in sorted(glob.glob(str(place)))]
        if not folders:
            raise UsageError(f"No folder {str(place)!r} exists.")
        found = {header.parent for folder in folders for header in folder.rglob(HEADER)}
        if not found:
            raise UsageError(f"No run lies in {str(place)!r}: a run is a folder with a {HEADER}.")
        runs |= found
    return sorted(runs)


def episodes(*places: str | Path) -> pd.DataFrame:
    """Return one row an episode of every run at or below places, with the columns and dtypes of `COLUMNS`.

    Episodes without a score keep their row, with `scored` False: they are missing, not failed.

    Raises:
        UsageError: there is no run.
        RunFolderError: a run does not read.
    """
    return episodes_of(read_run(path) for path in find_runs(*places))


def episodes_of(runs: Iterable[Run]) -> pd.DataFrame:
    """Return one row an episode of runs that are already read."""
    frames = [_frame(run) for run in runs]
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
    return whole.astype(COLUMNS)


def planned(run: Run) -> dict[int, int]:
    """Return task id -> episodes asked for, over all starts of a run.

    Raises:
        RunFolderError: the run's header does not say what was planned.
    """
    ids = {str(name): task["id"] for task in run.header.suite["tasks"] for name in (task["name"], task["id"])}
    counts: dict[int, int] = {}
    try:
        for session in run.header.sessions:
            tasks = {ids[text] for text in session["config"]["tasks"]} or set(ids.values())
            for task in tasks:
                counts[task] = max(counts.get(task, 0), session["planned"] // len(tasks))
    except KeyError as error:
        raise RunFolderError(f"{run.path / HEADER} does not say what was planned: {error} is missing.") from error
    for result in run.results:
        counts.setdefault(result.task, 0)
    return dict(sorted(counts.items()))


def _frame(run: Run) -> pd.DataFrame:
    results: Sequence[EpisodeResult] = run.results
    copied = [name for name in COLUMNS if name in EpisodeResult.__dataclass_fields__ and name != "status"]
    columns: dict[str, object] = {name: [getattr(result, name) for result in results] for name in copied}
    for part in ("physics", "render", "policy", "reset"):
        columns[f"{part}_seconds"] = [getattr(result.seconds, part) for result in results]
    status = [result.status.value for result in results]
    frame = pd.DataFrame({**columns, "status": pd.Categorical(status)})
    frame["scored"] = frame["status"].isin(["success", "failure"])
    frame["success"] = frame["status"] == "success"
    frame["error"] = frame["error"].fillna("")
    frame["run"] = str(run.path)
    frame["policy"] = str(run.header.config["policy"])
    for name in CONDITIONS:
        frame[name] = run.header.conditions.get(name, "")
    return frame[list(COLUMNS)]

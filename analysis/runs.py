"""Run folders to one DataFrame, one row an episode, with declared columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.recorded import checked, find_runs
from evals.record import CONDITIONS, Run, read_run
from evals.types import EpisodeResult, Status

if TYPE_CHECKING:
    import pandas as pd

# Column -> dtype. What is constant within a run is categorical: a million rows stay small.
COLUMNS = {
    "run": "category",
    "suite": "category",
    "policy": "category",
    "protocol_hash": "category",
    **dict.fromkeys(CONDITIONS, "category"),
    "task": "int64",
    "initial_state": "int64",
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
    "steps": "int64",
    "physics_seconds": "float64",
    "render_seconds": "float64",
    "policy_seconds": "float64",
    "reset_seconds": "float64",
    "trajectory_hash": "str",
    "scene_hash": "str",
    "worker": "int64",
    "attempt": "int64",
    "error": "str",
}
_PHASES = ("physics", "render", "policy", "reset")
_RECORDED = EpisodeResult.__dataclass_fields__


def episodes(*places: str | Path) -> pd.DataFrame:
    """Return one row an episode of every run at or below places, with the columns and dtypes of `COLUMNS`.

    Episodes without a score keep their row, with `scored` False: they are missing, not failed. So
    `frame[frame.scored].groupby("policy", observed=True).success.mean()` are success rates.

    Args:
        places: run folders, folders of run folders, or patterns such as "results/runs/*/expert".

    Raises:
        UsageError: there is no run.
        RunFolderError: a run does not read.
    """
    import pandas as pd

    frames = [_described(checked(read_run(path))) for path in find_runs(*places)]
    return pd.concat(frames, ignore_index=True).astype(COLUMNS)


def _described(run: Run) -> pd.DataFrame:
    import pandas as pd

    results = run.results
    told = {name: [getattr(result, name) for result in results] for name in COLUMNS if name in _RECORDED}
    seconds = {f"{phase}_seconds": [getattr(result.seconds, phase) for result in results] for phase in _PHASES}
    frame = pd.DataFrame({**told, **seconds})
    return frame.assign(
        status=[result.status.value for result in results],
        scored=[result.status.scored for result in results],
        success=[result.status is Status.SUCCESS for result in results],
        error=[result.error or "" for result in results],
        run=str(run.path),
        policy=run.header.config["policy"],
        **{name: run.header.conditions.get(name, "") for name in CONDITIONS},
    )[list(COLUMNS)]

"""Run folders to one DataFrame, one row an episode, with declared columns."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.json

from evals.errors import RunFolderError, UsageError
from evals.record import EPISODES, HEADER, Header, Run, read_header, read_run
from evals.types import EpisodeResult, Status

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
_PHASES = ("physics", "render", "policy", "reset")
_SCORED = [status.value for status in Status if status.scored]
_TYPES = {"int": pyarrow.int64(), "int | None": pyarrow.int64(), "bool": pyarrow.bool_()}
_SCHEMA = pyarrow.schema(
    {name: _TYPES.get(str(field.type), pyarrow.string()) for name, field in EpisodeResult.__dataclass_fields__.items()}
    | {"seconds": pyarrow.struct(dict.fromkeys(_PHASES, pyarrow.float64()))}
)


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
    return _joined([_read(path) for path in find_runs(*places)])


def episodes_of(runs: Iterable[Run]) -> pd.DataFrame:
    """Return one row an episode of runs that are already read."""
    return _joined([_described(_plain(run.results), run.path, run.header) for run in runs])


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


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))
    return whole.astype(COLUMNS)


def _read(path: Path) -> pd.DataFrame:
    """Read a run by columns, four times as fast as line by line; what that cannot read goes to `read_run`."""
    header = read_header(path)
    columns = _by_columns(path / EPISODES)
    return _described(_plain(read_run(path).results) if columns is None else _last(columns), path, header)


def _by_columns(file: Path) -> pd.DataFrame | None:
    """Return every line of a record, or None if there is none or a line is not as declared."""
    if not file.is_file() or not file.stat().st_size:
        return None
    try:
        table = pyarrow.json.read_json(
            file,
            pyarrow.json.ReadOptions(block_size=1 << 24),
            pyarrow.json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="error"),
        )
    except pyarrow.ArrowInvalid:
        return None
    optional = {"success_first", "error"}
    flat = table.flatten()
    if any(flat[name].null_count for name in flat.column_names if name not in optional):
        return None
    frame = flat.to_pandas()
    return frame if set(frame["status"].unique()) <= set(Status) else None


def _last(lines: pd.DataFrame) -> pd.DataFrame:
    """Keep one line an episode, as `evals.record.read_run` does: the first scored one, otherwise the last."""
    if lines["episode_id"].is_unique:
        return lines
    at = pd.Series(range(len(lines)))
    order = at.where(lines["status"].isin(_SCORED), 2 * len(lines) - at)
    return lines.loc[order.groupby(lines["episode_id"], sort=False).idxmin()]


def _plain(results: Sequence[EpisodeResult]) -> pd.DataFrame:
    names = [field for field in EpisodeResult.__dataclass_fields__ if field not in ("status", "seconds")]
    columns: dict[str, object] = {name: [getattr(result, name) for result in results] for name in names}
    for phase in _PHASES:
        columns[f"seconds.{phase}"] = [getattr(result.seconds, phase) for result in results]
    return pd.DataFrame({**columns, "status": [result.status.value for result in results]})


def _described(results: pd.DataFrame, path: Path, header: Header) -> pd.DataFrame:
    frame = results.rename(columns={f"seconds.{phase}": f"{phase}_seconds" for phase in _PHASES})
    frame["scored"] = frame["status"].isin(_SCORED)
    frame["success"] = frame["status"] == Status.SUCCESS.value
    frame["error"] = frame["error"].astype(object).fillna("")
    frame["run"] = str(path)
    frame["policy"] = str(header.config["policy"])
    for name in CONDITIONS:
        frame[name] = header.conditions.get(name, "")
    return frame[list(COLUMNS)]

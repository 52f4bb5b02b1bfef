"""Recorded runs as the analysis takes them: found, read, checked, and each counted once."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evals.errors import RunFolderError, UsageError
from evals.record import EPISODES, HEADER, Run, read_run
from evals.types import Task


@dataclass(frozen=True)
class Recorded:
    """Runs, and what must be said of those that were left out."""

    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()


def load_runs(*places: str | Path) -> Recorded:
    """Read the runs at or below places; a folder that holds the same record as another is left out, and that is said.

    Raises:
        UsageError: a place does not exist, or holds no run.
        RunFolderError: a run does not read.
    """
    return distinct([read_checked(path) for path in find_runs(*places)])


def find_runs(*places: str | Path) -> list[Path]:
    """Return the run folders at or below places, sorted, each once, by whatever ways it is reached.

    Args:
        places: run folders, folders of run folders, or patterns such as "results/runs/*/expert".

    Raises:
        UsageError: a place does not exist, or holds no run.
    """
    runs: dict[Path, Path] = {}
    for place in places:
        named = os.path.exists(place)  # a folder called "[a]" is no pattern
        folders = [Path(match) for match in ([place] if named else sorted(glob.glob(str(place), recursive=True)))]
        if not folders:
            raise UsageError(f"No folder {str(place)!r} exists.")
        found = sorted({header.parent for folder in folders for header in folder.rglob(HEADER)})
        if not found:
            raise UsageError(f"No run lies in {str(place)!r}: a run is a folder with a {HEADER}.")
        for path in found:
            runs.setdefault(path.resolve(), path)
    return sorted(runs.values())


def read_checked(path: Path) -> Run:
    """Read a run whose header says all that tables and reports need.

    Raises:
        RunFolderError: it does not read, or lacks something.
    """
    lines = path / EPISODES
    if lines.exists() and not lines.is_file():
        raise RunFolderError(f"{lines} is no file. Leave the folder out.")
    try:
        return checked(read_run(path))
    except (OSError, RecursionError) as error:
        raise RunFolderError(f"{path} does not read as a run: {error}. Leave the folder out.") from error


def checked(run: Run) -> Run:
    """Return a run if its header says what tables and reports need beside what every run says.

    Raises:
        RunFolderError: it lacks something, or something is of another kind than it has to be.
    """
    header = run.header
    kinds: list[tuple[str, object, type]] = [("config.policy", header.config.get("policy"), str)]
    for i, session in enumerate(header.sessions):
        decided = session.get("decided", {"text": "", "against": "", "episodes": 0})
        told = decided if isinstance(decided, Mapping) else {}
        fields = {"text": str, "against": str, "episodes": int}
        kinds += [(f"sessions.{i}.decided.{name}", told.get(name), of) for name, of in fields.items()]
    for name, value, kind in kinds:
        if not isinstance(value, kind):
            raise RunFolderError(
                f"{run.path / HEADER} does not read as a run header: {name} is {value!r}. Leave it out."
            )
    return run


def distinct(runs: Sequence[Run]) -> Recorded:
    """Leave out runs whose record another run holds too: a folder that was copied is no second measurement."""
    kept: list[Run] = []
    notes = []
    for run in sorted(runs, key=lambda run: -len(run.results)):  # the fullest of copies is the one that is kept
        same = next((other for other in kept if _is_copy(run, other)), None)
        if same is None:
            kept.append(run)
        else:
            notes.append(f"{run.path} holds the same record as {same.path} and is not counted again.")
    return Recorded(tuple(run for run in runs if any(run is one for one in kept)), tuple(notes))


def _is_copy(run: Run, other: Run) -> bool:
    """Return whether every score of a run is recorded in another too, wall seconds included."""
    a, b = run.header, other.header
    identities = [(h.suite["name"], h.protocol_hash, dict(h.config), dict(h.conditions)) for h in (a, b)]
    if identities[0] != identities[1]:
        return False
    known = {result.episode_id: result for result in other.results}
    scored = [result for result in run.results if result.status.scored]
    if not scored:
        return bool(a.sessions) and a.sessions[0] == next(iter(b.sessions), None)
    return all(known.get(result.episode_id) == result for result in scored)


def tasks_of(run: Run) -> list[Task]:
    """Return the tasks that a run's header describes."""
    return [Task(**task) for task in run.header.suite["tasks"]]


def labels_of(run: Run) -> dict[int, str]:
    """Return task id -> how tables call the task."""
    return {task.id: f"{task.id} {task.instruction or task.name}" for task in tasks_of(run)}


def split_strays(run: Run) -> tuple[Run, list[int]]:
    """Return a run without the episodes of tasks that its header lacks, and those tasks."""
    known = {task.id for task in tasks_of(run)}
    strays = sorted({result.task for result in run.results} - known, key=str)
    return replace(run, results=tuple(r for r in run.results if r.task in known)), strays


def require_known_tasks(run: Run) -> None:
    """Refuse a record with episodes of tasks that its header lacks.

    Raises:
        RunFolderError: there are some.
    """
    _, strays = split_strays(run)
    if strays:
        raise RunFolderError(
            f"{run.path / EPISODES} has episodes of task {strays[0]}, which {HEADER} lacks: the two do not belong"
            " together. Leave the folder out, or restore the file that was replaced."
        )


def planned(run: Run) -> dict[int, int]:
    """Return task id -> episodes asked for, over all starts of a run.

    A start that ended because its comparison was decided has asked for no more than ran until then.

    Raises:
        RunFolderError: the run's header does not say what was planned, or lacks a task that has episodes.
    """
    require_known_tasks(run)
    ids = {str(name): task.id for task in tasks_of(run) for name in (task.name, task.id)}
    counts: dict[int, int] = {}
    if run.results and not run.header.sessions:
        raise RunFolderError(
            f"{run.path / HEADER} has no session: what was planned is not known. Leave the folder out."
        )
    try:
        for session in run.header.sessions:
            tasks = {ids[str(text)] for text in session["config"]["tasks"]} or set(ids.values())
            decided = session.get("decided")
            asked = (session["planned"] if decided is None else decided["episodes"]) // len(tasks)
            for task in tasks:
                counts[task] = asked if decided is not None else max(counts.get(task, 0), asked)
    except (KeyError, TypeError) as error:
        raise RunFolderError(
            f"{run.path / HEADER} does not say what was planned ({type(error).__name__}: {error}). Leave it out."
        ) from error
    for result in run.results:
        counts.setdefault(result.task, 0)
    return dict(sorted(counts.items()))


def decision_of(run: Run) -> str:
    """Return why a run stopped before its last episode, if its comparison was decided; otherwise ""."""
    *_, last = ({}, *run.header.sessions)
    decided = last.get("decided")
    if decided is None:
        return ""
    return (
        f"Stopped before all {last.get('planned')} episodes since the comparison with {decided['against']} was decided:"
        f" {decided['text']} The rate of a run that stops so leans towards the decision."
    )

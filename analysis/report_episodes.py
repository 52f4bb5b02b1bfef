"""What a report shows of one episode: how it ended, its film, what was said and what was done."""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evals.errors import RunFolderError
from evals.record import Run
from evals.types import EpisodeResult
from vla.labellers import AdaptiveLabeller
from vla.motion import describe
from vla.statistics import ActionStatistics, statistics_of

TRACES, VIDEOS = "traces", "videos"
_WORDS = {"policy_error": "policy error", "sim_error": "simulator error", "timeout": "timed out"}


@dataclass(frozen=True)
class Moment:
    """Consecutive steps in which the same was said and the same was done."""

    first: int
    last: int
    said: str
    done: str
    success: bool


@dataclass(frozen=True)
class EpisodeView:
    """One episode in a report.

    Attributes:
        outcome: "success", "failure", or how it ended without a score.
        rank: order in which outcomes are shown: failures, then errors, then successes.
        film: a data URI, a relative path, or "".
        moments: what was said beside what was done; empty without a trace.
        error: traceback of an episode that ended without a score.
    """

    run: str
    suite: str
    task: str
    result: EpisodeResult
    outcome: str
    rank: int
    film: str
    moments: tuple[Moment, ...]
    error: str

    @property
    def seconds(self) -> float:
        """Wall seconds of the episode."""
        parts = self.result.seconds
        return parts.physics + parts.render + parts.policy + parts.reset

    @property
    def agreement(self) -> str:
        """In how many steps the motion said is the motion done, in words; empty if nothing was said."""
        lengths = [(moment.last - moment.first + 1, moment) for moment in self.moments if moment.said]
        same = sum(length for length, moment in lengths if moment.said == moment.done)
        return f"{same} of {sum(length for length, _ in lengths)} steps" if lengths else ""

    @property
    def detailed(self) -> bool:
        """Whether there is more to show than its row."""
        return bool(self.film or self.moments or self.error)


class Films:
    """Embeds films until a budget of bytes is spent, and links those that come after."""

    def __init__(self, budget: int) -> None:
        self._left = budget
        self.linked = 0

    def uri(self, file: Path, folder: Path) -> str:
        """Return a data URI, or a path relative to the report's folder, or "" without a film."""
        if not file.is_file():
            return ""
        if file.stat().st_size > self._left:
            self.linked += 1
            return Path(os.path.relpath(file, folder)).as_posix()
        self._left -= file.stat().st_size
        return f"data:video/mp4;base64,{base64.b64encode(file.read_bytes()).decode()}"


def episodes_of(run: Run, label: str, films: Films, folder: Path) -> Iterator[EpisodeView]:
    """Yield the episodes of a run, failures first.

    Args:
        run: the run.
        label: how the report calls it.
        films: embeds or links videos.
        folder: where the report will lie.

    Raises:
        RunFolderError: a trace does not read.
    """
    names = {task["id"]: f"{task['id']} {task['instruction'] or task['name']}" for task in run.header.suite["tasks"]}
    statistics = _statistics(run)
    for result in sorted(run.results, key=lambda r: (_rank(r), r.task, r.initial_state, r.seed)):
        trace = run.path / TRACES / f"{result.episode_id}.npz"
        detailed = _rank(result) < 2
        yield EpisodeView(
            run=label,
            suite=result.suite,
            task=names[result.task],
            result=result,
            outcome=_WORDS.get(result.status.value, result.status.value),
            rank=_rank(result),
            film=films.uri(run.path / VIDEOS / f"{result.episode_id}.mp4", folder) if detailed else "",
            moments=tuple(moments(_read(trace), run, statistics)) if statistics is not None and trace.is_file() else (),
            error=result.error or "",
        )


def moments(trace: Mapping[str, npt.NDArray[np.generic]], run: Run, statistics: ActionStatistics) -> Iterator[Moment]:
    """Yield what was said beside what was done, runs of equal steps together.

    What was done is what the adaptive labeller reads in the actions that ran, scaled by the run's own actions.
    """
    actions = gripper_as_level(np.asarray(trace["actions"], dtype=np.float64), run)
    done = [describe(motion) for motion in AdaptiveLabeller().label(actions, statistics)]
    steps = zip(map(str, trace["said"]), done, map(bool, trace["success"]), strict=True)
    at = 0
    for (said, moved, success), group in itertools.groupby(steps):
        length = len(list(group))
        yield Moment(at, at + length - 1, said, moved, success)
        at += length


def gripper_as_level(actions: npt.NDArray[np.float64], run: Run) -> npt.NDArray[np.float64]:
    """Return actions `[T, 7]` with entry 6 as a level, 1 = open; settling keeps the gripper open in every protocol."""
    opened = run.header.protocol["settle_action"][6]
    return np.column_stack([actions[:, :6], np.clip((actions[:, 6] / opened + 1) / 2, 0, 1)])


def _statistics(run: Run) -> ActionStatistics | None:
    files = sorted((run.path / TRACES).glob("*.npz"))
    arrays = [np.asarray(_read(file)["actions"], dtype=np.float64) for file in files]
    actions = [gripper_as_level(array, run) for array in arrays if len(array)]
    return statistics_of(run.header.suite["name"], actions) if actions else None


def _read(file: Path) -> dict[str, npt.NDArray[np.generic]]:
    try:
        with np.load(file) as trace:
            return {name: trace[name] for name in ("actions", "said", "success")}
    except (OSError, ValueError, KeyError) as error:
        raise RunFolderError(f"{file} does not read as a trace: {error}.") from error


def _rank(result: EpisodeResult) -> int:
    if not result.status.scored:
        return 1
    return 2 if result.status.value == "success" else 0

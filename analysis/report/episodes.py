"""What a report shows of one episode: how it ended, its film, what was said and what was done."""

from __future__ import annotations

import base64
import contextlib
import itertools
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.recorded import labels_of
from evals.errors import RecordError
from evals.record import HEADER, Run, action_space_of
from evals.spaces import ActionSpace, gripper_level
from evals.types import EpisodeResult
from vla.motion.labellers import Labeller
from vla.motion.language import describe
from vla.statistics import ActionStatistics, statistics_of

TRACES, VIDEOS = "traces", "videos"
_Scale = tuple[ActionSpace, ActionStatistics]
_WORDS = {"policy_error": "policy error", "sim_error": "simulator error", "timeout": "timed out"}


# What NumPy and zipfile raise for files that are cut, damaged, encrypted or none of theirs.
_DAMAGE = (
    OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, OverflowError, RuntimeError, SyntaxError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


class TraceArrays(NamedTuple):
    """Of a trace: actions `[T, 7]` float64, what was said `[T]` and whether the success rule held `[T]`."""

    actions: npt.NDArray[np.float64]
    said: npt.NDArray[np.str_]
    success: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Segment:
    """Consecutive steps in which the policy said the same motion and the robot did the same motion."""

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
        segments: the motion said and the motion done, step by step; empty without a trace.
        error: traceback of an episode that ended without a score.
        note: why there are no segments although there is a trace, or "".
    """

    run: str
    suite: str
    task: str
    result: EpisodeResult
    outcome: str
    rank: int
    film: str
    segments: tuple[Segment, ...]
    error: str
    note: str = ""

    @property
    def seconds(self) -> float:
        """Wall seconds of the episode."""
        parts = self.result.seconds
        return parts.physics + parts.render + parts.policy + parts.reset

    @property
    def agreement(self) -> str:
        """In how many steps the motion said is the motion done, in words; empty if nothing was said."""
        lengths = [(segment.last - segment.first + 1, segment) for segment in self.segments if segment.said]
        same = sum(length for length, segment in lengths if segment.said == segment.done)
        return f"{same} of {sum(length for length, _ in lengths)} steps" if lengths else ""

    @property
    def detailed(self) -> bool:
        """Whether there is more to show than its row."""
        return bool(self.film or self.segments or self.error or self.note)


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


def episodes_of(run: Run, label: str, films: Films, folder: Path, labeller: Labeller) -> Iterator[EpisodeView]:
    """Yield the episodes of a run, failures first; a trace that does not read leaves a note in its place.

    Args:
        run: the run.
        label: how the report calls it.
        films: embeds or links videos.
        folder: where the report will lie.
        labeller: says what was done.
    """
    names = labels_of(run)
    scale = _scale(run)
    for result in sorted(run.results, key=lambda r: (_rank(r), r.task, r.initial_state, r.seed)):
        detailed = _rank(result) < 2
        found, note = _segments_of(run, result, scale, labeller)
        yield EpisodeView(
            run=label,
            suite=result.suite,
            task=names.get(result.task, f"{result.task} (not in run.json)"),
            result=result,
            outcome=_WORDS.get(result.status.value, result.status.value),
            rank=_rank(result),
            film=films.uri(run.path / VIDEOS / f"{result.episode_id}.mp4", folder) if detailed else "",
            segments=found,
            error=result.error or "",
            note=note,
        )


def _segments_of(
    run: Run, result: EpisodeResult, scale: _Scale | None, labeller: Labeller
) -> tuple[tuple[Segment, ...], str]:
    """Return the segments of an episode, or none and the reason."""
    file = _trace_file(run, result)
    if not file.exists():
        return (), ""
    try:
        trace = read_trace(file)
    except RecordError as error:
        return (), str(error)
    if scale is None:
        return (), f"{HEADER} does not say what opens the gripper: {TRACES} are not shown."
    return tuple(segments(trace, *scale, labeller)), ""


def segments(
    trace: TraceArrays, space: ActionSpace, statistics: ActionStatistics, labeller: Labeller
) -> Iterator[Segment]:
    """Yield the motion said and the motion done, with consecutive equal steps in one segment.

    What was done is what the labeller reads in the actions that ran, scaled by the run's own actions.
    """
    if not len(trace.actions):
        return
    labels = labeller.label(_gripper_as_level(trace.actions, space), statistics)
    done = [describe(motion) for motion in labels]
    steps = zip(map(str, trace.said), done, map(bool, trace.success), strict=True)
    at = 0
    for (said, moved, success), group in itertools.groupby(steps):
        length = len(list(group))
        yield Segment(at, at + length - 1, said, moved, success)
        at += length


def _gripper_as_level(actions: npt.NDArray[np.float64], space: ActionSpace) -> npt.NDArray[np.float64]:
    return np.column_stack([actions[:, :6], gripper_level(space, actions[:, 6])])


def read_trace(file: Path) -> TraceArrays:
    """Read what a report shows of a trace.

    Raises:
        RecordError: it is cut, damaged, or of another layout.
    """
    try:
        with file.open("rb") as stream, np.load(stream) as stored:
            said = "motion" if "motion" in stored else "said"  # as older traces call it
            actions, said, success = (stored[name] for name in ("actions", said, "success"))
        if not len(actions):
            actions = np.zeros((0, 7))
        if (actions.ndim, actions.shape[1:]) != (2, (7,)) or not said.shape == success.shape == (len(actions),):
            raise ValueError(f"the shapes are {actions.shape}, {said.shape} and {success.shape}")
        if actions.dtype.kind not in "fiu" or not np.isfinite(actions).all():
            raise ValueError("the actions are not all finite numbers")
    except _DAMAGE as error:
        raise RecordError(f"The trace {file} does not read: {error or type(error).__name__}.") from error
    return TraceArrays(actions.astype(np.float64), said, success)


def _scale(run: Run) -> _Scale | None:
    """Return what a run's actions mean, and their statistics in all traces that read; None if nobody says the first."""
    space = action_space_of(run.header)
    if space is None or space.gripper_open == space.gripper_closed:
        return None
    actions = []
    for file in (_trace_file(run, result) for result in run.results):
        with contextlib.suppress(RecordError):
            if file.exists() and len(found := read_trace(file).actions):
                actions.append(_gripper_as_level(found, space))
    return space, statistics_of(run.header.suite["name"], actions or [np.zeros((1, 7))])


def _trace_file(run: Run, result: EpisodeResult) -> Path:
    return run.path / TRACES / f"{result.episode_id}.npz"


def _rank(result: EpisodeResult) -> int:
    if not result.status.scored:
        return 1
    return 2 if result.status.value == "success" else 0

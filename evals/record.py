"""The run folder: the log is the truth, and every number is computed from it.

A folder holds `run.json` (what was run and how), `episodes.jsonl` (one line an attempt, appended and flushed when it
ends), and optionally `traces/<episode>.npz` and `videos/<episode>.mp4`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from evals.errors import RecordError, RunFolderError
from evals.rollout import Trace
from evals.types import EpisodeResult, Suite

FORMAT = 1
HEADER, EPISODES, LOCK = "run.json", "episodes.jsonl", ".lock"


@dataclass(frozen=True)
class Header:
    """The content of `run.json`.

    Attributes:
        config: what decides an episode's outcome besides its identity; a resumed run must have the same.
        protocol: the suite's protocol as data, and `protocol_hash` its hash.
        suite: name and tasks, so that a record reads without the plugin.
        conditions: what tables group by (size, init, pretrain_target, motion, method); free text.
        sessions: one entry a start of the run: provenance, command, plan.
    """

    config: Mapping[str, Any]
    protocol: Mapping[str, Any]
    protocol_hash: str
    suite: Mapping[str, Any]
    conditions: Mapping[str, str] = field(default_factory=dict)
    sessions: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, suite: Suite, config: Mapping[str, Any], conditions: Mapping[str, str]) -> Header:
        """Build the header of a new run."""
        described = {"name": suite.name, "tasks": [asdict(task) for task in suite.tasks]}
        return cls(config, asdict(suite.protocol), suite.protocol.hash, described, dict(conditions))


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Attributes:
        results: one result an episode: the scored one where there is one, otherwise the last error.
        torn: whether the last line was cut off by a crash (it is not in `results`).
    """

    path: Path
    header: Header
    results: tuple[EpisodeResult, ...]
    torn: bool = False


def read_run(path: Path) -> Run:
    """Read a run folder.

    Raises:
        RunFolderError: the folder is not a run, is of a newer format, or a line in it does not read.
    """
    header = read_header(path)
    lines, torn = _read_lines(path / EPISODES)
    best: dict[str, EpisodeResult] = {}
    for number, line in enumerate(lines, start=1):
        result = _parse_line(path / EPISODES, number, line)
        known = best.get(result.episode_id)
        if known is None or not known.status.scored:
            best[result.episode_id] = result
    return Run(path, header, tuple(best.values()), torn)


class Recorder:
    """Appends results to a run folder, which it holds alone while it is open.

    Attributes:
        done: episode id -> result, of what the folder already holds.
        repaired: whether a torn last line was cut off.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Open a folder, new or to be continued.

        Raises:
            RunFolderError: the folder holds something else, another configuration, or is open elsewhere.
            RecordError: it cannot be written.
        """
        self.path = path
        try:
            with contextlib.ExitStack() as stack:  # a folder that is refused is let go of
                path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(_lock(path))
                self._header = self._join(header)
                self.repaired = _repair(path / EPISODES)
                self.done = {result.episode_id: result for result in read_run(path).results}
                self._file: IO[bytes] = stack.enter_context((path / EPISODES).open("ab", buffering=0))
                self._open = stack.pop_all()
        except OSError as error:
            message = f"Cannot write the run folder {path}: {error.strerror}. Choose another with --out."
            raise RecordError(message) from error

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def start_session(self, session: Mapping[str, Any]) -> None:
        """Add one start of the run to `run.json`."""
        self._rewrite([*self._header.sessions, dict(session)])

    def amend_session(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the session that is running (a renderer known only once a worker has built its env)."""
        *earlier, current = self._header.sessions
        if any(current.get(key) != value for key, value in facts.items()):
            self._rewrite([*earlier, {**current, **facts}])

    def append(self, result: EpisodeResult) -> None:
        """Write one line and flush it to the disk.

        Raises:
            RecordError: the disk is full or the folder is gone; what was recorded before stays.
        """
        line = json.dumps(result.to_json(), separators=(",", ":")).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the torn line is cut off at the next start
            os.fsync(self._file.fileno())
        except OSError as error:
            raise RecordError(
                f"Cannot append to {self.path / EPISODES}: {error.strerror}. What was recorded stays; free some space "
                "and run the same command again to continue."
            ) from error
        self.done[result.episode_id] = result

    def _join(self, header: Header) -> Header:
        if not (self.path / HEADER).exists():
            foreign = sorted(entry.name for entry in self.path.iterdir() if entry.name != LOCK)
            if foreign:
                raise RunFolderError(
                    f"{self.path} is no run folder and is not empty (it holds {foreign[0]!r}). Choose another: --out."
                )
            _write_header(self.path, header)
            return header
        old = read_header(self.path)
        changes = _changes(old, header)
        if changes:
            lines = "\n".join(f"  - {line}" for line in changes)
            raise RunFolderError(
                f"{self.path} holds a run with another configuration:\n{lines}\n"
                "Choose another folder with --out, or run the recorded configuration to continue it."
            )
        return old

    def _rewrite(self, sessions: list[Mapping[str, Any]]) -> None:
        header = self._header
        self._header = Header(
            header.config, header.protocol, header.protocol_hash, header.suite, header.conditions, sessions
        )
        _write_header(self.path, self._header)


def save_trace(path: Path, trace: Trace) -> None:
    """Write a trace as a compressed npz, its lists stacked; equal traces give equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        actions=np.asarray(trace.actions),
        said=np.asarray(trace.said),
        asked=np.asarray(trace.asked),
        states=np.asarray(trace.states),
        success=np.asarray(trace.success),
        physics=np.asarray(trace.physics),
    )
    partial.replace(path)


def _lock(path: Path) -> IO[bytes]:
    file = (path / LOCK).open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise RunFolderError(f"{path} is being written by another process. Wait for it, or choose --out.") from error
    return file


def read_header(path: Path) -> Header:
    """Read `run.json` alone.

    Raises:
        RunFolderError: the folder is not a run, or of a newer format.
    """
    file = path / HEADER
    if not file.is_file():
        raise RunFolderError(f"{path} is no run folder: it has no {HEADER}.")
    try:
        data = json.loads(file.read_text())
        version = data.pop("format")
        if version > FORMAT:
            raise RunFolderError(
                f"{file} has format {version}; this version reads up to {FORMAT}. Upgrade motion-vla to read it."
            )
        return Header(**data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{file} does not read as a run header: {error}.") from error


def _write_header(path: Path, header: Header) -> None:
    partial = path / (HEADER + ".partial")
    partial.write_text(json.dumps({"format": FORMAT, **asdict(header)}, indent=1) + "\n")
    partial.replace(path / HEADER)


def _changes(old: Header, new: Header) -> list[str]:
    lines = []
    for kind, a, b in (("", old.config, new.config), ("condition ", old.conditions, new.conditions)):
        for name in sorted({*a, *b}):
            if a.get(name) != b.get(name):
                lines.append(f"{kind}{name}: recorded {a.get(name)!r}, asked for {b.get(name)!r}")
    fresh = json.loads(json.dumps(new.protocol))
    for name in sorted({*old.protocol, *fresh}):
        if old.protocol.get(name) != fresh.get(name):
            lines.append(f"protocol {name}: recorded {old.protocol.get(name)!r}, asked for {fresh.get(name)!r}")
    return lines


def _read_lines(file: Path) -> tuple[list[bytes], bool]:
    if not file.exists():
        return [], False
    *lines, rest = file.read_bytes().split(b"\n")
    return lines, bool(rest)


def _parse_line(file: Path, number: int, line: bytes) -> EpisodeResult:
    try:
        return EpisodeResult.from_json(json.loads(line))
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{file}, line {number}, does not read as an episode: {error}.") from error


def _repair(file: Path) -> bool:
    """Cut off a last line without its newline: the writer was killed inside it, and its episode will run again."""
    if not file.exists():
        return False
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return False
    with file.open("r+b") as stream:
        stream.truncate(whole)
    return True

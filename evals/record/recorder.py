"""The run folder: the log is the truth, and every number is computed from it.

A folder holds `run.json` (what was run and how), `episodes.jsonl` (one line an attempt, appended and flushed when it
ends), and optionally `traces/<episode>.npz` and `videos/<episode>.mp4`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from evals.errors import RecordError, RunFolderError
from evals.provenance import changes_between, packages, revision
from evals.record.files import is_plain, read_whole
from evals.record.folder import LOCK, refuse_foreign, write_back
from evals.record.header import CONDITIONS, EPISODES, FORMAT, HEADER, Header, changes, read_header, write_header
from evals.record.lines import conflicts, read_lines, split_lines
from evals.record.lock import hold
from evals.rollout import Trace
from evals.types import EpisodeResult

__all__ = [
    "CONDITIONS", "EPISODES", "FORMAT", "HEADER", "Header", "Recorder", "Run", "packages", "read_header", "read_run",
    "revision", "save_trace",
]  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Attributes:
        results: one result an episode: the scored one where there is one, otherwise the last error.
        torn: whether the last line was cut off by a crash (it is not in `results`).
        remarks: what a reader of its numbers should know: episodes with two scores, starts by other versions.
    """

    path: Path
    header: Header
    results: tuple[EpisodeResult, ...]
    torn: bool = False
    remarks: tuple[str, ...] = ()


def read_run(path: str | Path) -> Run:
    """Read a run folder.

    Raises:
        RunFolderError: the folder is not a run, is of a newer format, or a line in it does not read or is of another
            run.
    """
    path = Path(path)
    header = read_header(path)
    lines, torn = read_lines(path, header)
    best: dict[str, EpisodeResult] = {}
    for result in lines:
        known = best.get(result.episode_id)
        if known is None or not known.status.scored:
            best[result.episode_id] = result
    remarks = (*conflicts(lines), *changes_between(header.sessions))
    return Run(path, header, tuple(best.values()), torn, remarks)


class Recorder:
    """Appends results to a run folder, which it holds alone while it is open.

    Attributes:
        path: the folder, absolute: a policy may change the working directory.
        done: episode id -> result, of what the folder already holds.
        remarks: those of `Run`, when it was opened.
        repaired: whether a torn last line was cut off.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Open a folder, new or to be continued.

        Raises:
            RunFolderError: the folder holds something else, another configuration, or is open elsewhere.
            RecordError: it cannot be written.
        """
        self.path = path.absolute()
        self._trusted = True  # False once the record is known to be damaged: it is not looked at again
        try:
            with contextlib.ExitStack() as stack:  # a folder that is refused is let go of
                self.path.mkdir(parents=True, exist_ok=True)
                refuse_foreign(self.path)
                stack.enter_context(hold(self.path / LOCK))
                self._file = stack.enter_context(hold(self.path / EPISODES))
                self._header = self._join(header)
                run = read_run(self.path)
                self.repaired = self._repair()
                self._open = stack.pop_all()
        except OSError as error:
            message = f"Cannot write the run folder {path}: {error.strerror}. Choose another with --out."
            raise RecordError(message) from error
        self.done = {result.episode_id: result for result in run.results}
        self.remarks = run.remarks

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._trusted:
                self._require_intact()
        finally:
            self._open.close()

    @property
    def header(self) -> Header:
        """What `run.json` holds."""
        return self._header

    def start_session(self, session: Mapping[str, Any]) -> None:
        """Add one start of the run to `run.json`.

        Raises:
            RecordError: it cannot be written; what was recorded stays.
        """
        self._rewrite([*self._header.sessions, dict(session)])

    def amend_session(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the session that is running (a renderer known only once a worker has built its env).

        Raises:
            RecordError: they cannot be written; what was recorded stays.
        """
        *earlier, current = self._header.sessions
        if any(current.get(key) != value for key, value in facts.items()):
            self._rewrite([*earlier, {**current, **facts}])

    def append(self, result: EpisodeResult) -> None:
        """Write one line and flush it to the disk.

        Raises:
            RecordError: the disk is full, or something else has changed the record; what was recorded stays.
        """
        line = json.dumps(result.to_json(), separators=(",", ":")).encode() + b"\n"
        self._require_intact(line)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            self._trusted = False
            with contextlib.suppress(OSError):  # otherwise the torn line is cut off at the next start
                os.ftruncate(self._file.fileno(), len(self._content))
            raise self._unwritten(f"append to {self.path / EPISODES}", error) from error
        self._content += line
        self.done[result.episode_id] = result

    def results(self) -> tuple[EpisodeResult, ...]:
        """Return what the folder holds, read back from the disk: the numbers of a run come from its record.

        Raises:
            RecordError: it is not what was recorded; what was recorded is written back.
        """
        self._require_intact()
        try:
            run = read_run(self.path)
            if read_whole(self.path / EPISODES) != self._content:
                raise RunFolderError(f"{self.path / EPISODES} was changed.")
        except RunFolderError as error:
            raise self._restored() from error
        return run.results

    def _join(self, header: Header) -> Header:
        if not is_plain(self.path / HEADER):
            write_header(self.path, header)
            return header
        old = read_header(self.path)
        differing = changes(old, header)
        if differing:
            lines = "\n".join(f"  - {line}" for line in differing)
            raise RunFolderError(
                f"{self.path} holds a run with another configuration:\n{lines}\n"
                "Choose another folder with --out, or run the recorded configuration to continue it."
            )
        # A record of format 1 lacks the spaces; every other has the same.
        return replace(old, action_space=header.action_space, state_space=header.state_space)

    def _repair(self) -> bool:
        """Cut off a last line that is not whole: its writer was killed inside it, and its episode will run again."""
        content = read_whole(self.path / EPISODES)
        _, torn = split_lines(content)
        if torn:
            content = content[: -len(torn)]
            os.ftruncate(self._file.fileno(), len(content))
        elif content and not content.endswith(b"\n"):
            content += b"\n"
            self._file.write(b"\n")
        self._content = bytearray(content)
        return bool(torn)

    def _rewrite(self, sessions: list[Mapping[str, Any]]) -> None:
        header = replace(self._header, sessions=sessions)
        try:
            write_header(self.path, header)
        except OSError as error:
            raise self._unwritten(f"write {self.path / HEADER}", error) from error
        self._header = header

    def _unwritten(self, what: str, error: OSError) -> RecordError:
        return RecordError(
            f"Cannot {what}: {error.strerror}. What was recorded stays; free some space and run the "
            "same command again to continue."
        )

    def _require_intact(self, line: bytes = b"") -> None:
        """Check that the record is still the file that this run writes.

        Args:
            line: what is about to be appended, so that it is written back with the rest.

        Raises:
            RecordError: it was removed, replaced or changed; what was recorded is written back.
        """
        file = self.path / EPISODES
        with contextlib.suppress(OSError, RunFolderError):
            there, held = file.stat(), os.fstat(self._file.fileno())
            if (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
                self._hold_again(file)
                there = file.stat()
            if there.st_size == len(self._content) and is_plain(self.path / HEADER):
                return
        self._content += line
        raise self._restored()

    def _hold_again(self, file: Path) -> None:
        """Go on with a file that took the place of ours and holds the same; some file systems number files anew."""
        if read_whole(file) == self._content:
            fresh = self._open.enter_context(hold(file))
            self._file.close()
            self._file = fresh
        else:
            raise RunFolderError(f"{file} is another file.")

    def _restored(self) -> RecordError:
        """Write everything that was recorded back from memory, over nothing that is not ours; return what to say."""
        self._trusted = False
        file = self.path / EPISODES
        said = f"{self.path} was removed or changed by something else while this run was writing it."
        try:
            kept = write_back(self.path, self._content, self._header)
        except OSError:
            kept = write_back(Path(tempfile.mkdtemp(prefix="vla-eval-")), self._content, self._header)
        if kept == file:
            return RecordError(f"{said} All that was recorded is written back; the same command continues.")
        return RecordError(
            f"{said} All that was recorded is in {kept}. To continue, put that file in the place of {file}, then give "
            "the same command."
        )


def save_trace(path: Path, trace: Trace) -> None:
    """Write a trace as a compressed npz, its lists stacked; equal traces give equal files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        actions=np.asarray(trace.actions),
        motion=np.asarray(trace.motion),
        query_step=np.asarray(trace.query_step),
        states=np.asarray(trace.states),
        success=np.asarray(trace.success),
        sim_state=np.asarray(trace.sim_state),
    )
    partial.replace(path)

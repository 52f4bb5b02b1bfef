"""The lines of `episodes.jsonl`: each is read, and compared with the run that it claims to belong to."""

from __future__ import annotations

import json
from pathlib import Path

from evals.errors import RunFolderError
from evals.record.files import read_whole
from evals.record.header import EPISODES, Header
from evals.types import Episode, EpisodeResult

_WAY_OUT = "Delete that line and give the same command: its episode runs again. Or restore the file from a copy."


def split_lines(content: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole lines of a record, and what was written of a last one when its writer was killed.

    A last line that is whole but for its newline counts: an editor may have taken the newline away. One that no
    killed writer can have left (other line ends, another encoding) counts too, so that it is refused and not cut off.
    """
    *lines, rest = content.split(b"\n")
    written = rest.rstrip(b"\0")  # a file that grew before a power cut ends in zeros
    if not rest or (written and (written[:1] != b"{" or min(written) < ord(" "))):
        return [*lines, *filter(None, [rest])], b""
    try:
        json.loads(written)
    except (ValueError, RecursionError):
        return lines, rest
    return ([*lines, rest], b"") if written == rest else (lines, rest)


def read_lines(path: Path, header: Header) -> tuple[list[EpisodeResult], bool]:
    """Return every line of a run folder's record, and whether the last one was cut off (it is left out).

    Raises:
        RunFolderError: a line does not read, or is of another run.
    """
    file = path / EPISODES
    lines, torn = split_lines(read_whole(file))
    results = []
    for number, line in enumerate(lines, start=1):
        try:
            result = EpisodeResult.from_json(json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            raise RunFolderError(f"{file}, line {number}, does not read as an episode: {error}. {_WAY_OUT}") from error
        foreign = _foreign(result, header)
        if foreign:
            raise RunFolderError(f"{file}, line {number}, is not of this run: {foreign}. {_WAY_OUT}")
        results.append(result)
    return results, bool(torn)


def _foreign(result: EpisodeResult, header: Header) -> str:
    """Return what of a line contradicts the header or itself, or ""."""
    belongs = {
        "suite": header.suite["name"],
        "protocol_hash": header.protocol_hash,
        "seed": header.config.get("seed", result.seed),
    }
    for name, expected in belongs.items():
        if getattr(result, name) != expected:
            return f"its {name} is {getattr(result, name)!r}, the run's is {expected!r}"
    episode = Episode(result.suite, result.task, result.initial_state, result.seed, result.protocol_hash)
    if result.episode_id != episode.id:
        return (
            f"its episode_id is {result.episode_id!r}, that of task {result.task}, initial state "
            f"{result.initial_state}, seed {result.seed} is {episode.id!r}"
        )
    return ""


def conflicts(results: list[EpisodeResult]) -> list[str]:
    """Return a sentence for each episode that has two different scores; the first one counts."""
    first: dict[str, EpisodeResult] = {}
    said: dict[str, str] = {}
    for result in results:
        if not result.status.scored:
            continue
        known = first.setdefault(result.episode_id, result)
        if _outcome(known) != _outcome(result):
            said[result.episode_id] = (
                f"Task {result.task}, initial state {result.initial_state} has two different scores: {known.status} "
                f"({known.steps} steps), which counts, and {result.status} ({result.steps} steps)."
            )
    return list(said.values())


def _outcome(result: EpisodeResult) -> tuple[object, ...]:
    return (result.status, result.success_first, result.steps, result.trajectory_hash, result.scene_hash)

"""`run.json`: what a run folder holds the episodes of, and how each start of the run went about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evals.errors import RunFolderError
from evals.record.files import is_plain, read_whole, write_whole
from evals.types import Suite, Task

FORMAT = 1
HEADER, EPISODES = "run.json", "episodes.jsonl"
CONDITIONS = ("size", "init", "pretrain_target", "motion", "method")


@dataclass(frozen=True)
class Header:
    """The content of `run.json`.

    Attributes:
        config: what decides an episode's outcome besides its identity; a resumed run must have the same.
        protocol: the suite's protocol as data, and `protocol_hash` its hash.
        suite: name and tasks, so that a record reads without the plugin.
        conditions: what tables group by, the keys of `CONDITIONS`; free text.
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


def read_header(path: Path) -> Header:
    """Read `run.json` alone.

    Raises:
        RunFolderError: the folder is not a run, or of a newer format, or its header is damaged.
    """
    file = path / HEADER
    if not is_plain(file):
        raise RunFolderError(f"{path} is no run folder: it has no {HEADER}.")
    try:
        data = json.loads(read_whole(file))
        version = data.pop("format")
        if version > FORMAT:
            raise RunFolderError(
                f"{file} has format {version}; this version reads up to {FORMAT}. Upgrade motion-vla to read it."
            )
        header = Header(**data)
        _check(header)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise RunFolderError(
            f"{file} does not read as a run header: {what}. Every episode is still in {EPISODES} beside it. Restore "
            f"{HEADER} from a copy, or from a run of the same command in a new folder."
        ) from error
    return header


def write_header(path: Path, header: Header) -> None:
    """Write `run.json`, whole or not at all.

    Raises:
        OSError: the disk is full or read-only; what was there stays.
    """
    text = json.dumps({"format": FORMAT, **asdict(header)}, indent=1) + "\n"
    write_whole(path / HEADER, text.encode())


def changes(old: Header, new: Header) -> list[str]:
    """Return what of a recorded configuration differs from one that is asked for, one sentence each."""
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


def _check(header: Header) -> None:
    """Look at what later code takes for granted.

    Raises:
        TypeError: a field, or a part of it, is of another type than it has to be.
        KeyError: a part of a field is missing.
    """
    for name in ("config", "protocol", "suite", "conditions"):
        _require(name, getattr(header, name), dict)
    _require("protocol_hash", header.protocol_hash, str)
    _require("suite name", header.suite["name"], str)
    _require("suite tasks", header.suite["tasks"], list)
    for task in header.suite["tasks"]:
        described = Task(**_require("a task of the suite", task, dict))
        _require("the id of a task", described.id, int)
        _require("the name of a task", described.name, str)
        _require("the instruction of a task", described.instruction, str)
    for name, value in header.conditions.items():
        _require(f"condition {name}", value, str)
    for session in _require("sessions", header.sessions, list):
        _require("a session", session, dict)
        for name, kind in (("config", dict), ("planned", int), ("git", dict), ("packages", dict)):
            _require(f"{name} of a session", session.get(name, kind()), kind)
        _require("tasks of a session", session.get("config", {}).get("tasks", []), list)


def _require(what: str, value: Any, kind: type) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{what} is {type(value).__name__}, expected {kind.__name__}")
    return value

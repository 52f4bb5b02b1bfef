"""`run.json`: what a run folder holds the episodes of, and how each start of the run went about it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evals.errors import ContractError, RunFolderError, UnknownNameError
from evals.record.files import is_plain, read_whole, write_whole
from evals.registry import load_suite
from evals.spaces import ActionSpace, StateSpace
from evals.types import Suite, Task

FORMAT = 2
HEADER, EPISODES = "run.json", "episodes.jsonl"
_SPACES: Mapping[str, Any] = {"action_space": ActionSpace, "state_space": StateSpace}
# Part of a header that a run which goes on must have too -> how a sentence begins that names a difference.
_COMPARED = {
    "config": "",
    "conditions": "condition ",
    "protocol": "protocol ",
    "action_space": "action space ",
    "state_space": "state space ",
}
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
        action_space: what the numbers of its actions mean; None in records of format 1, which do not say it.
        state_space: the same for `Observation.state`.
    """

    config: Mapping[str, Any]
    protocol: Mapping[str, Any]
    protocol_hash: str
    suite: Mapping[str, Any]
    conditions: Mapping[str, str] = field(default_factory=dict)
    sessions: Sequence[Mapping[str, Any]] = ()
    action_space: ActionSpace | None = None
    state_space: StateSpace | None = None

    @classmethod
    def of(cls, suite: Suite, config: Mapping[str, Any], conditions: Mapping[str, str]) -> Header:
        """Build the header of a new run."""
        described = {"name": suite.name, "tasks": [asdict(task) for task in suite.tasks]}
        protocol, spaces = suite.protocol, (suite.action_space, suite.state_space)
        return cls(config, asdict(protocol), protocol.hash, described, dict(conditions), (), *spaces)


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
        spaces = {name: _space(name, kind, data.get(name)) for name, kind in _SPACES.items()}
        header = Header(**{**data, **spaces})
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
    recorded, asked = (json.loads(json.dumps(asdict(header))) for header in (old, new))
    for part, word in _COMPARED.items():
        a, b = recorded[part], asked[part]
        for name in sorted({*a, *b}) if a is not None else ():
            if a.get(name) != b.get(name):
                lines.append(f"{word}{name}: recorded {a.get(name)!r}, asked for {b.get(name)!r}")
    return lines


def action_space_of(header: Header) -> ActionSpace | None:
    """Return what the numbers of a run's actions mean.

    Records of format 1 do not say it: for them the installed suite does, or nobody, which is None.
    """
    if header.action_space is None:
        with contextlib.suppress(UnknownNameError, ContractError):
            return load_suite(header.suite["name"]).action_space
    return header.action_space


def _space(name: str, kind: Any, data: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a space that was written as plain data; None where a record of format 1 has none.

    Raises:
        TypeError: a field is unknown, missing, or of another type than it has to be.
    """
    if data is None:
        return None
    space = kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in _require(name, data, dict).items()})
    for key, value in vars(space).items():
        expected = kind.__dataclass_fields__[key].default
        if isinstance(expected, float) and not (type(value) in (int, float) and math.isfinite(value)):
            raise TypeError(f"{key} of {name} is {value!r}, expected a number")
        if not isinstance(expected, float) and not isinstance(value, tuple if key == "names" else str):
            raise TypeError(f"{key} of {name} is {type(value).__name__}")
    return space


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

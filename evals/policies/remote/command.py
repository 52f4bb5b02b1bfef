"""`vla-eval profile check`: what a server would be sent, with shapes and ranges, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

from evals.errors import SpaceMismatchError, UnknownNameError, UsageError
from evals.policies.remote.adapter import Adapter
from evals.policies.remote.profile import Profile, load_profile, shipped
from evals.registry import load_suite
from evals.spaces import differences
from evals.terminal.text import show
from evals.types import Episode, Observation, Suite

_USAGE = "vla-eval profile list | vla-eval profile check NAME_OR_FILE --suite SUITE"


@dataclass(frozen=True)
class CheckConfig:
    """Show what a profile sends to a server, with shapes and ranges, and how it reads the answer; no server is needed.

    Attributes:
        profile: Name of a shipped profile, or a TOML file.
        suite: Suite whose observations would be sent.
        task: Id of the task whose instruction would be sent.
        asks: Parameters that a vla-server would ask for, e.g. send_state.
    """

    profile: tyro.conf.Positional[str]
    suite: str
    task: int = 0
    asks: tuple[str, ...] = ()


def command(arguments: list[str]) -> int:
    """Run `vla-eval profile`; return the exit code."""
    action, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if action == "list" and not rest:
        for name in shipped():
            show(f"{name}: {load_profile(name).source}\n")
        return 0
    if action in ("-h", "--help", "") or (action == "list" and rest):
        show(f"usage: {_USAGE}\n", stderr=action == "")
        return 0 if action.startswith("-") else 2
    if action != "check":
        raise UnknownNameError("action of vla-eval profile", action, ["list", "check"])
    config = tyro.cli(CheckConfig, args=rest, prog="vla-eval profile check")
    suite = load_suite(config.suite)
    if config.task not in range(len(suite.tasks)):
        raise UsageError(f"--task is {config.task}; suite {suite.name} has tasks 0 to {len(suite.tasks) - 1}.")
    for line in described(config.profile, suite, config.task, config.asks):
        show(f"{line}\n")
    return 0


def described(name: str, suite: Suite, task: int, asks: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield what would be sent and read, one entry a line.

    Raises:
        UsageError: the profile does not read, or does not fit the suite.
    """
    profile = load_profile(name)
    adapter = Adapter(profile, name, suite, dict.fromkeys(asks, True))
    unlike = differences(adapter.action_space, suite.action_space)
    if unlike:
        raise SpaceMismatchError(f"{profile.wire} with profile {name}", suite.name, unlike)
    yield f"profile {name} ({profile.hash}) for suite {suite.name}, wire {profile.wire} {profile.dialect}".rstrip()
    yield f"source: {profile.source}"
    yield "request, of a made-up observation (random pictures, state -0.5 to 0.5):"
    for key, text in _entries(adapter.request(_made_up(suite, task))):
        yield f"  {key}: {text}"
    yield f"answer: {_answer(profile)}"
    yield f"asked again after {profile.replan_every} of a chunk's actions"
    if profile.note:
        yield f"note: {profile.note}"


def _made_up(suite: Suite, task: int) -> Observation:
    episode = Episode(suite.name, task, 0, 0, suite.protocol.hash)
    rng = episode.rng("made-up observation")
    pictures = {
        camera.name: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
        for camera in suite.protocol.cameras
    }
    state = rng.uniform(-0.5, 0.5, len(suite.state_space.names))
    return Observation(episode, 0, suite.tasks[task].instruction, pictures, state)


def _entries(request: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in request.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{key} > ")
        elif isinstance(value, np.ndarray):
            span = f"{value.min():.4g} to {value.max():.4g}" if value.size else "empty"
            yield f"{prefix}{key}", f"{value.dtype} {list(value.shape)}, {span}"
        else:
            yield f"{prefix}{key}", f"{value!r}"


def _answer(profile: Profile) -> str:
    actions = profile.actions
    where = " + ".join(actions.keys) or "the array itself"
    rotation = actions.rotation or "the suite's rotation"
    gripper = (
        f"gripper {actions.gripper_open:g} open, {actions.gripper_closed:g} closed, whichever is nearer"
        if actions.gripper == "nearest"
        else "gripper as it is"
    )
    return f"{where} as [K, {actions.width}]: 3 {actions.translation} translation, 3 {rotation}, {gripper}"

"""The wire of PyPI's `vla-eval` (allenai): WebSocket, msgpack messages with a type, chunks kept by the server.

Source: vla-eval 0.8.0, `vla_eval/protocol/messages.py`, `model_servers/serve.py`, `specs.py`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evals.errors import ServerError, UsageError
from evals.policies.remote.link import LARGEST_REPLY, Address, LostError, Reply
from evals.policies.remote.profile import Profile
from evals.policies.remote.websocket import WebSocket, shown
from evals.serving.motion_vla_serve import WireError, decode, encode
from evals.spaces import RotationFormat
from evals.types import Episode, Task

PROTOCOL_VERSION = 1
RAW = "raw"  # declares nothing that could be compared
# Entry that a server declares -> parameter by which it would ask for it.
_ASKED_BY_SPEC = {"wrist": "send_wrist_image", "state": "send_state"}
# Parameters that change what actions mean, and the values that leave it alone.
_MEANING: Mapping[str, tuple[object, ...]] = {
    "absolute_action": (False, None),
    "control_mode": (None, ""),
    "gripper_mode": ("binary", None),
    "send_video_history": (False, None),
}
_ROTATIONS: Mapping[str, RotationFormat] = {"axis_angle": "axis_angle", "euler_xyz": "euler_xyz"}
# Format of a gripper -> its numbers for open and closed.
_GRIPPERS = {
    "binary_close_positive": (-1.0, 1.0),
    "binary_close_negative": (1.0, -1.0),
    "binary_close_01": (0.0, 1.0),
}


class VlaServerLink:
    """A connection to a model server of PyPI's `vla-eval`.

    Args:
        address: where it is.
        version: ours, for the greeting.
    """

    def __init__(self, address: Address, version: str) -> None:
        self._address, self._version = address, version
        self._socket = WebSocket(address)
        self._numbers = itertools.count(1)

    def connect(self) -> Mapping[str, Any]:
        """Connect and greet; return the server's greeting."""
        self._socket.open()
        number, _ = self._send("hello", {"harness_version": self._version, "protocol_version": PROTOCOL_VERSION})
        greeting = self._answer("hello", number, self._address.seconds)[0]
        if greeting.get("protocol_version", PROTOCOL_VERSION) != PROTOCOL_VERSION:
            raise ServerError(
                f"The server {self._address.url} speaks version {greeting['protocol_version']} of its protocol; "
                f"{PROTOCOL_VERSION} is spoken here."
            )
        return greeting

    def alive(self) -> bool:
        """Whether the connection stands."""
        return self._socket.is_open

    def begin(self, episode: Episode, task: Task) -> None:
        """Announce an episode, which empties the server's chunk; it does not answer."""
        identity = {"seed": episode.seed, "protocol_hash": episode.protocol_hash}
        described = {"name": task.name, "suite": episode.suite, "task_id": task.id, **identity}
        self._send("episode_start", {"task": {**described, "episode_idx": episode.initial_state}})

    def infer(self, request: dict[str, Any], seconds: float) -> Reply:
        """Send an observation and return the answer."""
        number, sent = self._send("observation", request)
        payload, received = self._answer("action", number, seconds)
        return Reply(payload, sent, received)

    def end(self) -> None:
        """Announce the end; metrics stay here."""
        try:
            self._send("episode_end", {"metrics": {}})
        except LostError:
            self.close()

    def close(self) -> None:
        """Give the connection up."""
        self._socket.close()

    def _send(self, kind: str, payload: dict[str, Any]) -> tuple[int, int]:
        number = next(self._numbers)
        envelope = {"type": kind, "payload": payload, "seq": number, "timestamp": time.time()}
        message = encode(envelope, markers="vla-server")
        self._socket.send(message)
        return number, len(message)

    def _answer(self, kind: str, number: int, seconds: float) -> tuple[Mapping[str, Any], int]:
        """Wait for the answer to a message; return its payload and its length."""
        frame = self._socket.receive(seconds)
        url = self._address.url
        try:
            message = decode(frame, LARGEST_REPLY) if isinstance(frame, bytes) else frame
        except WireError as error:
            self.close()
            raise LostError(f"The server {url} sent what is no message of this wire: {error}") from error
        payload = message.get("payload") if isinstance(message, Mapping) else None
        if not isinstance(message, Mapping) or not isinstance(payload, Mapping):
            self.close()
            raise LostError(f"The server {url} sent what is no message of this wire: {shown(str(message)[:200])}")
        if message.get("type") == "error":
            self.close()  # an episode's start is not acknowledged: the error may be its, and its answer may follow
            raise LostError(f"The server {url} reports an error: {shown(str(payload.get('error', payload)))}")
        if message.get("type") != kind or message.get("seq") != number:
            self.close()
            got = f"{message.get('type')!r} number {message.get('seq')}"
            raise LostError(f"The server {url} sent {got}, expected {kind!r} number {number}.")
        return payload, len(frame)


def asked_for(greeting: Mapping[str, Any], profile: Profile) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters that a server asks for, and what a user should hear of those that are not fulfilled.

    Raises:
        UsageError: it asks for actions or observations of another meaning.
    """
    parameters, expected = (_table(greeting, name) for name in ("observation_params", "observation_spec"))
    asked = dict(parameters) | {_ASKED_BY_SPEC[name]: True for name in expected if name in _ASKED_BY_SPEC}
    remarks = []
    for name, value in parameters.items():
        if name in _MEANING and value not in _MEANING[name]:
            raise UsageError(
                f"The server asks for {name}={value!r}, which no suite here does: serve another checkpoint."
            )
        if name not in profile.honours and name not in _MEANING:
            remarks.append(f"the server asks for {name}={value!r}, which is not done: the suite's protocol stands")
    return asked, remarks


def as_declared(greeting: Mapping[str, Any], profile: Profile, name: str) -> Profile:
    """Return the profile with what the server declares of its actions.

    Raises:
        UsageError: it declares what the profile does not accept, or expects what it does not supply.
    """
    unlike = [*_unlike_actions(greeting, profile), *_unlike_observations(greeting, profile)]
    if unlike:
        lines = "\n".join(f"  - {line}" for line in unlike)
        raise UsageError(f"The server and profile {name} do not speak the same numbers:\n{lines}")
    if not profile.follows_declared:
        return profile
    spec, actions = _table(greeting, "action_spec"), profile.actions
    rotation, gripper = _format(spec.get("rotation")), _format(spec.get("gripper"))
    if rotation in _ROTATIONS:
        actions = replace(actions, rotation=_ROTATIONS[rotation])
    if gripper in _GRIPPERS:
        opened, closed = _GRIPPERS[gripper]
        actions = replace(actions, gripper="nearest", gripper_open=opened, gripper_closed=closed)
    return replace(profile, actions=actions)


def _unlike_actions(greeting: Mapping[str, Any], profile: Profile) -> list[str]:
    lines = list[str]()
    if not profile.accepts:
        return lines
    for part, spec in _table(greeting, "action_spec").items():
        known, given = profile.accepts.get(part), _format(spec)
        if given == RAW:
            continue
        if known is None:
            lines.append(f"action {part!r}: the server declares {given!r}, the profile knows no such part")
        elif given not in known:
            lines.append(f"action {part!r}: the server declares {given!r}, the profile accepts {', '.join(known)}")
    return lines


def _unlike_observations(greeting: Mapping[str, Any], profile: Profile) -> list[str]:
    lines = list[str]()
    if not profile.supplies:
        return lines
    for entry, spec in _table(greeting, "observation_spec").items():
        supplied, given = profile.supplies.get(entry), _format(spec)
        accepted = spec.get("accepts") or [given] if isinstance(spec, Mapping) else [given]
        if supplied is None and given != RAW:
            lines.append(f"observation {entry!r}: the server expects {given!r}, the profile sends none")
        elif supplied is not None and given != RAW and supplied not in accepted:
            lines.append(f"observation {entry!r}: the server expects {given!r}, the profile sends {supplied!r}")
    return lines


def _table(greeting: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = greeting.get(name) or {}
    if not isinstance(found, Mapping):
        raise ServerError(f"The server's greeting has {name} {found!r:.100}, expected a map.")
    return found


def _format(spec: object) -> str:
    return str(spec.get("format", RAW)) if isinstance(spec, Mapping) else RAW

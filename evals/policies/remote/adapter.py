"""Between a suite and a server: observations become requests and answers become actions, as a profile says."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from evals import rotations
from evals.errors import ServerError, UsageError
from evals.policies.remote.ensemble import blended
from evals.policies.remote.images import prepared
from evals.policies.remote.profile import ALL, ImageItem, Profile, StateItem
from evals.policies.remote.state import numbers, readings
from evals.spaces import ActionSpace, gripper_command
from evals.types import FloatArray, Observation, Suite

Request = dict[str, Any]
_CONVERTED = ("axis_angle", "euler_xyz")


class Adapter:
    """Builds requests from observations of a suite, and reads answers.

    Attributes:
        cameras: those of the pictures that are sent.
        action_space: what the actions that it returns mean.
        reads_state: whether the suite's state is sent.
        ensemble: number of an episode's last chunks that `actions` needs.

    Args:
        profile: what is sent and read.
        name: how errors call the profile.
        suite: the suite.
        asked: what the server asked for when it was greeted.
    """

    def __init__(self, profile: Profile, name: str, suite: Suite, asked: Mapping[str, Any] | None = None) -> None:
        """Choose what will be sent.

        Raises:
            UsageError: the suite lacks a camera or a number that the profile names.
        """
        self._profile, self._name, self._suite, self._asked = profile, name, suite, asked or {}
        self._images = [item for item in profile.image if self._sent(item.when)]
        self._state = [
            item for item in profile.state if self._sent(item.when) and not (item.unless and self._asks(item.unless))
        ]
        self.ensemble = profile.actions.ensemble
        self.cameras = tuple(dict.fromkeys(camera for item in self._images for camera in self._cameras(item)))
        self.action_space = _action_space(profile, suite)
        self.reads_state = bool(self._state)
        self._require_values()

    def request(self, observation: Observation) -> Request:
        """Return what a server is asked about an observation, with arrays."""
        request: Request = {}
        for image in self._images:
            _put_images(request, image, self._cameras(image), observation)
        if self._state:
            found = readings(observation.state, self._suite.state_space, self._profile.fingers)
        for item in self._state:
            _put(request, item.key, numbers(item, found, self._suite.state_space))
        self._put_words(request, observation)
        return request

    def actions(self, answer: Any, earlier: deque[FloatArray] | None = None) -> FloatArray:  # noqa: ANN401
        """Return the chunk `[K, 7]` of an answer in the suite's numbers.

        Args:
            answer: what the server said.
            earlier: the episode's last chunks, which the profile's ensemble needs; the new one is added.

        Raises:
            ServerError: the answer lacks an entry, or is no array of finite numbers of the right shape.
        """
        chunk = self._columns(answer)[:, : ActionSpace.dim].copy()
        wanted, given = self._suite.action_space, self._profile.actions
        if given.ensemble and earlier is not None:
            earlier.append(chunk)
            chunk = blended(earlier, given.ensemble_weight)
        if given.rotation not in (None, wanted.rotation) and self.action_space.rotation == wanted.rotation:
            chunk[:, 3:6] = [_CONVERT[wanted.rotation](row) for row in chunk[:, 3:6]]
        if given.gripper == "nearest" and given.gripper_open is not None and given.gripper_closed is not None:
            levels = (chunk[:, 6] - given.gripper_closed) / (given.gripper_open - given.gripper_closed)
            chunk[:, 6] = gripper_command(wanted, levels)
        return chunk

    def _columns(self, answer: Any) -> FloatArray:  # noqa: ANN401 - what the server said
        keys, width = self._profile.actions.keys, self._profile.actions.width
        if not keys or (isinstance(answer, np.ndarray) and len(keys) == 1):
            parts = [("the answer", answer)]
        elif not isinstance(answer, Mapping):
            raise ServerError(f"The server answered {_described(answer)}, expected a map with {', '.join(keys)}.")
        else:
            lacking = [key for key in keys if key not in answer]
            if lacking:
                raise ServerError(
                    f"The server's answer lacks {', '.join(map(repr, lacking))}; it holds "
                    f"{', '.join(map(repr, answer)) or 'nothing'}. Profile {self._name} says what is read: [actions]."
                )
            parts = [(f"{key!r} of the answer", answer[key]) for key in keys]
        columns = [_matrix(what, part, len(parts) > 1) for what, part in parts]
        if len({len(column) for column in columns}) > 1:
            raise ServerError(
                f"The server's answer has parts of {[len(c) for c in columns]} actions, expected as many."
            )
        joined = np.concatenate(columns, axis=1)
        if joined.shape[1] != width:
            raise ServerError(
                f"The server answered actions {list(joined.shape)}, expected [K, {width}]. Another width is another "
                f"robot, or padding: profile {self._name} declares `width` under [actions]."
            )
        if not np.isfinite(joined).all():
            row, column = np.argwhere(~np.isfinite(joined))[0]
            raise ServerError(f"The server answered {joined[row, column]} as number {column} of action {row}.")
        return joined

    def _put_words(self, request: Request, observation: Observation) -> None:
        profile, episode = self._profile, observation.episode
        if profile.instruction is not None:
            text: Any = observation.instruction.lower() if profile.instruction.lower else observation.instruction
            for _ in range(profile.instruction.axes):
                text = [text]
            _put(request, profile.instruction.key, text)
        for key, value in profile.constants.items():
            _put(request, (key,), value)
        if profile.identity_key:
            _put(request, (profile.identity_key,), {"episode": asdict(episode), "step": observation.step})
        if profile.seed_key:
            _put(request, (profile.seed_key,), episode.rng_seed(f"remote policy, step {observation.step}") >> 1)

    def _cameras(self, item: ImageItem) -> tuple[str, ...]:
        known = tuple(camera.name for camera in self._suite.protocol.cameras)
        return known if item.camera == ALL else (item.camera,)

    def _sent(self, when: tuple[str, ...]) -> bool:
        return all(map(self._asks, when))

    def _asks(self, parameter: str) -> bool:
        return bool(self._asked.get(parameter))

    def _require_values(self) -> None:
        known = [camera.name for camera in self._suite.protocol.cameras]
        for name in self.cameras:
            if name not in known:
                raise UsageError(
                    f"Profile {self._name} sends camera {name!r}, which suite {self._suite.name!r} lacks; it has "
                    f"{known}. Choose another profile, or copy it and change the [[image]]."
                )
        space = self._suite.state_space
        offered = readings(np.zeros(len(space.names)), space, self._profile.fingers)
        for item in self._state:
            for value in _lacking(item, offered):
                raise UsageError(
                    f"Profile {self._name} sends {value!r} under {'/'.join(item.key)}, which the state of suite "
                    f"{self._suite.name!r} does not hold; it offers {', '.join(offered)}."
                )


def _lacking(item: StateItem, offered: Mapping[str, float]) -> list[str]:
    return [value for value in item.values if value != ALL and value not in offered]


def _action_space(profile: Profile, suite: Suite) -> ActionSpace:
    """Return the suite's space with all that the profile declares and that no conversion here can change."""
    given, space = profile.actions, suite.action_space
    stated = {
        name: value
        for name in ("translation", "frame", "metres_per_unit", "radians_per_unit", "control_hz")
        if (value := getattr(given, name)) is not None
    }
    if given.rotation is not None and not {given.rotation, space.rotation} <= set(_CONVERTED):
        stated["rotation"] = given.rotation
    if given.gripper == "as is":
        stated |= {
            name: value for name in ("gripper_open", "gripper_closed") if (value := getattr(given, name)) is not None
        }
    return replace(space, **stated)


def _axis_angle_of_euler(euler_xyz: FloatArray) -> FloatArray:
    return rotations.matrix_to_axis_angle(rotations.euler_xyz_to_matrix(euler_xyz))


def _euler_of_axis_angle(axis_angle: FloatArray) -> FloatArray:
    from evals.policies.remote.state import matrix_to_euler_xyz

    return matrix_to_euler_xyz(rotations.axis_angle_to_matrix(axis_angle))


_CONVERT = {"axis_angle": _axis_angle_of_euler, "euler_xyz": _euler_of_axis_angle}  # by the suite's format


def _matrix(what: str, value: object, part: bool) -> FloatArray:
    """Return an array of the answer as `[K, D]`.

    Args:
        what: how an error names it.
        value: `[D]`, `[K, D]` or `[1, K, D]`; where several parts are joined, `[K]` is a column.
        part: whether it is one of several parts.
    """
    array = np.asarray(value) if isinstance(value, (list, np.ndarray)) else None
    if array is None or array.dtype.kind not in "fiu":
        raise ServerError(f"The server sent {_described(value)} as {what}, expected an array of numbers.")
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 1:
        array = array[:, None] if part else array[None]
    if array.ndim != 2 or not array.size:
        raise ServerError(f"The server sent {_described(value)} as {what}, expected [K, D] numbers.")
    return array.astype(np.float64)


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"{value!r:.120}" if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"


def _put_images(request: Request, item: ImageItem, cameras: tuple[str, ...], observation: Observation) -> None:
    for camera in cameras:
        key = (*item.key, camera) if item.camera == ALL else item.key
        _put(request, key, prepared(observation.images[camera], item))


def _put(request: Request, key: tuple[str, ...], value: Any) -> None:  # noqa: ANN401 - what is sent
    *outer, last = key
    for name in outer:
        request = request.setdefault(name, {})
    request[last] = value

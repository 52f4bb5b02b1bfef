"""What the numbers of actions and states mean: declared by suites and policies, and compared before a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from evals.errors import ContractError

RotationFormat = Literal["axis_angle", "euler_xyz", "quat_wxyz", "quat_xyzw", "none"]


@dataclass(frozen=True)
class ActionSpace:
    """What the seven numbers of an action mean: (x, y, z, rotation[3], gripper).

    Attributes:
        translation: whether translation and rotation are changes or targets.
        rotation: format of entries 3..5.
        frame: frame in which translation and rotation are expressed.
        metres_per_unit: length commanded by a translation entry of 1.
        radians_per_unit: angle commanded by a rotation entry of 1.
        gripper_open: value of entry 6 that opens the gripper.
        gripper_closed: value of entry 6 that closes it.
        low: smallest value of an entry that the controller does not clip.
        high: largest value of an entry that the controller does not clip.
        control_hz: control steps per second.
    """

    translation: Literal["delta", "absolute"] = "delta"
    rotation: RotationFormat = "axis_angle"
    frame: Literal["base", "end_effector", "world"] = "base"
    metres_per_unit: float = 1.0
    radians_per_unit: float = 1.0
    gripper_open: float = 1.0
    gripper_closed: float = -1.0
    low: float = -1.0
    high: float = 1.0
    control_hz: float = 20.0

    dim = 7

    def idle(self) -> npt.NDArray[np.float64]:
        """Return the action that moves nothing and keeps the gripper open, `[7]`."""
        action = np.zeros(self.dim)
        action[6] = self.gripper_open
        return action


@dataclass(frozen=True)
class StateSpace:
    """What the numbers of `Observation.state` mean, one name an entry.

    Attributes:
        names: e.g. ("x", "y", "z", "axis_angle_x", ..., "finger_left", "finger_right"); metres and radians.
        rotation: format of the rotation entries.
        frame: frame of position and rotation.
        source: where the numbers are read, since two sources can differ by 90 degrees.
    """

    names: tuple[str, ...]
    rotation: RotationFormat = "axis_angle"
    frame: Literal["base", "world"] = "world"
    source: str = ""


def gripper_level(space: ActionSpace, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return how far entries 6 of actions open the gripper, of any shape: 1 = open, 0 = closed.

    Raises:
        ContractError: the space has one number for open and closed.
    """
    if space.gripper_open == space.gripper_closed:
        raise ContractError(f"ActionSpace: gripper_open and gripper_closed are both {space.gripper_open}.")
    span = space.gripper_open - space.gripper_closed
    level: npt.NDArray[np.float64] = np.clip((np.asarray(values, np.float64) - space.gripper_closed) / span, 0.0, 1.0)
    return level


def gripper_command(space: ActionSpace, levels: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the entries 6 of actions that open the gripper where its level is more than half, else close it."""
    return np.where(levels > 0.5, space.gripper_open, space.gripper_closed)


def differences(got: ActionSpace | StateSpace, expected: ActionSpace | StateSpace) -> list[str]:
    """Return one line for each field on which two spaces disagree."""
    a, b = asdict(got), asdict(expected)
    kind = type(expected).__name__
    return [f"{kind}.{name}: policy {a[name]!r}, suite {b[name]!r}" for name in b if a[name] != b[name]]

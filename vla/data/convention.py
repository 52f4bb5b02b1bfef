"""What the numbers of a data set mean, as far as somebody says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

Rotation = Literal["axis_angle", "euler_xyz"]
GripperCode = Literal["opening", "closing", "signed_opening", "signed_closing", "relative"]
"""How a gripper is stored: `opening` is 0 closed to 1 open, `closing` the reverse; `signed_opening` is -1 closed to +1
open, `signed_closing` the reverse; `relative` is +1 closes, -1 opens, 0 holds."""

_WRIST = ("wrist", "hand", "gripper")


class StoredGripper(NamedTuple):
    """Where the gripper stands in the raw data: feature, entry of its last axis, and code."""

    feature: str
    entry: int
    code: GripperCode


@dataclass(frozen=True)
class Convention:
    """What actions mean; None and "" where nobody says.

    Attributes:
        layout: name of the action layout that they were read by.
        suite: suite in which they were recorded, whose units they have.
        control_hz: control steps a second.
        rotation: format of the rotation deltas.
        metres_per_unit: length of a translation of 1.
        radians_per_unit: angle of a rotation of 1.
        cameras: the data set's names of the model's views.
    """

    layout: str = ""
    suite: str = ""
    control_hz: float | None = None
    rotation: Rotation | None = None
    metres_per_unit: float | None = None
    radians_per_unit: float | None = None
    cameras: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` is the inverse."""
        return {**asdict(self), "cameras": list(self.cameras)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Convention:
        """Build a convention from `to_json` data; fields of a newer version are left out."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        return cls(**{**known, "cameras": tuple(known.get("cameras", ()))})


NOT_SAID = Convention()


def view_of(camera: str) -> str:
    """Return "wrist" for a camera that moves with the hand, by its name, and "third_person" for any other."""
    return "wrist" if any(word in camera.lower() for word in _WRIST) else "third_person"

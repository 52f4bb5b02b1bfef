"""What a reader has to know of a data set: where its numbers are, and how they become our actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla.data.convention import Convention, Rotation, StoredGripper
from vla.data.errors import DataError, NothingToLearnError, Where

Floats = NDArray[np.float32]
Steps = Mapping[str, Floats]
"""Feature name below `steps/` -> `[T, ...]`, for example `action/world_vector`."""


@dataclass(frozen=True)
class Layout:
    """Where a dataset keeps what we need, and what its action numbers mean.

    Attributes:
        name: the dataset's name in TFDS.
        actions: pure function from the features `inputs` to `[T, 7]` float32, or fewer steps where `cut` says so.
        inputs: features that `actions` reads.
        transform: the public transform that documents the numbers is `<transform>_dataset_transform`; "" for our own.
        cameras: our camera name -> image feature.
        state: features whose numbers, side by side, are the state.
        instruction: feature that holds the task in words.
        control_hz: control steps per second, or None where nobody says.
        cut: steps at the begin and at the end that the actions leave out.
        gripper: where the gripper is stored and how, so that the data can be held against it; None is not checked.
        rotation: format of the rotation deltas, or None where nobody says.
        metres_per_unit: length of a translation of 1, or None where nobody says.
        radians_per_unit: angle of a rotation of 1, or None where nobody says.
    """

    name: str
    actions: Callable[[Steps], Floats]
    inputs: tuple[str, ...]
    transform: str
    cameras: Mapping[str, str]
    state: tuple[str, ...] = ("observation/state",)
    instruction: str = "language_instruction"
    control_hz: float | None = None
    cut: tuple[int, int] = (0, 0)
    gripper: StoredGripper | None = None
    rotation: Rotation | None = None
    metres_per_unit: float | None = None
    radians_per_unit: float | None = None

    @property
    def keep(self) -> slice:
        """The steps that the actions belong to."""
        return slice(self.cut[0], -self.cut[1] or None)

    def require_steps(self, length: int, where: Where) -> None:
        """Return if an episode of that many steps has one left.

        Raises:
            NothingToLearnError: the layout leaves out all that it has.
        """
        if length <= sum(self.cut):
            raise NothingToLearnError(where, f"has {length} steps; layout {self.name!r} needs {sum(self.cut) + 1}.")

    @property
    def convention(self) -> Convention:
        """What the actions mean."""
        return Convention(self.name, "", self.control_hz, self.rotation, self.metres_per_unit, self.radians_per_unit)

    def stored_gripper(self, steps: Steps, where: Where) -> Floats | None:
        """Return the gripper as it is stored, `[T]`, or None where it is not known how that is.

        Raises:
            DataError: the feature has another number of entries than the layout reads.
        """
        if self.gripper is None:
            return None
        feature, entry, _ = self.gripper
        numbers = steps[feature].reshape(len(steps[feature]), -1)
        if numbers.shape[1] <= entry or (feature == "action" and numbers.shape[1] != entry + 1):
            raise DataError(
                Where(where.file, where.episode, feature),
                f"has {numbers.shape[1]} numbers a step; layout {self.name!r} reads {entry + 1}, the gripper last.",
            )
        return numbers[:, entry]


def check_names(names: object, where: Where) -> None:
    """Return if the names that a data set gives its action's entries can be those of deltas with the gripper last.

    Args:
        names: a list, or a dict of lists, as LeRobot has them; anything else says nothing.
        where: the place of the names.

    Raises:
        DataError: the gripper is not the last entry, or entries are joints.
    """
    listed = next(iter(names.values()), ()) if isinstance(names, dict) else names
    words = [str(name).lower() for name in listed] if isinstance(listed, list) else []
    grippers = [place for place, name in enumerate(words) if "gripper" in name]
    if any("joint" in name for place, name in enumerate(words) if place not in grippers):
        raise DataError(where, f"names joints ({', '.join(words)}); changes of the hand's pose are expected.")
    if grippers and grippers != [len(words) - 1]:
        raise DataError(where, f"names the gripper at {grippers} of {', '.join(words)}; once, at the end, is expected.")

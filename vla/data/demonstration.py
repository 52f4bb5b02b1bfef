"""What every reader yields: one demonstration in one convention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vla.data.convention import NOT_SAID, Convention
from vla.data.errors import DataError, NothingToLearnError, Where, reading
from vla.data.frames import Frames
from vla.errors import ActionDataError
from vla.statistics import check_actions


@dataclass(frozen=True, eq=False)
class Demonstration:
    """One demonstration; `actions[t]` was taken on seeing `cameras[name][t]` and `state[t]`.

    Attributes:
        dataset: name of the dataset, the key of its action statistics.
        where: file and name of the episode, as error messages say them.
        instruction: the task in words, as the dataset has it.
        actions: `[T, 7]` float32 `(dx, dy, dz, droll, dpitch, dyaw, gripper)` in the robot's own units per control
            step; the gripper is a level, 1 = open, 0 = closed.
        state: `[T, S]` float32 proprioception in the dataset's own layout; `S` is 0 where it has none.
        cameras: camera name -> images, `T` of them.
        control_hz: control steps per second, or None where nobody says.
        intents: `T` motion sentences that an expert intended, or empty.
        valid_starts: sorted steps at which a sample may start, or None for all: some steps have no image, and some are
            not to be imitated.
        is_expert: `[T]` bool, whether the action is one to learn, or None if all are: pushes off the path are not.
        convention: what the numbers mean, as far as somebody says.
        stored_gripper: the gripper as the data set stores it, one entry a stored step, or None where nobody checks it.
        scene: name of the scene within the data set, where several demonstrations may have one; "" if each has its own.
    """

    dataset: str
    where: Where
    instruction: str
    actions: NDArray[np.float32]
    state: NDArray[np.float32]
    cameras: Mapping[str, Frames] = field(default_factory=dict)
    control_hz: float | None = None
    intents: tuple[str, ...] = ()
    valid_starts: NDArray[np.int64] | None = None
    is_expert: NDArray[np.bool_] | None = None
    convention: Convention = NOT_SAID
    stored_gripper: NDArray[np.float32] | None = None
    scene: str = ""

    @property
    def learnt(self) -> NDArray[np.float32]:
        """Return the actions that are to be learnt, `[N, 7]`; pushes off the path are not."""
        return self.actions if self.is_expert is None else self.actions[self.is_expert]

    @property
    def num_starts(self) -> int:
        """Steps at which a sample may start."""
        return len(self) if self.valid_starts is None else len(self.valid_starts)

    def start(self, index: int) -> int:
        """Return the `index`-th step at which a sample may start."""
        return index if self.valid_starts is None else int(self.valid_starts[index])

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.actions)


def drop_perturbed_chunks(episode: Demonstration, length: int) -> Demonstration:
    """Return the episode with those starts alone that `length` actions to learn follow.

    A chunk with a push in it would teach the push: the step that it starts at does not show it.
    """
    if episode.is_expert is None:
        return episode
    spoilt = np.flatnonzero(~episode.is_expert)
    starts = np.arange(len(episode)) if episode.valid_starts is None else episode.valid_starts
    first = np.searchsorted(spoilt, starts)
    distance = np.append(spoilt, len(episode) + length)[first] - starts
    return replace(episode, valid_starts=starts[distance >= length])


def checked(episode: Demonstration) -> Demonstration:
    """Return the episode if it can be trained on.

    Raises:
        NothingToLearnError: no step, or no instruction.
        DataError: actions of another shape than `[T, 7]`, not finite, or with a gripper level outside [0, 1];
            a state that is not finite; a camera, state or intents of another length.
    """
    place = episode.where
    if not len(episode):
        raise NothingToLearnError(
            place, "has no step to learn from: it is too short for its layout, or nothing moves in it."
        )
    if not " ".join(episode.instruction.split()).rstrip("."):
        raise NothingToLearnError(place, "has no instruction.")
    with reading(Where(place.file, place.episode, "instruction"), "is no text"):
        episode.instruction.encode()
    try:
        check_actions(episode.actions, episode.dataset, place.episode)
    except ActionDataError as error:
        raise DataError(Where(place.file, place.episode, "action"), str(error)) from error
    steps = len(episode)
    if episode.state.shape[:1] != (steps,) or episode.state.ndim != 2:
        raise DataError(
            Where(place.file, place.episode, "state"), f"has shape {episode.state.shape}; [{steps}, S] is expected."
        )
    bad = ~np.isfinite(episode.state)
    if bad.any():
        step = int(np.argwhere(bad)[0][0])
        raise DataError(Where(place.file, place.episode, "state"), f"is not finite at step {step}.")
    lengths = {name: len(frames) for name, frames in episode.cameras.items()}
    if episode.intents:
        lengths["intents"] = len(episode.intents)
    for name, length in lengths.items():
        if length != steps:
            raise DataError(Where(place.file, place.episode, name), f"has {length} entries for {steps} actions.")
    return episode

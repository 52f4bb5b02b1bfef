"""The motion language: a fixed grammar of 729 sentences that say how a gripper moves.

    move [forward|backward] [left|right] [up|down], tilt [up|down],
        rotate [clockwise|counterclockwise], [open|close] gripper        (on one line)
    stop                                                                 (when no slot is filled)

At most one word comes from each of six slots, in this order, with a comma between the groups. The seven dimensions of
an action fill six slots because roll and pitch share `tilt`. Source: the paper's section "Motion Generation".
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import astuple, dataclass
from functools import cache
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla.errors import ModelError

SLOTS = ("x", "y", "z", "tilt", "rotate", "gripper")
"""Slot names, in the order of the columns of every `[T, 6]` array of slots."""

STOP_SENTENCE = "stop"

GripperEvent = Literal["open", "close"]

_WORDS = (
    ("backward", "", "forward"),
    ("right", "", "left"),
    ("down", "", "up"),
    ("down", "", "up"),
    ("clockwise", "", "counterclockwise"),
    ("close", "", "open"),
)
"""Per slot, the word for -1, 0 and +1."""

_BASE = 3 ** np.arange(len(SLOTS) - 1, -1, -1)


class MotionSyntaxError(ModelError):
    """A text is not a sentence of the motion language.

    Attributes:
        text: the text as it was given.
        position: index of the first character that no sentence of the language has there.
    """

    def __init__(self, text: str, position: int, expected: list[str]) -> None:
        """Say what stood at `position` and what the grammar allows there."""
        self.text = text
        self.position = position
        shown = " or ".join(repr(word) for word in expected[:8])
        rest = text[position:]
        got = f"got {rest!r}" if rest else "the text ends there"
        super().__init__(f"Not a motion sentence: {text!r}. At position {position} {got}, expected {shown}.")


@dataclass(frozen=True)
class Motion:
    """What the gripper is doing, one of -1, 0, +1 for each slot.

    Attributes:
        x: +1 forward, -1 backward.
        y: +1 left, -1 right.
        z: +1 up, -1 down.
        tilt: +1 up, -1 down (rotation about the robot's x or y axis).
        rotate: +1 counterclockwise, -1 clockwise (rotation about the vertical axis).
        gripper: +1 opening, -1 closing; 0 while it holds its level.
    """

    x: int = 0
    y: int = 0
    z: int = 0
    tilt: int = 0
    rotate: int = 0
    gripper: int = 0

    def __post_init__(self) -> None:
        """Refuse values that have no word."""
        for slot in SLOTS:
            value = getattr(self, slot)
            if value not in (-1, 0, 1):
                raise ValueError(f"Motion.{slot} is {value!r}; a slot is -1, 0 or +1.")


def describe(motion: Motion) -> str:
    """Write a motion as its one sentence; `parse` is the exact inverse."""
    x, y, z, tilt, rotate, gripper = (words[value + 1] for words, value in zip(_WORDS, astuple(motion), strict=True))
    groups = [
        " ".join(["move", *filter(None, (x, y, z))]) if x or y or z else "",
        f"tilt {tilt}" if tilt else "",
        f"rotate {rotate}" if rotate else "",
        f"{gripper} gripper" if gripper else "",
    ]
    return ", ".join(filter(None, groups)) or STOP_SENTENCE


def motion_towards(
    offset: ArrayLike,
    tolerance: float,
    turn: ArrayLike = (0, 0, 0),
    turn_tolerance: float = 0.0,
    gripper: GripperEvent | None = None,
) -> Motion:
    """Return the motion of a gripper on its way to a waypoint: the directions in which more than a tolerance is left.

    Args:
        offset: `[3]` metres left along x (forward), y (left), z (up).
        tolerance: metres along an axis that are not worth a word.
        turn: `[3]` radians left about x (roll), y (pitch), z (yaw); where both are left, roll is the tilt.
        turn_tolerance: radians about an axis that are not worth a word.
        gripper: the event that is going on, or None while the fingers keep their opening.
    """
    left = np.concatenate([offset, turn])
    worth_a_word = np.abs(left) > np.repeat([tolerance, turn_tolerance], 3)
    x, y, z, roll, pitch, yaw = (int(sign) for sign in np.where(worth_a_word, np.sign(left), 0))
    return Motion(x, y, z, roll or pitch, yaw, {"open": 1, None: 0, "close": -1}[gripper])


def parse(text: str) -> Motion:
    """Read one sentence of the motion language.

    Raises:
        MotionSyntaxError: the text is anything but one of the 729 sentences, letter for letter.
    """
    motion = _motion_of_sentence().get(text)
    if motion is None:
        position = _first_wrong_character(text)
        raise MotionSyntaxError(text, position, _continuations(text[:position]))
    return motion


@cache
def all_motions() -> tuple[Motion, ...]:
    """Every motion of the language, `[729]`; the index of a motion is that of `motion_index`."""
    return tuple(Motion(*slots) for slots in product((-1, 0, 1), repeat=len(SLOTS)))


def motion_index(slots: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return the numbers 0..728 of motions, `stop` in the middle at 364.

    Args:
        slots: `[..., 6]` of -1, 0, +1 in the order of `SLOTS`.

    Returns:
        `[...]` positions in `all_motions()`.
    """
    return (slots.astype(np.intp) + 1) @ _BASE


def motions_from_slots(slots: NDArray[np.integer]) -> list[Motion]:
    """Turn `[T, 6]` slots of -1, 0, +1 into `T` motions; equal motions are one object."""
    motions: list[Motion] = _motion_array()[motion_index(slots)].tolist()
    return motions


def slots_from_motions(motions: list[Motion]) -> NDArray[np.int8]:
    """Turn `T` motions into `[T, 6]` slots of -1, 0, +1."""
    return np.array([astuple(motion) for motion in motions], dtype=np.int8).reshape(-1, len(SLOTS))


@cache
def _motion_array() -> NDArray[np.object_]:
    array = np.empty(len(all_motions()), dtype=object)
    array[:] = all_motions()
    return array


@cache
def _motion_of_sentence() -> dict[str, Motion]:
    return {describe(motion): motion for motion in all_motions()}


@cache
def _sorted_sentences() -> list[str]:
    return sorted(_motion_of_sentence())


def _first_wrong_character(text: str) -> int:
    """Length of the longest beginning of `text` that also begins a sentence."""
    for length in range(len(text), 0, -1):
        if _sentences_beginning(text[:length]):
            return length
    return 0


def _sentences_beginning(prefix: str) -> list[str]:
    sentences = _sorted_sentences()
    low = bisect_left(sentences, prefix)
    high = bisect_left(sentences, prefix + "\x7f")
    return sentences[low:high]


def _continuations(prefix: str) -> list[str]:
    """Return the next words that may follow `prefix`, cut at the end of a word; the end of the text is ''."""
    rests = (sentence[len(prefix) :] for sentence in _sentences_beginning(prefix))
    words = {" ".join(rest.split(" ")[: 1 + rest.startswith((" ", ","))]) for rest in rests}
    return sorted({word.rstrip(",") or "the end" for word in words})

"""What a scripted expert means to do, as a sentence of the motion language.

An expert knows which way it is going and why; its actions are that intent after gains, clipping and noise. The sentence
says the intent, so that demonstrations carry motion labels which no labeller had to guess. `vla.motion.language` owns
the grammar; this writes it without importing the model's package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

GripperEvent = Literal["open", "close"]

_TRANSLATION = (("forward", "backward"), ("left", "right"), ("up", "down"))


def signs(remaining: npt.ArrayLike, tolerance: float) -> tuple[int, ...]:
    """Return the sign of each entry, or 0 where no more than the tolerance remains.

    Args:
        remaining: `[N]` displacement left to the waypoint, metres or radians, in the frame of the actions.
        tolerance: what counts as arrived, in the same unit.
    """
    left = np.asarray(remaining, dtype=np.float64)
    return tuple(int(sign) for sign in np.where(np.abs(left) > tolerance, np.sign(left), 0))


def sentence(
    translation: Sequence[int],
    rotation: Sequence[int] = (0, 0, 0),
    gripper: GripperEvent | None = None,
) -> str:
    """Return the motion sentence of an intent.

    Args:
        translation: `[3]` signs along x (forward), y (left), z (up).
        rotation: `[3]` signs about x (roll), y (pitch), z (yaw). Roll or pitch is a tilt, and roll wins as in
            `vla.motion.language`; positive yaw is counterclockwise.
        gripper: the event that is going on, or None while the fingers keep their opening.
    """
    roll, pitch, yaw = rotation
    words = [_word(sign, pair) for sign, pair in zip(translation, _TRANSLATION, strict=True)]
    groups = [
        " ".join(["move", *filter(None, words)]) if any(words) else "",
        f"tilt {_word(roll or pitch, ('up', 'down'))}" if roll or pitch else "",
        f"rotate {_word(yaw, ('counterclockwise', 'clockwise'))}" if yaw else "",
        f"{gripper} gripper" if gripper else "",
    ]
    return ", ".join(filter(None, groups)) or "stop"


def _word(sign: int, pair: tuple[str, str]) -> str:
    """Return the word for a positive, a negative or (empty) no motion."""
    return pair[0] if sign > 0 else pair[1] if sign < 0 else ""

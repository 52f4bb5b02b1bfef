"""What a data set's numbers show, held against what its layout says of them.

Two verdicts: a contradiction cannot be (the data set is refused), a doubt is only likely (it is said aloud).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla.data.convention import Convention, GripperCode
from vla.data.demonstration import Demonstration

SIGNED: tuple[GripperCode, ...] = ("signed_closing", "signed_opening")
CODE_IN_WORDS = {
    "opening": "0 closed to 1 open",
    "closing": "0 open to 1 closed",
    "signed_opening": "-1 closed to +1 open",
    "signed_closing": "-1 open to +1 closed",
    "relative": "+1 closes, -1 opens, 0 holds",
}
_LARGEST_STEP = 0.3  # metres; the fastest public sets (3 Hz) reach 0.2
_SLOWEST, _FASTEST = 0.01, 3.0  # metres a second that 1 % of the steps exceed
_TURN = np.pi  # radians a step, or units where nobody says; controllers that take -1 to 1 reach 1.7
_MOSTLY = 0.8


@dataclass(frozen=True)
class Evidence:
    """What some episodes of a data set show.

    Attributes:
        episodes: how many.
        lowest: smallest stored gripper value.
        highest: largest.
        halfway: whether a stored gripper value lies between -0.5 and 0.5.
        start_closed: episodes that start with the gripper closed, as the layout reads it.
        both_ways: whether the gripper is both open and closed somewhere.
        reach: length that 1 % of the translations exceed, in the data's units.
        turn: angle that 1 % of the rotations exceed, in the data's units.
        follows_state: whether translations are the next positions of the state: targets and not changes.
    """

    episodes: int
    lowest: float
    highest: float
    halfway: bool
    start_closed: int
    both_ways: bool
    reach: float
    turn: float
    follows_state: bool

    @property
    def gripper(self) -> str:
        """What the gripper shows, in words."""
        return (
            f"gripper stored as {self.lowest:.3g} to {self.highest:.3g}, "
            f"closed in the first step of {self.start_closed} of {self.episodes} episodes"
        )


def evidence_of(episodes: Sequence[Demonstration]) -> Evidence:
    """Return what the numbers of at least one episode show."""
    stored = [episode.stored_gripper for episode in episodes if episode.stored_gripper is not None]
    grippers = np.concatenate(stored) if stored else np.zeros(0, np.float32)
    actions = np.concatenate([episode.actions for episode in episodes])
    is_open = actions[:, 6] > 0.5
    reach, turn = (
        float(np.quantile(np.linalg.norm(actions[:, part], axis=1), 0.99)) for part in (slice(0, 3), slice(3, 6))
    )
    return Evidence(
        episodes=len(episodes),
        lowest=float(grippers.min(initial=np.inf)),
        highest=float(grippers.max(initial=-np.inf)),
        halfway=bool((np.abs(grippers) < 0.5).any()),
        start_closed=sum(bool(episode.actions[0, 6] <= 0.5) for episode in episodes),
        both_ways=bool(is_open.any() and not is_open.all()),
        reach=reach,
        turn=turn,
        follows_state=_follows_state(episodes),
    )


def contradictions(shown: Evidence, code: GripperCode | None, convention: Convention) -> list[str]:
    """Return what cannot be true of the layout, a line each."""
    lines = []
    low, high = shown.lowest, shown.highest
    if code is not None and np.isfinite(low):
        beyond = max(-low, high) > 1.5
        unsigned = code in SIGNED and low > -0.5 and shown.halfway
        signed = code in ("opening", "closing") and low < -0.1
        width = code in ("opening", "closing") and low < high < 0.5
        if beyond or unsigned or signed or width:
            lines.append(f"the gripper is stored as {low:.3g} to {high:.3g}, not as {CODE_IN_WORDS[code]}")
    metres = shown.reach * (convention.metres_per_unit or 0)
    if metres > _LARGEST_STEP:
        lines.append(
            f"1 % of the steps would be longer than {metres:.2g} m ({shown.reach:.3g} units of "
            f"{convention.metres_per_unit:g} m)"
        )
    radians = shown.turn * (convention.radians_per_unit or 0)
    if radians > _TURN:
        lines.append(f"1 % of the steps would turn further than {radians:.3g} rad: degrees?")
    return lines


def doubts(shown: Evidence, convention: Convention) -> list[str]:
    """Return what is unlikely of a data set, a line each."""
    lines = []
    if shown.both_ways and shown.start_closed >= _MOSTLY * shown.episodes:
        lines.append(
            f"the gripper is closed in the first step of {shown.start_closed} of {shown.episodes} episodes and opens "
            "later: its sign may be inverted"
        )
    if shown.follows_state:
        lines.append("the actions are the next positions of the state: targets, where changes are expected")
    speed = shown.reach * (convention.metres_per_unit or 0) * (convention.control_hz or 0)
    if speed and not _SLOWEST < speed < _FASTEST:
        lines.append(f"99 % of the steps are slower than {speed:.2g} m/s: another unit than its layout says?")
    if convention.radians_per_unit is None and shown.turn > _TURN:
        lines.append(f"1 % of the rotations exceed {shown.turn:.3g}: degrees?")
    return lines


def _follows_state(episodes: Sequence[Demonstration]) -> bool:
    apart, size = 0.0, 0.0
    for episode in episodes:
        if episode.state.shape[1] >= 3 and len(episode) > 1:
            reached: NDArray[np.float32] = episode.state[1:, :3]
            apart += float(np.abs(episode.actions[:-1, :3] - reached).sum())
            size += float(np.abs(reached).sum())
    return apart < 0.1 * size

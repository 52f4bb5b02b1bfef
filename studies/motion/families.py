"""Families of generators that disagree about what a motion looks like; a labeller is judged on families it never saw.

`studies.motion.synthetic` is one family: twelve embodiments that one program renders. A setting that was searched there
knows its program. The families here share no renderer: each draws its own intents, its own course of speed within a
motion and its own faults of a recording. Each has several robots, at 3 to 50 Hz and in units from 0.001 to 3 a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from studies.motion.corpus import Corpus, LabelledEpisode

EPISODES_A_SPLIT = 8
EPISODE_SECONDS = 15.0

Floats = NDArray[np.float64]
Intents = NDArray[np.float64]
"""`[T, 7]`: intended speed of each axis as a fraction of the top speed, and the gripper's event."""


class Rendered(NamedTuple):
    """One episode before its units: what is meant and what is recorded.

    Attributes:
        intents: `[T, 7]`, see `Intents`; the truth is their sign.
        velocity: `[T, 6]` recorded speeds in the same fractions.
        level: `[T]` recorded gripper level, 1 = open.
    """

    intents: Intents
    velocity: Floats
    level: Floats


Draw = Callable[[float, np.random.Generator], Rendered]
"""Draws an episode of a robot of the given control rate."""


@dataclass(frozen=True)
class Family:
    """Robots whose recordings one program makes.

    Attributes:
        name: of the family.
        draw: its program.
        robots: control rate, and top translation and rotation per control step in the robot's own units, of each.
    """

    name: str
    draw: Draw
    robots: tuple[tuple[float, float, float], ...]


def family_corpora(seed: int, families: tuple[Family, ...] | None = None) -> dict[str, list[Corpus]]:
    """Render one split of every family, a corpus for each of its robots; other seeds are other splits."""
    found: dict[str, list[Corpus]] = {}
    for number, family in enumerate(FAMILIES if families is None else families):
        found[family.name] = []
        for index, (rate, *scales) in enumerate(family.robots):
            rng = np.random.default_rng([seed, number, index])
            units = np.repeat(scales, 3)
            episodes = tuple(_episode(family.draw(rate, rng), units) for _ in range(EPISODES_A_SPLIT))
            found[family.name].append(Corpus(f"{family.name} {rate:g} Hz", rate, episodes))
    return found


def _episode(rendered: Rendered, units: Floats) -> LabelledEpisode:
    intents = rendered.intents
    tilt = np.where(intents[:, 3] != 0, intents[:, 3], intents[:, 4])
    slots = np.sign(np.column_stack([intents[:, :3], tilt, intents[:, 5:]])).astype(np.int8)
    return LabelledEpisode(np.column_stack([rendered.velocity * units, rendered.level]), slots)


def lognormal_speeds(rate: float, rng: np.random.Generator) -> Rendered:
    """Draw speeds that differ between motions by far more than the noise: one deviation is a factor of 2.7."""
    intents = _spans(rate, rng, lambda: float(np.clip(0.25 * rng.lognormal(0, 1.0), 0.03, 1.0)), seconds=(0.5, 3.0))
    velocity = _lag(intents[:, :6], 0.06 * rate)
    return Rendered(
        intents, velocity * rng.lognormal(0, 0.08, velocity.shape) + _noise(intents, 0.004, rng), _jump(intents)
    )


def heavy_tails(rate: float, rng: np.random.Generator) -> Rendered:
    """Add noise with outliers (Student's t, 2.5 degrees of freedom) to speeds between slow and fast."""
    intents = _spans(rate, rng, lambda: rng.uniform(0.12, 1.0), seconds=(0.4, 2.5))
    velocity = _lag(intents[:, :6], 0.1 * rate)
    spread = 0.03 + 0.1 * np.linalg.norm(velocity, axis=1, keepdims=True)
    return Rendered(intents, velocity + spread * rng.standard_t(2.5, velocity.shape), _jump(intents))


def overlapping(rate: float, rng: np.random.Generator) -> Rendered:
    """Let every axis start and stop when it likes: translations and turns overlap in all ways."""
    steps = int(EPISODE_SECONDS * rate)
    intents = np.zeros((steps, 7))
    for axis in rng.choice(6, size=rng.integers(3, 6), replace=False):
        at = 0
        while at < steps:
            pause, move = rng.exponential(2.0) + 0.3, rng.uniform(0.5, 3.0)
            begin, at = at + round(pause * rate), at + round((pause + move) * rate)
            intents[begin:at, axis] = rng.choice([-1, 1]) * rng.uniform(0.2, 1.0)
    if rng.random() < 0.5:  # roll and pitch share a word: never both at a time
        intents[intents[:, 3] != 0, 4] = 0
    else:
        intents[intents[:, 4] != 0, 3] = 0
    _add_events(intents, rate, rng)
    velocity = _lag(intents[:, :6], 0.08 * rate)
    return Rendered(intents, velocity + _noise(intents, 0.03, rng), _ramp(intents))


def slow_and_clear(rate: float, rng: np.random.Generator) -> Rendered:
    """Draw a few sweeps at top speed, and long slow motions at 2 to 10 % of it that no noise hides."""
    intents = _spans(
        rate, rng, lambda: 1.0 if rng.random() < 0.25 else rng.uniform(0.02, 0.1), seconds=(0.8, 4.0), axes=(1, 1, 2)
    )
    velocity = _lag(intents[:, :6], 0.05 * rate)
    return Rendered(intents, velocity + _noise(intents, 0.003, rng, per_speed=0.01), _jump(intents))


def short_bursts(rate: float, rng: np.random.Generator) -> Rendered:
    """Draw bursts of a few steps at full speed between pauses."""
    intents = _spans(rate, rng, lambda: rng.uniform(0.5, 1.0), seconds=(0.15, 0.5), pause=0.45)
    velocity = _lag(intents[:, :6], 0.02 * rate)
    return Rendered(intents, velocity + _noise(intents, 0.04, rng), _jump(intents))


def joystick(rate: float, rng: np.random.Generator) -> Rendered:
    """Quantise to a stick with three or five positions an axis: no noise, and now and then a slip of one step."""
    levels = np.array([0.5, 1.0]) if rng.random() < 0.5 else np.array([1.0])
    intents = _spans(rate, rng, lambda: float(rng.choice(levels)), seconds=(0.3, 2.0))
    velocity = intents[:, :6].copy()
    slipped = rng.random(len(velocity)) < 0.02
    velocity[slipped, rng.integers(0, 3)] += rng.choice([-1, 1]) * levels[0]
    return Rendered(intents, np.clip(velocity, -1, 1), _jump(intents))


def minimum_jerk(rate: float, rng: np.random.Generator) -> Rendered:
    """Draw reaches whose speed rises and falls as a bell; less than a sixth of a reach is not meant."""
    steps, at = int(EPISODE_SECONDS * rate), round(0.4 * rate)
    intents, velocity = np.zeros((steps, 7)), np.zeros((steps, 6))
    while at < steps:
        length = max(3, round(rng.uniform(0.6, 2.5) * rate))
        reach = np.zeros(6)
        reach[:3] = rng.normal(size=3)
        if rng.random() < 0.4:
            reach[rng.integers(3, 6)] = rng.choice([-1, 1]) * rng.uniform(0.4, 1.0)
        reach /= np.abs(reach).max()
        phase = (np.arange(length) + 0.5) / length
        bell = 16 * phase**2 * (1 - phase) ** 2
        end = min(at + length, steps)
        velocity[at:end] = (reach * rng.uniform(0.3, 1.0) * bell[:, None])[: end - at]
        intents[at:end, :6] = np.where(np.abs(reach) > 1 / 6, reach, 0)
        at = end + round(rng.exponential(0.3) * rate)
    _add_events(intents, rate, rng, only_at_rest=True)
    return Rendered(intents, velocity + _noise(intents, 0.015, rng), _ramp(intents))


def contact(rate: float, rng: np.random.Generator) -> Rendered:
    """Let the arm tremble against what it touches: the axis swings at 2 to 4 Hz and goes nowhere."""
    intents = _spans(rate, rng, lambda: rng.uniform(0.25, 1.0), seconds=(0.6, 2.5), pause=0.3)
    velocity = _lag(intents[:, :6], 0.08 * rate)
    resting = (intents[:, :6] == 0).all(axis=1)
    phase = 2 * np.pi * rng.uniform(2, min(4, rate / 5)) * np.arange(len(velocity)) / rate
    axis = rng.integers(0, 3)
    velocity[:, axis] += np.where(resting, 0.2 * np.sin(phase), 0.0)
    return Rendered(intents, velocity + _noise(intents, 0.02, rng), _jump(intents))


def late_and_loose(rate: float, rng: np.random.Generator) -> Rendered:
    """Record what is meant late, and a change of direction is first eaten by the play of the gears."""
    intents = _spans(rate, rng, lambda: rng.uniform(0.2, 1.0), seconds=(0.6, 3.0))
    delay = max(1, round(0.1 * rate))
    late = np.vstack([np.zeros((delay, 6)), intents[:-delay, :6]])
    position = np.cumsum(late, axis=0)
    play, followed = 0.05 * rate, np.zeros_like(position)
    for step in range(1, len(position)):
        followed[step] = np.clip(followed[step - 1], position[step] - play, position[step] + play)
    velocity = np.diff(followed, axis=0, prepend=followed[:1])
    slow = lfilter([1.0], [1.0, -0.8], rng.normal(size=velocity.shape), axis=0)
    return Rendered(intents, velocity + 0.012 * slow, _jump(intents))


FAMILIES = (
    Family("lognormal_speeds", lognormal_speeds, ((5, 0.03, 0.1), (20, 0.9, 0.3), (50, 0.002, 0.01))),
    Family("heavy_tails", heavy_tails, ((5, 0.02, 0.2), (10, 0.5, 0.5), (30, 0.004, 0.02))),
    Family("overlapping", overlapping, ((5, 0.05, 0.1), (15, 1.0, 0.4), (30, 0.01, 0.03))),
    Family("slow_and_clear", slow_and_clear, ((5, 0.05, 0.15), (10, 3.0, 1.0), (20, 0.01, 0.05))),
    Family("short_bursts", short_bursts, ((10, 0.04, 0.1), (20, 1.0, 1.0), (30, 0.01, 0.05))),
    Family("joystick", joystick, ((5, 0.02, 0.05), (10, 1.0, 1.0), (20, 0.001, 0.01))),
    Family("minimum_jerk", minimum_jerk, ((5, 0.06, 0.2), (15, 0.8, 0.8), (50, 0.003, 0.01))),
    Family("contact", contact, ((15, 0.03, 0.1), (20, 0.9, 0.3), (50, 0.004, 0.01))),
    Family("late_and_loose", late_and_loose, ((10, 0.02, 0.06), (20, 1.0, 0.5), (50, 0.006, 0.02))),
)


def _spans(
    rate: float,
    rng: np.random.Generator,
    speed: Callable[[], float],
    seconds: tuple[float, float],
    pause: float = 0.15,
    axes: tuple[int, ...] = (1, 2, 3),
) -> Intents:
    """Draw motions one after the other: which axes, how fast each, how long; pauses and gripper events between."""
    rows, opened = [np.zeros((max(2, round(0.4 * rate)), 7))], True
    while sum(map(len, rows)) < EPISODE_SECONDS * rate:
        row = np.zeros(7)
        kind = rng.choice(["rest", "grip", "move", "turn"], p=[pause, 0.12, 0.68 - pause, 0.2])
        if kind == "move":
            chosen = rng.choice(3, size=rng.choice(axes), replace=False)
            row[chosen] = [rng.choice([-1, 1]) * speed() for _ in chosen]
        if kind == "turn":
            row[rng.integers(3, 6)] = rng.choice([-1, 1]) * speed()
            if rng.random() < 0.3:
                row[rng.integers(0, 3)] = rng.choice([-1, 1]) * speed()
        if kind == "grip":
            opened = not opened
            row[6] = 1 if opened else -1
        length = rng.uniform(0.3, 0.8) if kind == "grip" else rng.uniform(*seconds)
        rows.append(np.tile(row, (max(2, round(length * rate)), 1)))
    return np.concatenate(rows)


def _add_events(intents: Intents, rate: float, rng: np.random.Generator, only_at_rest: bool = False) -> None:
    """Let the gripper close and open in turn, wherever the arm is, or only where it rests."""
    closing, at = True, round(rng.uniform(1, 3) * rate)
    while at + rate < len(intents):
        length = max(2, round(rng.uniform(0.3, 0.7) * rate))
        if not only_at_rest or not intents[at : at + length, :6].any():
            intents[at : at + length, 6] = -1 if closing else 1
            closing, at = not closing, at + round(rng.uniform(2, 5) * rate)
        at += max(1, round(0.1 * rate))


def _lag(speeds: Floats, steps: float) -> Floats:
    """Follow the intended speeds with a first-order lag of so many steps."""
    keep = np.exp(-1 / max(steps, 1e-9))
    followed: Floats = lfilter([1 - keep], [1, -keep], speeds, axis=0)
    return followed


def _noise(intents: Intents, at_rest: float, rng: np.random.Generator, per_speed: float = 0.1) -> Floats:
    """White noise that grows with the arm's speed."""
    speed = np.linalg.norm(intents[:, :6], axis=1, keepdims=True)
    noise: Floats = (at_rest + per_speed * at_rest / 0.04 * speed) * rng.normal(size=(len(intents), 6))
    return noise


def _jump(intents: Intents) -> Floats:
    """Return a level that is commanded at once when an event begins."""
    return _levels(intents, ramp=False)


def _ramp(intents: Intents) -> Floats:
    """Return a level that is measured: it moves through the event."""
    return _levels(intents, ramp=True)


def _levels(intents: Intents, ramp: bool) -> Floats:
    level, levels = 1.0, np.empty(len(intents))
    edges = np.flatnonzero(np.diff(intents[:, 6], prepend=0, append=0))
    bounds = [0, *edges.tolist(), len(intents)]
    for begin, end in pairwise(bounds):
        if begin == end:
            continue
        event = intents[begin, 6]
        target = level if event == 0 else float(event > 0)
        levels[begin:end] = np.linspace(level, target, end - begin + 1)[1:] if ramp and event else target
        level = target
    return levels

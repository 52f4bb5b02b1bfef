"""Synthetic embodiments: known intents rendered into the actions that differently built robots would record.

An intent is a span of time in which some slots move: which way, how fast, how long. Rendering adds what separates a
recorded action from an intent: lopsided top speeds, inertia, a wobbling speed, coupling between axes, drift, jitter
that grows with speed, quantisation, a dead zone, gripper ramps and flicker. No labeller's window, threshold or model
appears here. Speeds are fractions of an embodiment's top speed; `scale` turns them into its own units per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from studies.motion.corpus import Corpus, LabelledEpisode
from vla.motion.language import SLOTS

EPISODE_SECONDS = 15.0
EPISODES_A_SPLIT = 12
TUNING_SEED = 11
TEST_SEED = 2024
_SLOWEST_AXIS = 0.08
"""An intent moves no axis slower than this fraction of the top speed: the slow end of what a person would name."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Embodiment:
    """How one robot turns intents into recorded actions.

    Attributes:
        name: after the public data set whose rate and scale it borrows (`dataset_statistics` of Open X-Embodiment).
        rate_hz: control rate.
        scale: top translation and rotation per control step, in the data set's own units.
        backward_speed: top speed backward, right, down ... as a fraction of the one forward, left, up.
        inertia_seconds: time constant of the first-order lag between intent and action.
        wobble: standard deviation of the slow relative change of speed within a span.
        coupling: largest fraction of one axis's speed that leaks into another.
        drift: standard deviation of a slow bias on every axis.
        rest_jitter: standard deviation of the noise of an arm at rest.
        speed_jitter: further standard deviation per unit of speed.
        quantum: recorded steps are multiples of this.
        dead_zone: smaller values are recorded as zero.
        gripper_ramp: whether the level moves gradually through the event instead of jumping at its start.
        gripper_flicker: chance per second of a wrong level for one step.
        turns_about: axes that its tasks ever turn about; the others record jitter alone, and their quantiles are small.
    """

    name: str
    rate_hz: float
    scale: tuple[float, float]
    backward_speed: float = 1.0
    inertia_seconds: float = 0.1
    wobble: float = 0.15
    coupling: float = 0.03
    drift: float = 0.01
    rest_jitter: float = 0.02
    speed_jitter: float = 0.1
    quantum: float = 0.0
    dead_zone: float = 0.0
    gripper_ramp: bool = False
    gripper_flicker: float = 0.0
    turns_about: tuple[int, ...] = (3, 4, 5)


EMBODIMENTS = (
    Embodiment("fractal", 3, (0.2, 0.45), backward_speed=0.8, inertia_seconds=0.15, speed_jitter=0.15),
    Embodiment("bridge", 5, (0.04, 0.12), rest_jitter=0.03, speed_jitter=0.15, gripper_flicker=0.02),
    Embodiment("ur5", 5, (0.02, 0.05), quantum=0.25, rest_jitter=0.0, speed_jitter=0.05),
    Embodiment("fanuc", 10, (0.01, 0.035), quantum=0.1, dead_zone=0.05, inertia_seconds=0.05),
    Embodiment("furniture", 10, (0.05, 0.5), backward_speed=0.6, wobble=0.3, gripper_flicker=0.05),
    Embodiment("taco", 15, (0.9, 1.2), backward_speed=1.5, drift=0.03, speed_jitter=0.2),
    Embodiment("droid", 15, (0.03, 0.08), rest_jitter=0.04, speed_jitter=0.25, coupling=0.06, gripper_ramp=True),
    Embodiment("libero", 20, (0.94, 0.25), dead_zone=0.02, inertia_seconds=0.08, turns_about=(5,)),
    Embodiment("viola", 20, (0.95, 0.3), backward_speed=0.5, inertia_seconds=0.2, wobble=0.3, turns_about=(4, 5)),
    Embodiment("toto", 30, (0.012, 0.03), inertia_seconds=0.15, drift=0.02, speed_jitter=0.3, coupling=0.05),
    Embodiment("kinesthetic", 50, (0.004, 0.01), rest_jitter=0.08, speed_jitter=0.4, drift=0.03, coupling=0.06),
    Embodiment("teleoperated", 50, (0.008, 0.02), quantum=0.05, inertia_seconds=0.1, wobble=0.3, gripper_ramp=True),
)


@dataclass(frozen=True)
class _Span:
    """One intent: `[6]` signed speeds (x, y, z, roll, pitch, yaw), a gripper event (-1, 0, +1), a length in steps."""

    speeds: Floats
    gripper: int
    steps: int


def synthetic_corpora(seed: int, embodiments: tuple[Embodiment, ...] = EMBODIMENTS) -> list[Corpus]:
    """Render one split of every embodiment; other seeds are other splits."""
    corpora = []
    for index, embodiment in enumerate(embodiments):
        rng = np.random.default_rng([seed, index])
        episodes = tuple(synthetic_episode(embodiment, rng) for _ in range(EPISODES_A_SPLIT))
        corpora.append(Corpus(embodiment.name, embodiment.rate_hz, episodes))
    return corpora


def synthetic_episode(embodiment: Embodiment, rng: np.random.Generator) -> LabelledEpisode:
    """Draw the intents of one episode and render them."""
    spans = _draw_spans(embodiment, rng)
    steps = [span.steps for span in spans]
    speeds = np.repeat([span.speeds for span in spans], steps, axis=0)
    events = np.repeat([span.gripper for span in spans], steps)
    tilt = np.where(speeds[:, 3] != 0, speeds[:, 3], speeds[:, 4])
    slots = np.sign(np.column_stack([speeds[:, :3], tilt, speeds[:, 5], events])).astype(np.int8)
    actions = np.column_stack([_render_motion(embodiment, speeds, rng), _render_gripper(embodiment, spans, rng)])
    assert slots.shape == (len(actions), len(SLOTS))
    return LabelledEpisode(actions, slots)


def _draw_spans(embodiment: Embodiment, rng: np.random.Generator) -> list[_Span]:
    spans: list[_Span] = []
    opened, elapsed = True, 0
    while elapsed < EPISODE_SECONDS * embodiment.rate_hz:
        kind = rng.choice(["move", "turn", "both", "pause", "gripper"], p=[0.5, 0.1, 0.12, 0.13, 0.15])
        if not spans:  # a recording starts at rest, and a gripper event needs a step before it
            kind = "pause"
        seconds = float(np.clip(rng.lognormal(0.0, 0.6), 0.35, 4.0))
        speeds = _draw_speeds(kind, embodiment.turns_about, rng)
        gripper = 0
        if kind == "gripper":
            opened = not opened
            gripper = 1 if opened else -1
            seconds = rng.uniform(0.35, 0.9)
        spans.append(_Span(speeds, gripper, max(2, round(seconds * embodiment.rate_hz))))
        elapsed += spans[-1].steps
    return spans


def _draw_speeds(kind: str, turns_about: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Signed speeds `[6]`, log-uniform overall, with axes of a composite motion unequally fast."""
    speeds = np.zeros(6)
    axes: list[int] = []
    if kind in ("move", "both") or (kind == "gripper" and rng.random() < 0.25):
        count = rng.choice([1, 2, 3], p=[0.4, 0.35, 0.25])
        axes += rng.choice(3, size=count, replace=False).tolist()
    if kind in ("turn", "both"):
        odds = np.array([0.2, 0.3, 0.5])[np.subtract(turns_about, 3)]
        axes.append(int(rng.choice(turns_about, p=odds / odds.sum())))
    overall = np.exp(rng.uniform(np.log(0.2), 0.0))
    for axis in axes:
        speeds[axis] = rng.choice([-1, 1]) * max(_SLOWEST_AXIS, overall * rng.uniform(0.3, 1.0))
    return speeds


def _render_motion(embodiment: Embodiment, speeds: Floats, rng: np.random.Generator) -> Floats:
    """Turn `[T, 6]` intended speeds into recorded steps in the embodiment's units."""
    velocity = np.where(speeds < 0, embodiment.backward_speed, 1.0) * speeds
    velocity = velocity * (1 + _slow_noise(embodiment.wobble, 0.3 * embodiment.rate_hz, velocity.shape, rng))
    keep = np.exp(-1 / (embodiment.inertia_seconds * embodiment.rate_hz))
    velocity = lfilter([1 - keep], [1, -keep], velocity, axis=0)
    leak = rng.uniform(-embodiment.coupling, embodiment.coupling, (6, 6))
    np.fill_diagonal(leak, 1.0)
    velocity = velocity @ leak
    pace = np.linalg.norm(velocity, axis=1, keepdims=True)
    jitter = (embodiment.rest_jitter + embodiment.speed_jitter * pace) * rng.normal(size=velocity.shape)
    recorded = velocity + jitter + _slow_noise(embodiment.drift, 2 * embodiment.rate_hz, velocity.shape, rng)
    recorded[np.abs(recorded) < embodiment.dead_zone] = 0.0
    if embodiment.quantum:
        recorded = np.round(recorded / embodiment.quantum) * embodiment.quantum
    top: Floats = recorded * np.repeat(embodiment.scale, 3)
    return top


def _render_gripper(embodiment: Embodiment, spans: list[_Span], rng: np.random.Generator) -> Floats:
    level = 1.0
    parts = []
    for span in spans:
        target = level if span.gripper == 0 else float(span.gripper > 0)
        if embodiment.gripper_ramp and span.gripper:
            parts.append(np.linspace(level, target, span.steps + 1)[1:])
        else:
            parts.append(np.full(span.steps, target))
        level = target
    levels = np.concatenate(parts)
    wrong = rng.random(len(levels)) < embodiment.gripper_flicker / embodiment.rate_hz
    return np.where(wrong, 1 - levels, levels)


def _slow_noise(deviation: float, steps: float, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """First-order autoregressive noise with the given standard deviation and correlation time."""
    keep = np.exp(-1 / max(steps, 1e-9))
    noise: Floats = lfilter([np.sqrt(1 - keep**2)], [1, -keep], rng.normal(size=shape), axis=0)
    return deviation * noise

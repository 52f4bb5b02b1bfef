"""The nouns of an evaluation: what flows between a suite, a policy and a record.

Everything here is a frozen dataclass of plain data and NumPy arrays; nothing here imports a simulator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evals.spaces import ActionSpace, StateSpace

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

SuccessRule = Literal["first", "ever", "last"]


PARTIAL = "partial."


def digest(value: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of a JSON-serialisable value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Camera:
    """A named camera as the policy sees it: `[height, width, 3]` uint8 RGB, upright."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class Task:
    """One task of a suite; tasks are keyed by `id`, since instructions repeat (LIBERO-90 has 74 for 90 tasks)."""

    id: int
    name: str
    instruction: str
    max_steps: int


@dataclass(frozen=True)
class Protocol:
    """What must be equal for two success rates to be comparable; hashed into every result.

    Attributes:
        source: the published evaluation that this follows.
        simulator: packages and versions that produce the physics and pixels.
        settle_steps: control steps that pass before the first observation.
        settle_action: the action sent in them, 7 numbers.
        success: which success counts: at the first step it holds (the episode ends there), at any, or at the last.
        initial_states: official initial states per task.
        cameras: cameras, with the size in which images reach the policy.
        image_transform: what the adapter does to the simulator's image, in words ("rotated 180 degrees").
        max_steps: step limit of every task, by task id.
        extra: whatever else changes scores in this suite.
    """

    source: str
    simulator: str
    settle_steps: int
    settle_action: tuple[float, ...]
    success: SuccessRule
    initial_states: int
    cameras: tuple[Camera, ...]
    image_transform: str
    max_steps: tuple[int, ...]
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Sixteen hex digits that differ when any field differs."""
        return digest(asdict(self))


@dataclass(frozen=True)
class Suite:
    """A benchmark suite as data. Loading one never imports its simulator.

    Attributes:
        name: the name users type.
        tasks: its tasks, `tasks[i].id == i`.
        protocol: how episodes run and are scored.
        action_space: what it expects from a policy.
        state_space: what `Observation.state` holds.
        env: "module:callable"; the callable takes (suite, task, cameras) and returns an `Env`. It is called in a worker
            process only. No camera means that nothing will be drawn, and that no renderer is needed.
        expert: "module:callable", called as (suite, noise=metres, speed=factor, consistent_grasp=bool), that returns a
            privileged policy which solves the suite; or "".
        reference: JSON file of golden values for the gates: "package:path", a path relative to the folder of the module
            of `env`, a `Path` as it is, or "".
        extra_states: whether initial states beyond the official ones exist (seeded placements, marked not official).
        aliases: other names that users may type; records always have `name`.
    """

    name: str
    tasks: tuple[Task, ...]
    protocol: Protocol
    action_space: ActionSpace
    state_space: StateSpace
    env: str
    expert: str = ""
    reference: str | Path = ""
    extra_states: bool = False
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Episode:
    """One episode, by identity. What happens in it depends on this and on the policy alone."""

    suite: str
    task: int
    initial_state: int
    seed: int
    protocol_hash: str

    @property
    def id(self) -> str:
        """Sixteen hex digits: the hash of suite, task, initial state, seed and protocol."""
        return digest(asdict(self))

    def rng_seed(self, purpose: str) -> int:
        """Return a 32-bit seed for one purpose, equal under every protocol so that scenes stay paired."""
        return int(digest([self.suite, self.task, self.initial_state, self.seed, purpose])[:8], 16)

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a generator for one purpose, seeded by `rng_seed`."""
        return np.random.default_rng(self.rng_seed(purpose))


@dataclass(frozen=True)
class Observation:
    """What a policy may see before it acts.

    Attributes:
        episode: identity of the episode, so that a stateful policy keeps its state by episode.
        step: control steps since the episode began (settle steps not counted).
        instruction: the task in words.
        images: camera name -> `[H, W, 3]` uint8 RGB, upright.
        state: `[len(StateSpace.names)]` float64.
    """

    episode: Episode
    step: int
    instruction: str
    images: Mapping[str, Image]
    state: FloatArray


@dataclass(frozen=True)
class Step:
    """What an environment returns from `reset` and `step`.

    Attributes:
        success: whether the task's success rule holds now.
        observation: present if and only if `render` was asked for.
        sim_state: `[N]` float64, the simulator's full state; equal states continue equally under equal actions.
        render_seconds: the part of the call that drew images.
        partial: outcomes short of success that the benchmark counts too, by name, as they stand in this episode now.
            The first is printed beside the success rate. Benchmarks that count none leave it empty.
    """

    success: bool
    observation: Observation | None
    sim_state: FloatArray
    render_seconds: float = 0.0
    partial: Mapping[str, bool] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class ActionChunk:
    """What a policy answers to one observation.

    Attributes:
        actions: `[K, 7]` float64, to be run in order; the runner may replan before the chunk ends.
        motion: the motion sentence that the policy said (or an expert intends), if it speaks.
    """

    actions: FloatArray
    motion: str | None = None


class Status(StrEnum):
    """How an episode ended. Only `SUCCESS` and `FAILURE` are scores; the rest is missing data."""

    SUCCESS = "success"
    FAILURE = "failure"
    POLICY_ERROR = "policy_error"
    SIM_ERROR = "sim_error"
    TIMEOUT = "timeout"

    @property
    def scored(self) -> bool:
        """Whether the episode counts in a success rate."""
        return self in (Status.SUCCESS, Status.FAILURE)


@dataclass(frozen=True)
class Seconds:
    """Where an episode's wall time went."""

    physics: float = 0.0
    render: float = 0.0
    policy: float = 0.0
    reset: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of an episode.

    Attributes:
        success_first: control step after which the success rule first held, or None.
        success_ever: whether it held after any step.
        success_last: whether it held after the last step.
        success_at_reset: whether it held before the first action (free points).
        trajectory_hash: hash of every action and every simulator state; equal for equal trajectories.
        scene_hash: hash of what the simulator state does not hold, fixture poses included, after reset.
        partial: the last step's `Step.partial`.
    """

    success_first: int | None = None
    success_ever: bool = False
    success_last: bool = False
    success_at_reset: bool = False
    steps: int = 0
    seconds: Seconds = field(default_factory=Seconds)
    trajectory_hash: str = ""
    scene_hash: str = ""
    partial: Mapping[str, bool] = field(default_factory=dict, hash=False)

    def succeeded(self, rule: SuccessRule) -> bool:
        """Return whether it counts as a success by a rule."""
        return self.success_last if rule == "last" else self.success_ever


@dataclass(frozen=True)
class EpisodeResult:
    """One line of `episodes.jsonl`: an episode's identity, its `Outcome`, and how it was run.

    Attributes:
        official: whether the initial state is one of the protocol's.
        partial: in the line, each is a field `partial.<name>`.
    """

    suite: str
    task: int
    initial_state: int
    seed: int
    episode_id: str
    status: Status
    success_first: int | None
    success_ever: bool
    success_last: bool
    success_at_reset: bool
    official: bool
    steps: int
    seconds: Seconds
    trajectory_hash: str
    scene_hash: str
    protocol_hash: str
    worker: int
    attempt: int
    error: str | None = None
    partial: Mapping[str, bool] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` is the inverse."""
        data = asdict(self)
        partial = data.pop("partial")
        return data | {PARTIAL + name: holds for name, holds in partial.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EpisodeResult:
        """Build a result from `to_json` data.

        Raises:
            TypeError: a field is missing, unknown or of another type.
            ValueError: the status is unknown, a number is out of range, or a partial outcome is neither true nor false.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"it is {type(data).__name__}, expected an object")
        fields = dict(data)
        fields["status"] = Status(fields.get("status", ""))
        fields["seconds"] = Seconds(**fields.get("seconds", {}))
        partial = {name: fields.pop(name) for name in list(fields) if name.startswith(PARTIAL)}
        if not all(isinstance(holds, bool) for holds in partial.values()):
            raise ValueError(f"partial outcomes are true or false, got {partial}")
        fields["partial"] = {name.removeprefix(PARTIAL): holds for name, holds in partial.items()}
        result = cls(**fields)
        for name, declared in _DECLARED.items():
            value = getattr(result, name)
            if type(value).__name__ not in declared:
                raise TypeError(f"{name} is {value!r}, expected {' or '.join(declared)}")
            if type(value) is int and abs(value) >= 2 ** (63 if name == "seed" else 31):
                raise ValueError(f"{name} is out of range")
        for name, value in asdict(result.seconds).items():
            if type(value) not in (int, float):
                raise TypeError(f"seconds.{name} is {value!r}, expected a number")
        return result


# Field of a line -> names of the types that it may have; `cls(**fields)` checks none.
_DECLARED = {
    name: tuple(str(field.type).replace("None", "NoneType").split(" | "))
    for name, field in EpisodeResult.__dataclass_fields__.items()
    if name not in ("status", "seconds", "partial")
}

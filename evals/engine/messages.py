"""What a driver and its workers say to each other; plain picklable data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evals.engine.child import Surroundings
from evals.errors import UsageError
from evals.rollout import RolloutConfig
from evals.types import ActionChunk, Episode, Observation, Outcome, Status, Suite

Videos = Literal["none", "failures", "all"]
Phase = Literal["build", "reset", "step"]
LONGEST_SECONDS = 1e6  # what every platform can wait for


@dataclass(frozen=True)
class Deadlines:
    """Seconds of silence after which a worker counts as hung, by what it is doing, and the same for the policy.

    Attributes:
        build: Seconds in which a worker builds an env.
        reset: Seconds in which it resets it.
        step: Seconds in which it makes a step.
        policy: Seconds in which the policy is built, begins or ends an episode, or answers; twice the longest of the
            others by default. It lives in the process of the run, so that the run ends if it takes longer.
    """

    build: float = 300.0
    reset: float = 180.0
    step: float = 120.0
    policy: float | None = None

    def __post_init__(self) -> None:
        """Reject what is no time to wait."""
        for name, seconds in vars(self).items():
            if seconds is not None and not 0 < seconds <= LONGEST_SECONDS:
                raise UsageError(
                    f"--deadlines.{name} is {seconds}; seconds from more than 0 to {LONGEST_SECONDS:g} are expected."
                )

    @property
    def policy_seconds(self) -> float:
        """Seconds that the policy has for one call."""
        return 2 * max(self.build, self.reset, self.step) if self.policy is None else self.policy


@dataclass(frozen=True)
class WorkerSpec:
    """All that a worker process needs to know, once.

    Attributes:
        suite: the suite as data.
        cameras: cameras to draw.
        privileged: name and options of a policy that runs inside the worker, or None when the driver's policy is asked.
        rollout_config: how episodes are conducted.
        folder: run folder in which the worker writes traces and videos.
        surroundings: in which workers on this machine start.
        traces: whether to write `traces/<episode>.npz`.
        videos: which episodes to write as `videos/<episode>.mp4`.
    """

    suite: Suite
    cameras: tuple[str, ...]
    privileged: tuple[str, tuple[tuple[str, str], ...]] | None
    rollout_config: RolloutConfig
    folder: Path
    surroundings: Surroundings
    traces: bool = False
    videos: Videos = "none"


@dataclass(frozen=True)
class Assignment:
    """Driver to worker: run this episode."""

    episode: Episode
    attempt: int


@dataclass(frozen=True)
class Answer:
    """Driver to worker: the policy's chunk, or why there is none."""

    chunk: ActionChunk | None
    error: str = ""


@dataclass(frozen=True)
class Beat:
    """Worker to driver: alive, and in this phase."""

    phase: Phase


@dataclass(frozen=True)
class Built:
    """Worker to driver: an env stands; what draws its images."""

    renderer: str


@dataclass(frozen=True)
class Ask:
    """Worker to driver: what should the policy do here?"""

    observation: Observation


@dataclass(frozen=True)
class Report:
    """Worker to driver: the episode is over. Without `status.scored`, only `status` and `error` mean something."""

    status: Status
    error: str | None = None
    outcome: Outcome = field(default_factory=Outcome)


@dataclass(frozen=True)
class Lost:
    """Engine to runner: the worker died or hung, and its process is gone."""

    status: Status
    error: str


Message = Beat | Built | Ask | Report
Event = Built | Ask | Report | Lost

"""The messages between a driver and its workers, as plain data that can be pickled."""

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
    """Seconds of silence after which a worker or the policy counts as hung.

    Attributes:
        build: Seconds that a worker may take to build an env.
        reset: Seconds that a worker may take to reset an env.
        step: Seconds that a worker may take for one step of an env.
        policy: Seconds that the policy may take to be built, to begin or end an episode, or to answer; by default twice
            the longest of the other deadlines. The policy runs in the main process, so a longer wait ends the run.
    """

    build: float = 300.0
    reset: float = 180.0
    step: float = 120.0
    policy: float | None = None

    def __post_init__(self) -> None:
        """Reject deadlines that are not positive or too long to wait for."""
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
    """Everything that a worker process needs to know about the run; it is sent once, at the start.

    Attributes:
        suite: the suite as data.
        cameras: names of the cameras to render.
        privileged: name and options of a policy that runs inside the worker, or None if the driver's policy is asked.
        rollout_config: options of every rollout.
        folder: run folder in which the worker writes traces and videos.
        surroundings: environment in which workers on this machine start.
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
    """Sent from the driver to a worker: run this episode."""

    episode: Episode
    attempt: int


@dataclass(frozen=True)
class Answer:
    """Sent from the driver to a worker: the policy's action chunk, or the error because of which there is none."""

    chunk: ActionChunk | None
    error: str = ""


@dataclass(frozen=True)
class Beat:
    """Sent from a worker to the driver: the worker is alive and in this phase."""

    phase: Phase


@dataclass(frozen=True)
class Built:
    """Sent from a worker to the driver: an env is built, and this renderer draws its images."""

    renderer: str


@dataclass(frozen=True)
class Ask:
    """Sent from a worker to the driver: the policy is asked for its next action chunk."""

    observation: Observation


@dataclass(frozen=True)
class Report:
    """Sent from a worker to the driver: the episode is over.

    The fields are those of `EpisodeResult`. If `status.scored` is false, only `status` and `error` have a meaning.
    """

    status: Status
    error: str | None = None
    outcome: Outcome = field(default_factory=Outcome)


@dataclass(frozen=True)
class Lost:
    """Sent from the engine to the driver: the worker died or hung, and its process has ended."""

    status: Status
    error: str


Message = Beat | Built | Ask | Report
Event = Built | Ask | Report | Lost

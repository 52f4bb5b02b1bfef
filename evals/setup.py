"""A run that has been checked and can start."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from evals.caller import Caller, build_policy
from evals.config import RunConfig, plan, working_directory
from evals.contract import Policy, PrivilegedPolicy
from evals.engine.child import Surroundings
from evals.engine.messages import WorkerSpec
from evals.errors import ContractError, RunFolderError, SpaceMismatchError
from evals.fingerprint import former_hash, hash_path
from evals.gates import space_differences
from evals.record.header import read_header
from evals.registry import load_suite
from evals.rollout import RolloutConfig
from evals.types import Episode, Suite
from evals.video import require_video


@dataclass(frozen=True)
class Setup:
    """A run that has been checked and can start.

    Attributes:
        replan_every: number of actions of a chunk that run before the policy is asked again.
        caller: calls the policy on the thread on which it was built; None if the policy was built elsewhere.
        surroundings: working directory and environment variables from before the policy was built.
    """

    config: RunConfig
    suite: Suite
    policy: Policy
    replan_every: int
    episodes: list[Episode]
    caller: Caller | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)

    @property
    def started_in(self) -> Path:
        """The working directory to which paths are relative; building a policy may change that of the process."""
        return self.surroundings.directory

    @property
    def folder(self) -> Path:
        """Absolute path of the run folder, also if the policy changes the working directory."""
        return self.started_in / self.config.folder()

    @property
    def video_camera(self) -> str:
        """Name of the camera whose images become the video, or ""."""
        seen = (*self.policy.cameras, self.suite.protocol.cameras[0].name)
        return "" if self.config.video == "none" else seen[0]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras to render: those that the policy needs, and the camera of the video."""
        return tuple(dict.fromkeys((*self.policy.cameras, *filter(None, [self.video_camera]))))

    def spec(self) -> WorkerSpec:
        """Return what a worker needs to know."""
        config = self.config
        privileged = isinstance(self.policy, PrivilegedPolicy)
        return WorkerSpec(
            suite=self.suite,
            cameras=self.cameras,
            privileged=(config.policy, tuple(config.options().items())) if privileged else None,
            rollout_config=RolloutConfig(self.replan_every, self.video_camera, self.cameras),
            folder=self.folder,
            surroundings=self.surroundings,
            traces=config.traces,
            videos=config.video,
        )

    def checkpoint_hash(self) -> str:
        """Return the hash of the policy's weights, or "" for a policy without weights.

        A run that was started by an earlier version keeps the hash which that version gave to the same weights.

        Raises:
            UsageError: the weights do not exist.
            ContractError: the policy's `checkpoint` is not a path.
        """
        weights = self.config.checkpoint or getattr(self.policy, "checkpoint", None)
        if not weights:
            return ""
        if not isinstance(weights, str | os.PathLike):
            raise ContractError(
                f"Policy {self.config.policy!r}: checkpoint is {type(weights).__name__}, expected a path or None."
            )
        path = self.started_in / os.fspath(weights)
        found = hash_path(path)
        try:
            recorded = read_header(self.folder).config.get("policy_args", {}).get("checkpoint", found)
        except (RunFolderError, AttributeError):
            return found  # none is recorded yet, or the recorder will say what is wrong with it
        return former_hash(path) if recorded not in ("", found) and recorded == former_hash(path) else found


def prepare(config: RunConfig, suite: Suite | None = None, policy: Policy | None = None) -> Setup:
    """Load the plugins and check that they fit.

    Args:
        config: what is asked for.
        suite: the suite, unless it is the plugin that the configuration names.
        policy: the same for the policy.

    Raises:
        UsageError: a name, option or number is wrong, or policy and suite disagree on what numbers mean.
        ContractError: a plugin does not load.
    """
    working_directory()
    suite = suite or load_suite(config.suite)
    if config.suite in suite.aliases:
        config = replace(config, suite=suite.name)  # records have one name for it
    episodes = plan(config, suite)
    surroundings = Surroundings()
    caller = Caller(config.policy, config.deadlines.policy_seconds)
    policy = policy or build_policy(caller, config.policy, suite, config.options())
    unlike = space_differences(suite, policy)
    if unlike:
        raise SpaceMismatchError(config.policy, suite.name, unlike)
    if config.video != "none":
        require_video()
    replan_every = policy.replan_every if config.replan_every is None else config.replan_every
    if not isinstance(replan_every, int) or replan_every < 1:
        raise ContractError(f"Policy {config.policy!r} declares replan_every {replan_every!r}; at least 1 is expected.")
    return Setup(config, suite, policy, replan_every, episodes, caller, surroundings)

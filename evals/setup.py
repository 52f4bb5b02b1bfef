"""A run that has been checked and can start."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from evals.config import RunConfig, plan, working_directory
from evals.contract import Policy, PrivilegedPolicy
from evals.engine.messages import WorkerSpec
from evals.errors import ContractError, RunFolderError, SpaceMismatchError
from evals.fingerprint import former_hash, hash_path
from evals.gates import space_differences
from evals.header import read_header
from evals.registry import load_policy, load_suite
from evals.rollout import Conduct
from evals.types import Episode, Suite
from evals.video import require_video


@dataclass(frozen=True)
class Setup:
    """A run that has been checked and can start.

    Attributes:
        started_in: the working directory that paths are relative to; a policy may change it while it is built.
    """

    config: RunConfig
    suite: Suite
    policy: Policy
    replan_every: int
    episodes: list[Episode]
    started_in: Path = Path()

    @property
    def folder(self) -> Path:
        """The run folder, absolute if the run was prepared by `prepare`."""
        return self.started_in / self.config.folder()

    @property
    def film(self) -> str:
        """Camera that is filmed, or ""."""
        seen = (*self.policy.cameras, self.suite.protocol.cameras[0].name)
        return "" if self.config.video == "none" else seen[0]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras that are drawn: those that the policy needs, and the one that is filmed."""
        return tuple(dict.fromkeys((*self.policy.cameras, *filter(None, [self.film]))))

    def spec(self) -> WorkerSpec:
        """Return what a worker needs to know."""
        config = self.config
        privileged = isinstance(self.policy, PrivilegedPolicy)
        return WorkerSpec(
            suite=self.suite,
            cameras=self.cameras,
            privileged=(config.policy, tuple(config.options().items())) if privileged else None,
            conduct=Conduct(self.replan_every, self.film),
            folder=self.folder.resolve(),
            traces=config.traces,
            videos=config.video,
        )

    def checkpoint_hash(self) -> str:
        """Return the hash of the policy's weights, or "" for one without.

        A run that an earlier version began keeps the hash which that version gave the same weights.

        Raises:
            UsageError: the weights are not there.
            ContractError: what the policy names is no path.
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


def prepare(config: RunConfig) -> Setup:
    """Load the plugins and check that they fit.

    Raises:
        UsageError: a name, option or number is wrong, or policy and suite disagree on what numbers mean.
        ContractError: a plugin does not load.
    """
    here = working_directory()
    suite = load_suite(config.suite)
    if config.suite in suite.aliases:
        config = replace(config, suite=suite.name)  # records have one name for it
    episodes = plan(config, suite)
    policy = load_policy(config.policy, suite, config.options())
    unlike = space_differences(suite, policy)
    if unlike:
        raise SpaceMismatchError(config.policy, suite.name, unlike)
    if config.video != "none":
        require_video()
    return Setup(config, suite, policy, config.replan_every or policy.replan_every, episodes, here)

"""A run that has been checked and can start."""

from __future__ import annotations

from dataclasses import dataclass

from evals.config import RunConfig, plan
from evals.contract import Policy, PrivilegedPolicy
from evals.engine.messages import WorkerSpec
from evals.errors import SpaceMismatchError
from evals.gates import space_differences
from evals.registry import load_policy, load_suite
from evals.rollout import Conduct
from evals.types import Episode, Suite
from evals.video import require_video


@dataclass(frozen=True)
class Setup:
    """A run that has been checked and can start."""

    config: RunConfig
    suite: Suite
    policy: Policy
    replan_every: int
    episodes: list[Episode]

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
            folder=config.folder().resolve(),
            traces=config.traces,
            videos=config.video,
        )


def prepare(config: RunConfig) -> Setup:
    """Load the plugins and check that they fit.

    Raises:
        UsageError: a name, option or number is wrong, or policy and suite disagree on what numbers mean.
    """
    suite = load_suite(config.suite)
    episodes = plan(config, suite)
    policy = load_policy(config.policy, suite, config.options())
    unlike = space_differences(suite, policy)
    if unlike:
        raise SpaceMismatchError(config.policy, suite.name, unlike)
    if config.video != "none":
        require_video()
    return Setup(config, suite, policy, config.replan_every or policy.replan_every, episodes)

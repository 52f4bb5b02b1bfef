"""The policy plugin `expert`: whichever scripted expert a suite names."""

from __future__ import annotations

from collections.abc import Callable

from evals.contract import Policy
from evals.errors import UsageError
from evals.registry import load_object
from evals.types import Suite


def expert(suite: Suite, *, noise: float = 0.0, speed: float = 1.0, consistent_grasp: bool = False) -> Policy:
    """Build the scripted, privileged expert of a suite.

    Args:
        suite: a suite whose `expert` names "module:callable", called as (suite, noise=..., speed=...,
            consistent_grasp=...).
        noise: standard deviation in metres by which it strays from its path; 0 makes it deterministic.
        speed: factor on how fast it moves.
        consistent_grasp: of several ways that would do, take the same one in as many scenes as it can, where it
            knows how.

    Raises:
        UsageError: the suite has no expert.
    """
    if not suite.expert:
        raise UsageError(f"Suite {suite.name!r} has no expert: its `Suite.expert` is empty. Choose another policy.")
    build: Callable[..., Policy] = load_object(suite.expert)
    return build(suite, noise=noise, speed=speed, consistent_grasp=consistent_grasp)

"""The policy plugin `expert`: the scripted expert that a suite names."""

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
        noise: standard deviation, in metres, of the noise on the expert's movements; 0 makes it deterministic.
        speed: factor on the expert's speed.
        consistent_grasp: whether the expert grasps an object in the same way in as many scenes as possible, if it can
            choose.

    Raises:
        UsageError: the suite has no expert.
    """
    if not suite.expert:
        raise UsageError(f"Suite {suite.name!r} has no expert: its `Suite.expert` is empty. Choose another policy.")
    build: Callable[..., Policy] = load_object(suite.expert)
    return build(suite, noise=noise, speed=speed, consistent_grasp=consistent_grasp)

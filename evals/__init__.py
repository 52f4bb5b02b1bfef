"""Evaluate vision-language-action policies, with numbers that can be trusted.

The names in `__all__`, `evals.errors` and `evals.conformance` are public and stay; every other module may move.
They are imported when they are first used, so that a worker which needs `evals.types` loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evals.api import evaluate, policy
    from evals.contract import Env, Policy, PrivilegedPolicy, one_at_a_time
    from evals.record import Run, read_run
    from evals.registry import load_policy, load_suite
    from evals.spaces import ActionSpace, StateSpace
    from evals.summary import Summary
    from evals.types import (
        ActionChunk,
        Camera,
        Episode,
        EpisodeResult,
        Observation,
        Protocol,
        Status,
        Step,
        Suite,
        Task,
    )

__all__ = [
    "ActionChunk",
    "ActionSpace",
    "Camera",
    "Env",
    "Episode",
    "EpisodeResult",
    "Observation",
    "Policy",
    "PrivilegedPolicy",
    "Protocol",
    "Run",
    "StateSpace",
    "Status",
    "Step",
    "Suite",
    "Summary",
    "Task",
    "evaluate",
    "load_policy",
    "load_suite",
    "one_at_a_time",
    "policy",
    "read_run",
]
_MODULES = ("types", "spaces", "contract", "record", "registry", "summary", "api")


def __getattr__(name: str) -> object:
    """Import a public name."""
    if name in __all__:
        for module in (import_module(f"evals.{place}") for place in _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'evals' has no public name {name!r}")

"""Evaluate vision-language-action policies, with numbers that can be trusted.

The names in `__all__`, `evals.errors` and `evals.conformance` are public and stay; every other module may move.
"""

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

"""The harness as functions: what `vla-eval --suite S --policy P` does, for a script, a notebook or a training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.config import RunConfig
from evals.contract import Policy, PrivilegedPolicy
from evals.driver import Progress
from evals.errors import RunFolderError, UsageError
from evals.policies.function import FunctionPolicy
from evals.progress import Quiet
from evals.record import HEADER
from evals.runner import run
from evals.setup import prepare
from evals.spaces import ActionSpace, StateSpace
from evals.summary import Summary
from evals.types import ActionChunk, FloatArray, Observation, Suite


def evaluate(
    policy: str | Policy,
    suite: str | Suite,
    *,
    tasks: Sequence[int | str] = (),
    trials: int | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,  # noqa: ANN401 - the fields of RunConfig, which checks them
) -> Summary:
    """Run a policy in a suite, record every episode, and return the success rates.

    A run folder that holds a part of the run is continued, as on the command line. Call it under
    `if __name__ == "__main__":` in a script, since workers are processes that import the script.

    Args:
        policy: name of a plugin, or an object that keeps `evals.Policy` (`evals.policy` makes one of a function).
        suite: name of a plugin, or a `Suite`.
        tasks: ids or names of the tasks to run; all by default.
        trials: initial states of each task, from 0; the protocol's number by default.
        out: run folder; results/runs/SUITE/POLICY/seedSEED by default.
        progress: is told of every episode; nothing is printed by default (`evals.progress.ConsoleProgress`).
        options: any other field of `evals.config.RunConfig`: seed, workers, checkpoint, gates, traces, ... ;
            `policy_args` may be a mapping.

    Returns:
        The rows of all tasks and their mean. Episodes that crashed count in `total("missing")`, never as failures.

    Raises:
        UsageError: a name, option or number is wrong; policy and suite disagree on what numbers mean; the folder
            holds a run of an object whose answers today nobody can vouch for.
        GateError: a convention probe failed.
        RunIncompleteError: nothing works; what was recorded stays.
    """
    options |= {"tasks": tuple(map(str, tasks)), "trials": trials, "out": None if out is None else Path(out)}
    suite_name, policy_name = (given if isinstance(given, str) else given.name for given in (suite, policy))
    config = _config(suite_name, policy_name, options)
    if not isinstance(policy, str):
        _check_object(policy, config)
    setup = prepare(config, None if isinstance(suite, str) else suite, None if isinstance(policy, str) else policy)
    return run(setup, progress or Quiet())


def policy(
    function: Callable[[Observation], ActionChunk | FloatArray],
    *,
    action_space: ActionSpace,
    state_space: StateSpace | None = None,
    cameras: Sequence[str] = (),
    replan_every: int = 1,
    name: str = "",
) -> FunctionPolicy:
    """Make a policy of a function from one observation to its actions.

    Args:
        function: gets an `Observation`, returns `[7]` or `[K, 7]` numbers, or an `ActionChunk` with a motion sentence.
        action_space: what its numbers mean; a suite that means something else refuses the run.
        state_space: what it reads from `Observation.state`, or None if it does not read it.
        cameras: names of the cameras that it looks at; others are not drawn.
        replan_every: actions of an answer that are run before it is asked again.
        name: names the run folder; the function's own name by default.
    """
    return FunctionPolicy(
        name or getattr(function, "__name__", "policy"),
        function,
        action_space,
        state_space,
        tuple(cameras),
        replan_every,
    )


def _config(suite: str, policy: str, options: dict[str, Any]) -> RunConfig:
    """Return what is asked for, as the command line would say it."""
    arguments = options.pop("policy_args", ())
    if isinstance(arguments, Mapping):
        arguments = [f"{name}={value}" for name, value in arguments.items()]
    try:
        return RunConfig(suite, policy, tuple(arguments), **options)
    except TypeError as error:
        raise UsageError(f"evaluate: {error}. Options are the fields of evals.config.RunConfig.") from error


def _check_object(policy: Policy, config: RunConfig) -> None:
    """Refuse what only a plugin's name can do."""
    if isinstance(policy, PrivilegedPolicy):
        raise UsageError(
            f"Policy {policy.name!r} reads the simulator, so it is built inside the workers: offer it as a plugin and "
            "give its name."
        )
    if (config.folder() / HEADER).exists() and not getattr(policy, "checkpoint", None):
        raise RunFolderError(
            f"{config.folder()} holds a run of {policy.name!r}, and nothing says that the function is still the same. "
            "Give out= a new folder, or the policy a `checkpoint` attribute whose hash identifies it."
        )

"""The options of a run. `RunConfig` defines the command line of `vla-eval`, and all of it is saved with the result."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from evals.engine.messages import Deadlines, Videos
from evals.errors import UnknownNameError, UsageError
from evals.record.header import CONDITIONS
from evals.types import Episode, Suite

MOST = 1_000_000  # episodes of one run


@dataclass(frozen=True)
class RunConfig:
    """Run a policy in a suite, record every episode, and print success rates with confidence intervals.

    The same command continues a run that was stopped, and runs only the episodes that are missing.

    Attributes:
        suite: Suite to run; `vla-eval list` names all suites.
        policy: Policy to run; `vla-eval list` names all policies.
        policy_args: Options of the policy, as key=value.
        checkpoint: File or folder with the policy's weights; the hash of the weights is recorded.
        tasks: Ids or names of the tasks to run; all tasks by default.
        trials: Number of initial states to run of each task, from state 0; the protocol's number by default.
        seed: Seed of all random numbers; each episode mixes in its own task and initial state.
        workers: Number of worker processes; one per physical core by default.
        engine: Where workers run: on this machine, or on a Ray cluster.
        out: Folder of the run; results/runs/SUITE/POLICY/seedSEED by default.
        replan_every: Number of actions of a chunk that run before the policy is asked for the next chunk; the policy's
            own number by default.
        exact: Ask the policy about one observation at a time, so that no answer can depend on the rest of a batch.
        video: Which episodes are saved as video, from the first camera and with every step.
        traces: Save the actions, motion sentences and simulator states of every episode.
        gates: Test the conventions of the suite and the policy with gates before the first episode.
        sensitivity: Before the first episode, ask the policy about made-up observations that differ in one input, and
            record what does not change its answer, or refuse a policy whose answer no picture changes.
        condition: Conditions by which tables group this run, as key=value, where key is one of size, init,
            pretrain_target, motion, method.
        until_decided: Folder of a run to compare with; the new run stops as soon as an anytime-valid test has decided
            between the two.
        minimum_difference: Smallest difference in success rate that the test of --until-decided looks for; 0.1 by
            default.
        deadlines: Seconds of silence after which a worker is killed, or the run ends because of the policy.
        other_versions: Continue the run even if another version of the simulator started it.
        format: Format in which the success rates are printed.
    """

    suite: str
    policy: str = "motion_tiny"
    policy_args: tuple[str, ...] = ()
    checkpoint: Path | None = None
    tasks: tuple[str, ...] = ()
    trials: int | None = None
    seed: int = 0
    workers: int | None = None
    engine: Literal["local", "ray"] = "local"
    out: Path | None = None
    replan_every: int | None = None
    exact: bool = False
    video: Videos = "none"
    traces: bool = False
    gates: bool = True
    sensitivity: Literal["off", "record", "refuse"] = "off"
    condition: tuple[str, ...] = ()
    until_decided: Path | None = None
    minimum_difference: float | None = None
    deadlines: Deadlines = field(default_factory=Deadlines)
    other_versions: bool = False
    format: Literal["table", "markdown", "csv", "json"] = "table"

    def __post_init__(self) -> None:
        """Reject numbers and names that no run can have, before anything is loaded."""
        bounds = {"workers": (1, 2**31), "trials": (1, MOST + 1), "seed": (0, 2**63), "replan_every": (1, 2**31)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if value is not None and not low <= value < high:
                bound = f"at least {low}" if value < low else f"at most {high - 1}"
                raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be {bound}.")
        self._check_comparison()
        self.named_conditions()
        if self.checkpoint is not None and not self.checkpoint.exists():
            raise UsageError(f"--checkpoint: no file or folder {str(self.checkpoint)!r} exists.")
        self.options()

    def _check_comparison(self) -> None:
        difference = self.minimum_difference
        if difference is None:
            return
        if self.until_decided is None:
            raise UsageError("--minimum-difference is for --until-decided RUN, which is not given.")
        if not (math.isfinite(difference) and 0 <= difference < 1):
            raise UsageError(
                f"--minimum-difference is {difference}; a difference of success rates in [0, 1) is expected."
            )

    def named_conditions(self) -> dict[str, str]:
        """Return the conditions by which tables group this run, as name -> value.

        Raises:
            UsageError: a condition is not written as key=value, or no table knows its key.
        """
        conditions = key_values("--condition", self.condition)
        for name in conditions:
            if name not in CONDITIONS:
                raise UnknownNameError("condition", name, CONDITIONS)
        return conditions

    def options(self) -> dict[str, str]:
        """Return the policy's options as name -> text, including the checkpoint."""
        options = key_values("--policy-args", self.policy_args)
        if self.checkpoint is not None:
            if "checkpoint" in options:
                raise UsageError("--checkpoint and --policy-args checkpoint=... are the same: give one of them.")
            options["checkpoint"] = str(self.checkpoint)
        return options

    def folder(self) -> Path:
        """Return the run folder."""
        return self.out or Path("results", "runs", self.suite, self.policy, f"seed{self.seed}")

    def worker_count(self) -> int:
        """Return the number of worker processes; by default one per physical core that this process may use."""
        known = hasattr(os, "sched_getaffinity")  # not on macOS
        allowed = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
        return self.workers or min(allowed, psutil.cpu_count(logical=False) or allowed)


def key_values(flag: str, texts: tuple[str, ...]) -> dict[str, str]:
    """Return "key=value" texts as a dict.

    Raises:
        UsageError: a text has no "=", or a key comes twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals) or key in pairs:
            raise UsageError(f"{flag} takes key=value, each key once; got {text!r}.")
        pairs[key] = value
    return pairs


def plan(config: RunConfig, suite: Suite) -> list[Episode]:
    """Return the episodes of a run, ordered by task and then by initial state.

    Raises:
        UsageError: a task is unknown, more trials are asked for than the suite has initial states, or there are more
            than `MOST` episodes.
    """
    official = suite.protocol.initial_states
    trials = config.trials or official
    if trials > official and not suite.extra_states:
        raise UsageError(f"--trials is {trials}, but {suite.name} has {official} initial states a task.")
    tasks = task_ids(suite, config.tasks)
    if len(tasks) * trials > MOST:
        raise UsageError(f"--trials is {trials}, for {len(tasks)} tasks: a run has up to {MOST} episodes. Use --seed.")
    return [
        Episode(suite.name, task, state, config.seed, suite.protocol.hash) for task in tasks for state in range(trials)
    ]


def task_ids(suite: Suite, texts: tuple[str, ...]) -> list[int]:
    """Return the task ids that the texts (names or ids) stand for, each once and in order; all tasks if there is none.

    Raises:
        UnknownNameError: a task is unknown.
    """
    return list(dict.fromkeys(_task_id(suite, text) for text in texts)) or [task.id for task in suite.tasks]


def _task_id(suite: Suite, text: str) -> int:
    ids = {task.name: task.id for task in suite.tasks} | {str(task.id): task.id for task in suite.tasks}
    if text not in ids:
        raise UnknownNameError(f"task of suite {suite.name!r}", text, (task.name for task in suite.tasks))
    return ids[text]


def identity(config: RunConfig, replan_every: int, checkpoint_hash: str) -> dict[str, Any]:
    """Return the part of a configuration that decides outcomes; a run can only be continued with the same values."""
    options = config.options()
    if checkpoint_hash:
        options["checkpoint"] = checkpoint_hash  # the same weights in another place are the same policy
    return {
        "suite": config.suite,
        "policy": config.policy,
        "policy_args": options,
        "seed": config.seed,
        "replan_every": replan_every,
        "exact": config.exact,
    }


def working_directory() -> Path:
    """Return the working directory of this process.

    Raises:
        UsageError: the directory was deleted.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError("The working directory no longer exists: cd to one that does, and try again.") from error

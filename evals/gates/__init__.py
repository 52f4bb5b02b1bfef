"""Gates: tests of a suite's conventions, without which a success rate has no meaning.

Each gate tries something in the real simulator and compares the result with what the suite declares. Every run starts
with the gates that `BEFORE_RUN` names; `vla-eval check` runs all of them (docs/decisions/0008-which-gates-run-when.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from evals import registry
from evals.caller import Caller, PolicyFailedError, build_policy
from evals.contract import Env, Policy, PrivilegedPolicy
from evals.engine.messages import Deadlines
from evals.errors import UnknownNameError
from evals.gates import episodes, golden, motion
from evals.gates.result import GateContext, GateResult, require
from evals.gates.sensitivity import sensitivity
from evals.spaces import differences
from evals.types import Suite, Task

__all__ = [
    "BEFORE_RUN",
    "GATES",
    "GateResult",
    "MakeEnv",
    "before_run",
    "check",
    "probe",
    "require",
    "run_gates",
    "sensitive",
    "space_differences",
    "spaces",
]

MakeEnv = Callable[[Suite, Task, tuple[str, ...]], Env]

GATES: Mapping[str, Callable[[GateContext], GateResult]] = {
    "outputs": episodes.outputs,
    "success_at_reset": episodes.success_at_reset,
    "initial_states": episodes.initial_states,
    "state": golden.state,
    "settle": golden.settle,
    "frame": golden.frame,
    "gripper": motion.gripper,
    "translation": motion.translation,
    "rotation": motion.rotation,
    "noop": episodes.noop,
    "expert": episodes.expert,
}
BEFORE_RUN = ("outputs", "success_at_reset", "initial_states", "state", "settle", "frame", "gripper")
_NEEDS_IMAGES = frozenset({"outputs", "frame"})


def spaces(suite: Suite, policy: Policy) -> GateResult:
    """Compare the policy's action and state spaces and cameras with those of the suite, without a simulator."""
    unlike = space_differences(suite, policy)
    return GateResult(
        "spaces",
        not unlike,
        f"spaces of policy {policy.name!r} and suite {suite.name!r}",
        "; ".join(unlike) or "agree",
        "convert in the policy's adapter and declare the suite's spaces there, or choose another suite",
    )


def space_differences(suite: Suite, policy: Policy) -> list[str]:
    """Return one line for each difference between the policy's spaces and cameras and those of the suite."""
    unlike = differences(policy.action_space, suite.action_space)
    if policy.state_space is not None:
        unlike += differences(policy.state_space, suite.state_space)
    cameras = [camera.name for camera in suite.protocol.cameras]
    return unlike + [
        f"policy needs camera {name!r}, suite has {cameras}" for name in policy.cameras if name not in cameras
    ]


def probe(
    env: Env, suite: Suite, task: int, cameras: tuple[str, ...], gates: Sequence[str] = BEFORE_RUN
) -> list[GateResult]:
    """Run gates on an env that was built for a task with these cameras.

    Raises:
        UnknownNameError: there is no gate of that name.
    """
    for name in gates:
        if name not in GATES:
            raise UnknownNameError("gate", name, GATES)
    context = GateContext(suite, env, task, cameras)
    return [GATES[name](context) for name in gates]


def check(
    suite: Suite,
    policy: Policy | None = None,
    *,
    make_env: MakeEnv = registry.make_env,
    probes: Sequence[str] | None = None,
    task: int = 0,
) -> list[GateResult]:
    """Run gates on two envs of one task: gates that need images on an env with all cameras, the others without cameras.

    Args:
        suite: the suite to test.
        policy: a policy whose spaces are compared with those of the suite.
        make_env: builds an env.
        probes: names of the gates to run; None runs all.
        task: id of the task of the envs.

    Raises:
        UnknownNameError: there is no gate of that name, or no task of that id.
    """
    if task not in range(len(suite.tasks)):
        raise UnknownNameError(f"task of suite {suite.name!r}", str(task), [str(known.id) for known in suite.tasks])
    findings = [spaces(suite, policy)] if policy is not None else []
    wanted = tuple(GATES) if probes is None else tuple(probes)
    cameras = tuple(camera.name for camera in suite.protocol.cameras)
    for names, drawn in (
        ([name for name in wanted if name in _NEEDS_IMAGES], cameras),
        ([name for name in wanted if name not in _NEEDS_IMAGES], ()),
    ):
        if names:
            with closing(make_env(suite, suite.tasks[task], drawn)) as env:
                findings += probe(env, suite, task, drawn, names)
    return findings


def before_run(suite: Suite, task: int, cameras: tuple[str, ...]) -> list[GateResult]:
    """Run the gates of `BEFORE_RUN` on one env with the cameras of a run, in a process of their own."""
    names = [name for name in BEFORE_RUN if cameras or name != "frame"]
    with closing(registry.make_env(suite, suite.tasks[task], cameras)) as env:
        return probe(env, suite, task, cameras, names)


def run_gates(
    suite_name: str,
    policy_name: str | None = None,
    policy_args: Mapping[str, str] | None = None,
    probes: Sequence[str] | None = None,
    task: int = 0,
    policy_seconds: float | None = None,
) -> list[GateResult]:
    """Run gates by name; called in a separate process, so all arguments and results can be pickled.

    Raises:
        RunIncompleteError: building the policy takes longer than `policy_seconds`, by default the deadline of a run.
    """
    suite = registry.load_suite(suite_name)
    if not policy_name:
        return check(suite, probes=probes, task=task)
    caller = Caller(policy_name, policy_seconds or Deadlines().policy_seconds)
    policy = build_policy(caller, policy_name, suite, policy_args or {})
    findings = check(suite, policy, probes=probes, task=task)
    fits = all(finding.passed for finding in findings if finding.gate == "spaces")
    return [*findings, sensitive(caller, suite, policy, task)] if probes is None and fits else findings


def sensitive(caller: Caller, suite: Suite, policy: Policy, task: int) -> GateResult:
    """Run the gate `sensitivity` on the policy's thread; a policy that reads the simulator or fails is not probed."""
    if isinstance(policy, PrivilegedPolicy):
        why = "it reads the simulator, and needs no other input"
    else:
        try:
            return caller.call("answers to made-up observations", sensitivity, suite, policy, task)
        except PolicyFailedError as error:
            why = str(error).strip().splitlines()[-1]
    return GateResult("sensitivity", None, f"made-up observations for policy {policy.name!r}", why, "")

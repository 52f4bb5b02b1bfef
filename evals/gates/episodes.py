"""Gates that run episodes whose outputs and outcome are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from evals.checks import check_step
from evals.contract import PrivilegedPolicy
from evals.errors import EnvOutputError, UsageError
from evals.gates.result import GateContext, GateResult
from evals.registry import load_object
from evals.rollout import RolloutConfig, rollout
from evals.types import FloatArray, Outcome

RESETS = 3


def outputs(context: GateContext) -> GateResult:
    """Reset and step, with and without rendering, and check shapes and types of the outputs."""
    commanded, episode, idle = "reset and step, rendering and not", context.episode(), context.suite.action_space.idle()
    try:
        for render in (True, False):
            check_step(context.env.reset(episode, render), context.suite, episode, context.cameras, render)
            check_step(context.env.step(idle, render), context.suite, episode, context.cameras, render)
    except EnvOutputError as error:
        advice = "the adapter breaks the contract: see evals.contract, and test it with evals.conformance.check_suite"
        return GateResult("outputs", False, commanded, str(error), advice)
    return GateResult("outputs", True, commanded, "as the suite declares", "")


def success_at_reset(context: GateContext) -> GateResult:
    """Reset some initial states and check that the task is not already solved."""
    states = range(min(RESETS, context.suite.protocol.initial_states))
    done = [state for state in states if context.env.reset(context.episode(state), render=False).success]
    return GateResult(
        "success_at_reset",
        not done,
        f"reset of initial states {list(states)}",
        f"already solved: {done}" if done else "none is solved",
        "check the success rule, and that it is evaluated after the settle steps",
    )


def initial_states(context: GateContext) -> GateResult:
    """Reset some initial states and check that their scenes differ."""
    count = context.suite.protocol.initial_states
    states = sorted({*range(min(RESETS, count)), count - 1})
    commanded = f"reset of initial states {states}"
    if count < 2:
        return GateResult("initial_states", None, commanded, "the protocol has one initial state", "")
    scenes = {state: _scene(context, state) for state in states}
    equal = [(a, b) for a, b in combinations(states, 2) if np.array_equal(scenes[a], scenes[b])]
    return GateResult(
        "initial_states",
        not equal,
        commanded,
        f"the same scene: {', '.join(f'{a} and {b}' for a, b in equal)}" if equal else "all are different scenes",
        "place the scene by Episode.initial_state in reset(), since trials of one scene are no independent trials, or "
        "declare Protocol.initial_states=1",
    )


def noop(context: GateContext) -> GateResult:
    """Do nothing for a whole episode and check that the task is not solved."""
    steps = context.suite.tasks[context.task].max_steps
    context.reset()
    idle = context.suite.action_space.idle()
    solved = [step for step in range(1, steps + 1) if context.env.step(idle, render=False).success]
    return GateResult(
        "noop",
        not solved,
        f"{steps} idle steps",
        f"solved at step {solved[0]}" if solved else "not solved",
        "the task is solved without any action: check the success rule, and objects that settle late",
    )


def expert(context: GateContext) -> GateResult:
    """Check that the suite's expert solves one scene."""
    suite = context.suite
    commanded = f"one episode of {suite.expert or 'an expert'}"
    if not suite.expert:
        return GateResult("expert", None, commanded, "the suite has no expert", "")
    policy = load_object(suite.expert)(suite)
    if not isinstance(policy, PrivilegedPolicy):
        return GateResult("expert", False, commanded, f"{suite.expert} keeps no attach()", "see PrivilegedPolicy")
    try:
        outcome = _play(context, policy)
    except UsageError as error:  # it has no skill for this task
        return GateResult("expert", None, commanded, str(error), "")
    return GateResult(
        "expert",
        outcome.succeeded(suite.protocol.success),
        commanded,
        f"success at step {outcome.success_first}" if outcome.success_ever else f"no success in {outcome.steps} steps",
        "actions do not do what they say: look at the other gates first, then record a video of the expert",
    )


def _scene(context: GateContext, state: int) -> FloatArray:
    """Return all that the simulator knows of the scene after a reset: simulator state, fixtures and named objects."""
    sim_state = context.env.reset(context.episode(state), render=False).sim_state
    positions = [position for _, position in sorted(context.env.objects().items())]
    return np.concatenate([sim_state, context.env.static_state(), *positions])


def _play(context: GateContext, policy: PrivilegedPolicy) -> Outcome:
    episode, rollout_config = context.episode(), RolloutConfig(policy.replan_every, cameras=context.cameras)
    policy.attach(context.env)
    policy.begin(episode)
    result = rollout(
        context.env, context.suite, episode, lambda seen: policy.act([seen])[0], rollout_config, lambda phase: None
    )
    policy.end(episode)
    return result.outcome

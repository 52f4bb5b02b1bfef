"""Gates that run episodes of which it is known what comes back, and how they end."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from evals.contract import PrivilegedPolicy
from evals.errors import EnvOutputError, UsageError
from evals.gates.finding import Bench, Finding
from evals.outputs import check_step
from evals.registry import load_object
from evals.rollout import Conduct, Rollout, rollout
from evals.types import FloatArray

RESETS = 3


def outputs(bench: Bench) -> Finding:
    """Reset and step, and check shapes and types of what comes back, with looking and without."""
    commanded, episode, idle = "reset and step, looking and not", bench.episode(), bench.suite.action_space.idle()
    try:
        for look in (True, False):
            check_step(bench.env.reset(episode, look), bench.suite, episode, bench.cameras, look)
            check_step(bench.env.step(idle, look), bench.suite, episode, bench.cameras, look)
    except EnvOutputError as error:
        advice = "the adapter breaks the contract: see evals.contract, and test it with evals.conformance.check_suite"
        return Finding("outputs", False, commanded, str(error), advice)
    return Finding("outputs", True, commanded, "as the suite declares", "")


def success_at_reset(bench: Bench) -> Finding:
    """Reset some initial states and ask whether the task is already done."""
    states = range(min(RESETS, bench.suite.protocol.initial_states))
    done = [state for state in states if bench.env.reset(bench.episode(state), look=False).success]
    return Finding(
        "success_at_reset",
        not done,
        f"reset of initial states {list(states)}",
        f"already solved: {done}" if done else "none is solved",
        "check the success rule, and that it is evaluated after the settle steps",
    )


def initial_states(bench: Bench) -> Finding:
    """Reset some initial states and ask whether they are different scenes."""
    count = bench.suite.protocol.initial_states
    states = sorted({*range(min(RESETS, count)), count - 1})
    commanded = f"reset of initial states {states}"
    if count < 2:
        return Finding("initial_states", None, commanded, "the protocol has one initial state", "")
    scenes = {state: _scene(bench, state) for state in states}
    equal = [(a, b) for a, b in combinations(states, 2) if np.array_equal(scenes[a], scenes[b])]
    return Finding(
        "initial_states",
        not equal,
        commanded,
        f"the same scene: {', '.join(f'{a} and {b}' for a, b in equal)}" if equal else "all are different scenes",
        "place the scene by Episode.initial_state in reset(), since trials of one scene are no independent trials, or "
        "declare Protocol.initial_states=1",
    )


def noop(bench: Bench) -> Finding:
    """Do nothing for a whole episode."""
    steps = bench.suite.tasks[bench.task].max_steps
    bench.reset()
    idle = bench.suite.action_space.idle()
    solved = [step for step in range(1, steps + 1) if bench.env.step(idle, look=False).success]
    return Finding(
        "noop",
        not solved,
        f"{steps} idle steps",
        f"solved at step {solved[0]}" if solved else "not solved",
        "a suite that pays for nothing: check the success rule and what settles late",
    )


def expert(bench: Bench) -> Finding:
    """Let the suite's expert solve one scene."""
    suite = bench.suite
    commanded = f"one episode of {suite.expert or 'an expert'}"
    if not suite.expert:
        return Finding("expert", None, commanded, "the suite has no expert", "")
    policy = load_object(suite.expert)(suite)
    if not isinstance(policy, PrivilegedPolicy):
        return Finding("expert", False, commanded, f"{suite.expert} keeps no attach()", "see PrivilegedPolicy")
    try:
        result = _play(bench, policy)
    except UsageError as error:  # it has no skill for this task
        return Finding("expert", None, commanded, str(error), "")
    scored = {"first": result.success_ever, "ever": result.success_ever, "last": result.success_last}
    return Finding(
        "expert",
        scored[suite.protocol.success],
        commanded,
        f"success at step {result.success_first}" if result.success_ever else f"no success in {result.steps} steps",
        "actions do not do what they say: look at the other gates first, then record a video of the expert",
    )


def _scene(bench: Bench, state: int) -> FloatArray:
    """Return everything that the simulator says of the scene after a reset: physics, fixtures and named objects."""
    physics = bench.env.reset(bench.episode(state), look=False).physics
    positions = [position for _, position in sorted(bench.env.objects().items())]
    return np.concatenate([physics, bench.env.scene(), *positions])


def _play(bench: Bench, policy: PrivilegedPolicy) -> Rollout:
    episode, conduct = bench.episode(), Conduct(policy.replan_every, cameras=bench.cameras)
    policy.attach(bench.env)
    policy.begin(episode)
    result = rollout(bench.env, bench.suite, episode, lambda seen: policy.act([seen])[0], conduct, lambda phase: None)
    policy.end(episode)
    return result

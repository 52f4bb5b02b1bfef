"""The whole test that a plugin's author needs.

::

    from evals.conformance import check_policy, check_suite

    def test_my_suite_keeps_the_contract():
        check_suite(my_suite())

    def test_my_policy_keeps_the_contract():
        check_policy(MyPolicy(), my_suite())

Each raises the first promise that is broken, with what was got, what was expected and the way out. `check_suite` builds
one env with all its cameras; run it in a process that holds no other rendered env.
"""

from __future__ import annotations

import warnings
from contextlib import closing

import numpy as np

from evals.checks import check_step, check_vector, checked_chunk, paired
from evals.contract import Env, Policy, PrivilegedPolicy
from evals.errors import ContractError, ConventionWarning, EnvOutputError, PolicyOutputError, SpaceMismatchError
from evals.gates import MakeEnv, golden, space_differences
from evals.gates.answers import remarks
from evals.registry import make_env as registered_env
from evals.types import Episode, FloatArray, Observation, Suite

STEPS = 3
ROTATION_NUMBERS = {"axis_angle": 3, "euler_xyz": 3, "quat_wxyz": 4, "quat_xyzw": 4, "none": 0}


def check_suite(suite: Suite, *, task: int = 0, make_env: MakeEnv = registered_env) -> None:
    """Check a suite's data, and its env on one task: outputs, determinism, rendering, independence of what ran before.

    Args:
        suite: the suite to check.
        task: the task whose env is built.
        make_env: what builds an env.

    Raises:
        ContractError: the suite's data contradict each other.
        EnvOutputError: its env returns something that the contract does not allow.
    """
    _check_data(suite)
    cameras = tuple(camera.name for camera in suite.protocol.cameras)
    first, second = (Episode(suite.name, task, state, 0, suite.protocol.hash) for state in _two_states(suite))
    with closing(make_env(suite, suite.tasks[task], cameras)) as env:
        seen = _run(env, suite, first, render=True)
        _check_reports(env, suite)
        _different(seen, _run(env, suite, second, render=False), suite)
        again = _run(env, suite, first, render=True)
        _same(
            seen, again, suite, "the same episode, with another in between: seed everything from the episode in reset()"
        )
        unseen = _run(env, suite, first, render=False)
        _same(seen, unseen, suite, "the same episode without rendering: rendering must not touch the physics")


def check_policy(policy: Policy, suite: Suite, *, tolerance: float = 1e-5, make_env: MakeEnv = registered_env) -> None:
    """Check that a policy answers with valid chunks, for each observation on its own and equally each time.

    Observations are made up: random images and states of the suite's shapes. A privileged policy, which reads an env of
    its own, is given one instead and is asked one observation at a time.

    Args:
        policy: the policy to check.
        suite: a suite that it acts in.
        tolerance: largest difference of an action between batches; batched matrix products are not exact.
        make_env: what builds the env of a privileged policy.

    Warns:
        ConventionWarning: signs, ranges or units of its answers are unlikely in the suite.

    Raises:
        SpaceMismatchError: it does not speak the suite's numbers.
        PolicyOutputError: it breaks the contract.
    """
    unlike = space_differences(suite, policy)
    if unlike:
        raise SpaceMismatchError(policy.name, suite.name, unlike)
    if policy.replan_every < 1:
        raise PolicyOutputError(f"Policy {policy.name!r}: replan_every is {policy.replan_every}, expected 1 or more.")
    first, second = (Episode(suite.name, 0, state, 0, suite.protocol.hash) for state in _two_states(suite))
    if isinstance(policy, PrivilegedPolicy):
        with closing(make_env(suite, suite.tasks[0], policy.cameras)) as env:
            policy.attach(env)
            step = env.reset(first, render=True)
            check_step(step, suite, first, policy.cameras, rendered=True)
            _answers(policy, suite, [[step.observation]] if step.observation else [])
        return
    ours, theirs = _made_up(suite, policy, first), _made_up(suite, policy, second)
    together = _answers(policy, suite, [[a, b] for a, b in zip(ours, theirs, strict=True)])
    swapped = _answers(policy, suite, [[b, a] for a, b in zip(ours, theirs, strict=True)])
    _same_answers(policy, together, [[b, a] for a, b in swapped], tolerance, "the order of the batch")
    apart = zip(
        _answers(policy, suite, [[a] for a in ours]), _answers(policy, suite, [[b] for b in theirs]), strict=True
    )
    _same_answers(
        policy, together, [[*a, *b] for a, b in apart], tolerance, "its batch neighbours or an earlier episode"
    )
    _say_what_is_odd(policy, suite, together)


def _say_what_is_odd(policy: Policy, suite: Suite, answers: list[list[FloatArray]]) -> None:
    actions = np.concatenate([actions for batch in answers for actions in batch])
    for text in remarks(actions, suite.action_space).values():
        warnings.warn(f"Policy {policy.name!r}: {text}.", ConventionWarning, stacklevel=3)


def _two_states(suite: Suite) -> tuple[int, int]:
    return 0, min(1, suite.protocol.initial_states - 1)


def _check_data(suite: Suite) -> None:
    protocol, where = suite.protocol, f"Suite {suite.name!r}"
    if [task.id for task in suite.tasks] != list(range(len(suite.tasks))) or not suite.tasks:
        raise ContractError(f"{where}: task ids are {[task.id for task in suite.tasks]}, expected 0, 1, 2, ...")
    limits = tuple(task.max_steps for task in suite.tasks)
    if protocol.max_steps != limits:
        raise ContractError(f"{where}: protocol.max_steps is {protocol.max_steps}, its tasks say {limits}.")
    if len(protocol.settle_action) != suite.action_space.dim:
        raise ContractError(f"{where}: settle_action has {len(protocol.settle_action)} numbers, expected 7.")
    if protocol.initial_states < 1:
        raise ContractError(f"{where}: initial_states is {protocol.initial_states}, expected 1 or more.")
    if len({task.name for task in suite.tasks}) != len(suite.tasks):
        raise ContractError(f"{where}: two tasks have the same name; names identify tasks (instructions may repeat).")
    space = suite.state_space
    numbers = sum(name.startswith(("axis_angle", "euler", "quat")) for name in space.names)
    if numbers != ROTATION_NUMBERS[space.rotation]:
        raise ContractError(
            f"{where}: the state names {numbers} rotation entries, {space.rotation} has another number."
        )
    golden.load(suite, 0)


def _run(env: Env, suite: Suite, episode: Episode, render: bool) -> list[FloatArray]:
    """Run a few seeded random steps, check each, and return the scene and every sim_state."""
    cameras = [camera.name for camera in suite.protocol.cameras]
    rng, space = episode.rng("conformance"), suite.action_space
    step = env.reset(episode, render)
    check_step(step, suite, episode, cameras, render)
    scene = env.static_state()
    check_vector(f"The env of suite {suite.name!r}: static_state()", scene)
    kept, returned = [scene.copy(), step.sim_state.copy()], [scene, step.sim_state]
    for count in range(1, STEPS + 1):
        action = np.append(rng.uniform(0.2 * space.low, 0.2 * space.high, space.dim - 1), space.gripper_open)
        step = env.step(action, render)
        check_step(step, suite, episode, cameras, render)
        if step.observation is not None and step.observation.step != count:
            raise EnvOutputError(
                f"Observation.step is {step.observation.step} after {count} control steps of {suite.name!r}."
            )
        kept.append(step.sim_state.copy())
        returned.append(step.sim_state)
    if any(not np.array_equal(a, b) for a, b in zip(kept, returned, strict=True)):
        raise EnvOutputError(f"The env of suite {suite.name!r} changes arrays that it has returned: return copies.")
    return kept


def _same(expected: list[FloatArray], got: list[FloatArray], suite: Suite, condition: str) -> None:
    for count, (a, b) in enumerate(zip(expected, got, strict=True)):
        if not np.array_equal(a, b):
            what = (
                ("the scene", "the sim_state after reset")[count]
                if count < 2
                else f"the sim_state after step {count - 1}"
            )
            raise EnvOutputError(f"The env of suite {suite.name!r}: {what} differs in {condition}.")


def _different(first: list[FloatArray], second: list[FloatArray], suite: Suite) -> None:
    """Compare scene and physics after the resets of two initial states."""
    if suite.protocol.initial_states > 1 and all(
        np.array_equal(a, b) for a, b in zip(first[:2], second[:2], strict=True)
    ):
        raise EnvOutputError(
            f"The env of suite {suite.name!r}: initial states 0 and 1 of {suite.protocol.initial_states} are the same "
            "scene: place it by Episode.initial_state in reset(), or declare Protocol.initial_states=1."
        )


def _check_reports(env: Env, suite: Suite) -> None:
    for name, position in env.objects().items():
        check_vector(f"The env of suite {suite.name!r}: objects()[{name!r}]", position, 3)
    if not env.renderer():
        raise EnvOutputError(f"The env of suite {suite.name!r}: renderer() is empty; say what draws the images.")


def _made_up(suite: Suite, policy: Policy, episode: Episode) -> list[Observation]:
    rng, instruction = episode.rng("made-up observations"), suite.tasks[episode.task].instruction
    cameras = [camera for camera in suite.protocol.cameras if camera.name in policy.cameras]
    return [
        Observation(
            episode,
            count * policy.replan_every,
            instruction,
            {c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in cameras},
            rng.uniform(-0.5, 0.5, len(suite.state_space.names)),
        )
        for count in range(2)
    ]


def _answers(policy: Policy, suite: Suite, batches: list[list[Observation]]) -> list[list[FloatArray]]:
    """Begin the episodes of a sequence of batches, ask for each, end them; return the actions that would be run."""
    episodes = [seen.episode for seen in batches[0]]
    for episode in episodes:
        policy.begin(episode)
    answers = [paired(policy.act(list(batch)), len(batch)) for batch in batches]
    for episode in episodes:
        policy.end(episode)
    return [[checked_chunk(chunk, policy.replan_every, suite).actions for chunk in chunks] for chunks in answers]


def _same_answers(
    policy: Policy, a: list[list[FloatArray]], b: list[list[FloatArray]], tolerance: float, condition: str
) -> None:
    largest = max(
        float(np.abs(x - y).max()) for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)
    )
    if largest > tolerance:
        raise PolicyOutputError(
            f"Policy {policy.name!r}: an answer depends on {condition}: actions differ by {largest:.3g}, at most "
            f"{tolerance:g}. Keep state by Observation.episode, drop it in end(), and seed sampling from the episode."
        )

"""The two contracts that plugins keep: an environment and a policy.

A suite plugin is an entry point in the group `vla_eval.suites` that loads a function `() -> Suite`; its `Suite.env`
names the function that builds an `Env`. A policy plugin is an entry point in `vla_eval.policies` that loads a function
`(suite: Suite, **options) -> Policy`; the options' annotations are what the command line parses.
`evals.conformance` holds the whole test that a plugin's author needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from evals.spaces import ActionSpace, StateSpace
from evals.types import ActionChunk, Episode, FloatArray, Observation, Step


class Env(Protocol):
    """A simulator holding one task. It lives in one worker process and runs one episode at a time."""

    def reset(self, episode: Episode, render: bool) -> Step:
        """Begin an episode: seed everything from `episode`, place the scene, run the settle steps.

        What happens from here on depends on the episode's identity and on the actions alone.

        Args:
            episode: identity; `episode.task` is the task that this env was built for.
            render: whether the returned step carries an observation. Images are drawn only then.

        Raises:
            SimulatorError: the scene could not be set up.
        """
        ...

    def step(self, action: FloatArray, render: bool) -> Step:
        """Run one control step.

        Args:
            action: `[7]` finite float64 in the suite's action space; the harness has checked it.
            render: whether the returned step carries an observation. It is said before the step because LIBERO samples
                its cameras inside it.
        """
        ...

    def static_state(self) -> FloatArray:
        """Return `[M]` what `Step.sim_state` does not hold but the episode depends on (fixture poses), after reset."""
        ...

    def objects(self) -> Mapping[str, FloatArray]:
        """Return the position `[3]` (metres, world frame) of every named object, for gates and reports."""
        ...

    def renderer(self) -> str:
        """Return what draws the images, in words (GL renderer string), for the record."""
        ...

    def close(self) -> None:
        """Free the simulator. The env is not used afterwards."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Something that maps observations to action chunks.

    Attributes:
        name: name of the folder in which runs are recorded.
        action_space: what the numbers of an action mean; the run does not start if the suite disagrees.
        state_space: what the policy reads from `Observation.state`, or None if it does not read the state.
        cameras: names of the cameras that the policy needs; other cameras are not rendered. May be empty.
        replan_every: number of actions of a chunk that run before the policy is asked again.

    A policy that reads weights from a file or folder says so in a further attribute, `checkpoint`: their hash is then
    part of every record, also where nobody named them on the command line. What a user should hear of how it fits the
    suite stands in a further attribute, `remarks`: texts that are said before the first episode. A policy whose errors
    may pass (a server that is restarted) says so with `retry_errors = True`: the episode runs again, as after a crash
    of the simulator. `identity`, a mapping, takes the place of its options where a run is told from another; what a
    method `report()` returns, JSON data, is added to the record when a start of a run ends; a method `close()` is
    called then.
    """

    name: str
    action_space: ActionSpace
    state_space: StateSpace | None
    cameras: tuple[str, ...]
    replan_every: int

    def begin(self, episode: Episode) -> None:
        """Start an episode; a policy that keeps state creates it here."""
        ...

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer a batch of observations of different episodes, one chunk each, in order.

        The answer to an observation must not depend on its batch neighbours.
        """
        ...

    def end(self, episode: Episode) -> None:
        """End an episode, whatever its status; a policy that keeps state deletes it here."""
        ...


@runtime_checkable
class PrivilegedPolicy(Policy, Protocol):
    """A policy that may read the simulator. It is built and runs inside the worker, next to its env."""

    def attach(self, env: Env) -> None:
        """Receive the env, before `begin`. The policy may read the env's simulator and must not change it."""
        ...


def one_at_a_time(
    function: Callable[[Observation], ActionChunk],
) -> Callable[[Sequence[Observation]], list[ActionChunk]]:
    """Turn a function of one observation into a batched `act`."""

    def act(observations: Sequence[Observation]) -> list[ActionChunk]:
        return [function(observation) for observation in observations]

    return act

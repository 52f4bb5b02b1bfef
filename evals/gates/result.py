"""What a gate found, and the env it tries things on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.contract import Env
from evals.errors import EnvOutputError, GateError
from evals.types import Episode, FloatArray, Observation, Step, Suite


@dataclass(frozen=True)
class GateResult:
    """What one gate found.

    Attributes:
        gate: name of the gate.
        passed: whether the convention holds, or None if it could not be probed here (`happened` says why).
        action: what was done to the env or asked of it.
        observed: what was measured.
        advice: where to look if it failed.
    """

    gate: str
    passed: bool | None
    action: str
    observed: str
    advice: str

    def __str__(self) -> str:
        """Return the finding as a line or, where it failed, three."""
        verdict = {True: "ok", False: "FAILED", None: "not probed"}[self.passed]
        line = f"{self.gate}: {verdict}: {self.action}: {self.observed}"
        return line if self.passed is not False else f"{line}\n    what to do: {self.advice}"


def require(findings: Sequence[GateResult]) -> None:
    """Return if no gate failed.

    Raises:
        GateError: with everything that failed, what was commanded, what happened and what to do.
    """
    failed = [str(finding) for finding in findings if finding.passed is False]
    if failed:
        lines = "\n".join(f"  - {text}" for text in failed)
        raise GateError(f"{len(failed)} of {len(findings)} gates failed; scores would not mean what they say:\n{lines}")


@dataclass(frozen=True)
class GateContext:
    """An env on which gates try things, always in the first official scene of its task with seed 0.

    Attributes:
        suite: what the env declares.
        env: the env.
        task: the task that it was built for.
        cameras: the cameras that it was built with.
    """

    suite: Suite
    env: Env
    task: int
    cameras: tuple[str, ...]

    def episode(self, initial_state: int = 0) -> Episode:
        """Return the episode of an official initial state."""
        return Episode(self.suite.name, self.task, initial_state, 0, self.suite.protocol.hash)

    def reset(self) -> Observation:
        """Begin the first episode and look."""
        return self._seen(self.env.reset(self.episode(), render=True))

    def hold(self, action: FloatArray, steps: int) -> Observation:
        """Send one action for some steps and look after the last."""
        for left in reversed(range(steps)):
            step = self.env.step(action, render=left == 0)
        return self._seen(step)

    def columns(self, *prefixes: str) -> list[int]:
        """Return the places in the state of the names that begin with one of these."""
        return [i for i, name in enumerate(self.suite.state_space.names) if name.startswith(prefixes)]

    def command(self, place: int, value: float) -> FloatArray:
        """Return the idle action with one entry replaced, `[7]`."""
        action = self.suite.action_space.idle()
        action[place] = value
        return action

    def _seen(self, step: Step) -> Observation:
        if step.observation is None:
            raise EnvOutputError(
                f"The env of suite {self.suite.name!r} returned no observation although render was True."
            )
        return step.observation


def in_words(values: FloatArray, unit: str) -> str:
    """Return numbers as text, e.g. "(+0.010, -0.002, +0.000) m"."""
    return f"({', '.join(f'{value:+.3f}' for value in np.ravel(values))}) {unit}"

"""The result of a gate, and the env on which a gate is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.contract import Env
from evals.errors import EnvOutputError, GateError
from evals.types import Episode, FloatArray, Observation, Step, Suite


@dataclass(frozen=True)
class GateResult:
    """The result of one gate.

    Attributes:
        gate: name of the gate.
        passed: whether the convention holds, or None if it could not be tested (`observed` says why).
        action: what was done in the env.
        observed: what was measured.
        advice: what to check if the gate failed.
    """

    gate: str
    passed: bool | None
    action: str
    observed: str
    advice: str

    def __str__(self) -> str:
        """Return the result as one line, and the advice on a second line if the gate failed."""
        verdict = {True: "ok", False: "FAILED", None: "not probed"}[self.passed]
        line = f"{self.gate}: {verdict}: {self.action}: {self.observed}"
        return line if self.passed is not False else f"{line}\n    what to do: {self.advice}"


def require(findings: Sequence[GateResult]) -> None:
    """Check that no gate failed.

    Raises:
        GateError: a gate failed; the message says for each what was done, what was observed and what to check.
    """
    failed = [str(finding) for finding in findings if finding.passed is False]
    if failed:
        lines = "\n".join(f"  - {text}" for text in failed)
        raise GateError(f"{len(failed)} of {len(findings)} gates failed; scores would not mean what they say:\n{lines}")


@dataclass(frozen=True)
class GateContext:
    """An env on which gates are run.

    Attributes:
        suite: the suite of the env.
        env: the env.
        task: id of the task for which the env was built.
        cameras: names of the cameras with which the env was built.
    """

    suite: Suite
    env: Env
    task: int
    cameras: tuple[str, ...]

    def episode(self, initial_state: int = 0) -> Episode:
        """Return the episode of an official initial state."""
        return Episode(self.suite.name, self.task, initial_state, 0, self.suite.protocol.hash)

    def reset(self) -> Observation:
        """Reset the env to initial state 0 with seed 0, and return the observation."""
        return self._seen(self.env.reset(self.episode(), render=True))

    def hold(self, action: FloatArray, steps: int) -> Observation:
        """Repeat one action for some steps, and return the observation after the last step."""
        for left in reversed(range(steps)):
            step = self.env.step(action, render=left == 0)
        return self._seen(step)

    def columns(self, *prefixes: str) -> list[int]:
        """Return the indices of the entries of the state whose names begin with one of the prefixes."""
        return [i for i, name in enumerate(self.suite.state_space.names) if name.startswith(prefixes)]

    def command(self, place: int, value: float) -> FloatArray:
        """Return the idle action `[7]` with one entry replaced."""
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

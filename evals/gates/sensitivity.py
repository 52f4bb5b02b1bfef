"""Asks a policy about made-up observations that differ in one input: does it look at what it says that it looks at?

The case that this is for: a model whose library changed answers every picture alike, without an error, and scores none.
Each question is an episode of its own, begun and ended, so a policy with a memory answers it as a first observation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evals.checks import checked_chunk, paired
from evals.contract import Policy
from evals.gates.result import GateResult
from evals.types import Camera, Episode, FloatArray, Image, Observation, Suite

_NOTHING_LIKE_IT = "open the umbrella and stand on it"


@dataclass(frozen=True)
class Sensitivity:
    """What changed a policy's answer.

    Attributes:
        ignores: inputs that changed nothing: "image CAMERA", "state", "instruction".
        blind: whether the policy declares cameras and none of them changed anything.
        unequal: largest difference between answers to equal observations; not 0 is not deterministic.
        neighbours: largest difference between answers alone and in a batch; not 0 is batch dependent.
    """

    ignores: tuple[str, ...]
    blind: bool
    unequal: float
    neighbours: float

    def __str__(self) -> str:
        """Return it in words."""
        if self.unequal:
            return f"not deterministic: equal observations are answered {self.unequal:.3g} apart"
        said = [f"ignores: {', '.join(self.ignores)}"] if self.ignores else []
        if self.neighbours:
            said.append(f"batch dependent: an answer in a batch differs by {self.neighbours:.3g} from one alone")
        return "; ".join(said) or "every input changes the answer, equal observations are answered alike"


def sensitivity(suite: Suite, policy: Policy, task: int = 0) -> GateResult:
    """Ask a policy that does not read the simulator; the gate fails if no picture changes its answer.

    State and instruction that change nothing are only said: a policy may rightly not need them. So are answers that are
    not deterministic (what is ignored cannot be told then) or depend on the batch: they make a run inexact, not wrong.
    """
    found = measure(suite, policy, task)
    return GateResult(
        "sensitivity",
        not found.blind,
        "other and black pictures, states and instructions, and equal observations",
        str(found),
        "the policy declares cameras and its answer does not depend on them: compare the versions of its libraries "
        "with those it was trained with (transformers from 4.50 on runs OpenVLA without its picture), or declare "
        "cameras=()",
    )


def measure(suite: Suite, policy: Policy, task: int = 0) -> Sensitivity:
    """Ask a policy about observations that differ in one input.

    Raises:
        PolicyOutputError: an answer is not valid.
    """
    episode = Episode(suite.name, task, 0, 0, suite.protocol.hash)
    base = _made_up(suite, policy, episode)

    def alone(seen: Observation) -> FloatArray:
        return _ask(suite, policy, [seen])[0]

    first = alone(base)
    unequal = _apart(first, alone(base))
    other = replace(_pictured(suite, base, 1), episode=replace(episode, initial_state=1))
    neighbours = _apart(first, _ask(suite, policy, [base, other])[0])
    ignored = (
        [] if unequal else [name for name, changed in _changes(suite, policy, base) if _same(first, alone, changed)]
    )
    images = {f"image {camera}" for camera in policy.cameras}
    return Sensitivity(tuple(ignored), bool(images) and images <= set(ignored), unequal, neighbours)


def _changes(suite: Suite, policy: Policy, base: Observation) -> list[tuple[str, list[Observation]]]:
    """Return for each input the observations in which only it is another."""
    cameras = {camera.name: camera for camera in suite.protocol.cameras}
    changes = [
        (f"image {name}", [_with(base, name, image) for image in _pictures(cameras[name])]) for name in policy.cameras
    ]
    if policy.state_space is not None:
        states = [factor * base.state + shift for factor, shift in ((-1, 0.0), (0, 0.0), (1, 0.1), (2, -0.3))]
        changes.append(("state", [replace(base, state=state) for state in states]))
    words = {task.instruction for task in suite.tasks[:4]} - {base.instruction} | {_NOTHING_LIKE_IT}
    return [*changes, ("instruction", [replace(base, instruction=text) for text in sorted(words)])]


def _pictures(camera: Camera) -> list[Image]:
    """Return black, white, a slope and another noise."""
    shape = (camera.height, camera.width, 3)
    slope = np.linspace(0, 255, camera.width).astype(np.uint8)[None, :, None]
    black, white = np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
    return [black, white, np.broadcast_to(slope, shape).copy(), _noise(camera, 1)]


def _made_up(suite: Suite, policy: Policy, episode: Episode) -> Observation:
    state = episode.rng("sensitivity").uniform(-0.5, 0.5, len(suite.state_space.names))
    images = {camera.name: _noise(camera, 0) for camera in suite.protocol.cameras if camera.name in policy.cameras}
    return Observation(episode, 0, suite.tasks[episode.task].instruction, images, state)


def _pictured(suite: Suite, seen: Observation, seed: int) -> Observation:
    cameras = [camera for camera in suite.protocol.cameras if camera.name in seen.images]
    return replace(seen, images={camera.name: _noise(camera, seed) for camera in cameras})


def _noise(camera: Camera, seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)


def _with(seen: Observation, camera: str, image: Image) -> Observation:
    return replace(seen, images={**seen.images, camera: image})


def _ask(suite: Suite, policy: Policy, observations: Sequence[Observation]) -> list[FloatArray]:
    """Return the actions that would be run, `[K, 7]` each; the episodes are ended whatever happens."""
    begun: list[Episode] = []
    try:
        for seen in observations:
            begun.append(seen.episode)
            policy.begin(seen.episode)
        copies = [
            replace(seen, images={name: image.copy() for name, image in seen.images.items()}, state=seen.state.copy())
            for seen in observations
        ]
        chunks = paired(policy.act(copies), len(copies))
    finally:
        for episode in begun:
            policy.end(episode)
    return [checked_chunk(chunk, policy.replan_every, suite).actions for chunk in chunks]


def _same(first: FloatArray, alone: Callable[[Observation], FloatArray], changed: Sequence[Observation]) -> bool:
    """Return whether no change is answered otherwise; the first that is ends the asking."""
    return all(np.array_equal(first, alone(seen)) for seen in changed)


def _apart(a: FloatArray, b: FloatArray) -> float:
    return float(np.abs(a - b).max())

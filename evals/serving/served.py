"""A policy of the harness as a model that `motion_vla_serve` serves: sessions to episodes, requests to observations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evals.batching import Batcher
from evals.caller import Caller, PolicyFailedError
from evals.contract import Policy
from evals.errors import PolicyOutputError, UsageError
from evals.serving.motion_vla_serve import Session
from evals.types import Episode, Image, Observation, Suite

SEED = 0


@dataclass
class _Running:
    episode: Episode
    steps: int = 0


class ServedPolicy:
    """Begins an episode of the policy for each session, and asks it about all waiting requests at once.

    A client of ours names suite, task, initial state, seed and protocol (`task` of PyPI `vla-eval`'s episode_start, or
    the key "motion_vla" of openpi's requests) and gets the episode of that identity. Any other session is an
    episode of its own: task by instruction, initial states counted up from 0, seed 0.

    Args:
        suite: the suite in whose spaces the policy speaks.
        policy: a policy that does not read the simulator.
        batcher: asks the policy.
        caller: calls the policy on its thread.
        replan_every: actions of a chunk that run between two requests, where a client does not count steps.
        any_size: take pictures of another size than the suite's cameras have.
    """

    def __init__(
        self, suite: Suite, policy: Policy, batcher: Batcher, caller: Caller, replan_every: int, any_size: bool = False
    ) -> None:
        self._suite, self._policy, self._batcher, self._caller = suite, policy, batcher, caller
        self._replan_every, self._any_size = replan_every, any_size
        self._running: dict[str, _Running] = {}
        self._begun = 0
        self.metadata = _metadata(suite, policy, replan_every)

    def begin(self, session: Session) -> None:
        """Begin an episode where the client says which; else the first request does, since it names the task."""
        if "protocol_hash" in session.task:
            self._begin(session, self._named(session.task))

    def act(self, requests: list[tuple[Session, dict[str, Any]]]) -> list[Any]:
        """Answer requests: each a map with actions `[K, 7]` and the motion sentence, or an error."""
        answers: list[Any] = [self._seen(session, request) for session, request in requests]
        asked = [place for place, seen in enumerate(answers) if isinstance(seen, Observation)]
        for place, answer in zip(asked, self._batcher.answer([answers[place] for place in asked]), strict=True):
            if answer.chunk is None:
                answers[place] = PolicyOutputError(answer.error)
            else:
                motion = {} if answer.chunk.motion is None else {"motion": answer.chunk.motion}
                answers[place] = {"actions": answer.chunk.actions, **motion}
        return answers

    def end(self, session: Session) -> None:
        """End the session's episode, if it runs."""
        running = self._running.pop(session.id, None)
        if running is not None:
            self._caller.call("end()", self._policy.end, replace(running.episode))

    def _begin(self, session: Session, episode: Episode) -> None:
        """Begin an episode; the same one of another session ends, since a policy keeps its state by episode."""
        for other, running in list(self._running.items()):
            if running.episode == episode:
                self.end(Session(other))
        self._caller.call("begin()", self._policy.begin, replace(episode))
        self._running[session.id] = _Running(episode)

    def _named(self, task: Mapping[str, Any]) -> Episode:
        suite, known = self._suite, {task.name: task.id for task in self._suite.tasks}
        if task.get("suite") != suite.name:
            raise UsageError(f"The client runs suite {task.get('suite')!r}; this policy is served for {suite.name!r}.")
        if task["protocol_hash"] != suite.protocol.hash:
            text = f"The client's protocol is {task['protocol_hash']}, here it is {suite.protocol.hash}"
            raise UsageError(f"{text}: install the same version on both sides.")
        number = task.get("task_id", task.get("task", known.get(str(task.get("name")))))
        state = task.get("episode_idx", task.get("initial_state"))
        seed = task.get("seed", SEED)
        if not all(type(value) is int for value in (number, state, seed)) or number not in range(len(suite.tasks)):
            raise UsageError(f"The client's episode is task {number!r}, state {state!r}, seed {seed!r}: no such one.")
        return Episode(suite.name, number, state, seed, suite.protocol.hash)

    def _unnamed(self, words: str) -> Episode:
        by_words = {text: task.id for task in self._suite.tasks for text in (task.name, task.instruction)}
        self._begun += 1
        return Episode(self._suite.name, by_words.get(words, 0), self._begun - 1, SEED, self._suite.protocol.hash)

    def _seen(self, session: Session, request: dict[str, Any]) -> Observation | Exception:
        try:
            words = request.get("prompt", request.get("task_description"))
            if not isinstance(words, str):
                raise UsageError(f"A request needs text as `prompt`, or `task_description`: {_keys(request)}.")
            if session.id not in self._running:
                if "protocol_hash" in session.task:
                    raise UsageError("The episode was begun again by another connection.")
                self._begin(session, self._unnamed(words))
            running = self._running[session.id]
            said = request.get("motion_vla")
            if isinstance(said, Mapping):
                running.steps = _whole(said.get("step"))
            seen = Observation(running.episode, running.steps, words, self._images(request), self._state(request))
            running.steps += self._replan_every
        except (UsageError, PolicyFailedError) as error:
            return error
        return seen

    def _images(self, request: Mapping[str, Any]) -> dict[str, Image]:
        found = _pictures(self._suite, request)
        return {camera: self._image(camera, found.get(camera), request) for camera in self._policy.cameras}

    def _image(self, name: str, image: object, request: Mapping[str, Any]) -> Image:
        camera = next(camera for camera in self._suite.protocol.cameras if camera.name == name)
        where = f"camera {name!r} ({openpi_key(self._suite, name)}, or images.{name})"
        if not isinstance(image, np.ndarray):
            raise UsageError(f"A request needs a picture of {where}: {_keys(request)}.")
        expected = (camera.height, camera.width, 3)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError(f"The picture of {where} is {image.dtype} {image.shape}, expected uint8 {expected}.")
        if image.shape != expected and not self._any_size:
            raise UsageError(
                f"The picture of {where} is {image.shape[:2]}, the suite's are {expected[:2]}. Send those, or serve "
                "with --any-size; answers are then no longer those of a run here."
            )
        return image

    def _state(self, request: Mapping[str, Any]) -> np.ndarray:
        names = self._suite.state_space.names
        found = [request[key] for key in ("observation/state", "states", "state") if key in request]
        if not found and self._policy.state_space is None:
            return np.zeros(len(names))
        if not found:
            raise UsageError(f"A request needs the state as `observation/state`, or `states`: {_keys(request)}.")
        state = np.asarray(found[0])
        if state.dtype.kind not in "iuf" or state.shape != (len(names),) or not np.isfinite(state).all():
            raise UsageError(f"The state is {state.dtype} {state.shape}, expected finite numbers {names}.")
        return state.astype(np.float64)


def openpi_key(suite: Suite, camera: str) -> str:
    """Return the key of a camera's picture in openpi's requests: the first camera is `observation/image`."""
    first = suite.protocol.cameras[0].name
    return "observation/image" if camera == first else f"observation/{camera}_image"


def _pictures(suite: Suite, request: Mapping[str, Any]) -> dict[str, object]:
    """Return pictures by camera: openpi's keys, or those of the map `images` by name, else in their order."""
    names = [camera.name for camera in suite.protocol.cameras]
    images = request.get("images")
    if isinstance(images, Mapping):
        by_name = {name: images[name] for name in names if name in images}
        return by_name or dict(zip(names, images.values(), strict=False))
    return {name: request.get(openpi_key(suite, name)) for name in names}


def _metadata(suite: Suite, policy: Policy, replan_every: int) -> dict[str, Any]:
    """Return what clients are told: plain data, and what PyPI's `vla-eval` is asked to send."""
    wanted = {"send_state": policy.state_space is not None, "send_wrist_image": len(policy.cameras) > 1}
    return {
        "policy": policy.name,
        "suite": suite.name,
        "protocol_hash": suite.protocol.hash,
        "replan_every": replan_every,
        "cameras": {c.name: [c.height, c.width] for c in suite.protocol.cameras if c.name in policy.cameras},
        "observation_params": {**wanted, "quat_no_antipodal": True},
    }


def _whole(step: object) -> int:
    if type(step) is not int or step < 0:
        raise UsageError(f"motion_vla's step is {step!r}, expected a whole number from 0.")
    return step


def _keys(request: Mapping[str, Any]) -> str:
    return f"it has {', '.join(sorted(request)) or 'nothing'}"

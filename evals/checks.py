"""The border to plugins: what an env returns and what a policy answers is checked here, and trusted inside."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from evals.errors import EnvOutputError, PolicyOutputError
from evals.types import ActionChunk, Camera, Episode, Observation, Step, Suite


def check_step(
    step: object, suite: Suite, episode: Episode, cameras: Sequence[str] | None, rendered: bool, at: int | None = None
) -> None:
    """Check what an env returned from `reset` or `step`.

    Args:
        step: what it returned.
        suite: what it was built for.
        episode: the episode it is in.
        cameras: names of the cameras it was built with; None allows any of the suite's.
        rendered: whether an observation was asked for.
        at: control steps since the episode began, which the observation has to say; None where the suite is probed.

    Raises:
        EnvOutputError: it is not what the contract says.
    """
    where = f"The env of suite {suite.name!r}"
    if not isinstance(step, Step):
        raise EnvOutputError(f"{where} returned {type(step).__name__}, expected evals.types.Step.")
    if type(step.success) is not bool:
        raise EnvOutputError(f"{where}: Step.success is a {type(step.success).__name__}, expected bool: use bool(...).")
    check_vector(f"{where}: Step.sim_state", step.sim_state)
    if not isinstance(step.render_seconds, float | int) or not 0 <= step.render_seconds < math.inf:
        got = f"{type(step.render_seconds).__name__} {step.render_seconds!r}"
        raise EnvOutputError(f"{where}: Step.render_seconds is {got}, expected seconds as a float: use float(...).")
    if (step.observation is not None) != rendered:
        got = "an" if step.observation is not None else "no"
        raise EnvOutputError(f"{where} returned {got} observation although render was {rendered}.")
    if step.observation is not None:
        _check_observation(where, step.observation, suite, episode, cameras)
        _check_instruction(where, step.observation.instruction, suite.tasks[episode.task].instruction, at is None)
        if at is not None and step.observation.step != at:
            raise EnvOutputError(f"{where}: Observation.step is {step.observation.step} after {at} control steps.")


def check_vector(what: str, value: object, size: int | None = None) -> None:
    """Check that a value is a finite float64 vector.

    Args:
        what: how an error names it.
        value: the value.
        size: how many numbers it has to have; None allows any number.

    Raises:
        EnvOutputError: it is something else.
    """
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.ndim != 1:
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise EnvOutputError(f"{what} is {got}, expected a float64 vector.")
    if size is not None and len(value) != size:
        raise EnvOutputError(f"{what} has {len(value)} numbers, expected {size}.")
    if not np.isfinite(value).all():
        raise EnvOutputError(f"{what} is not finite at {np.flatnonzero(~np.isfinite(value)).tolist()}.")


def paired(chunks: object, expected: int) -> list[ActionChunk]:
    """Return what `Policy.act` answered if it is a list of the length that was asked for.

    Raises:
        PolicyOutputError: it is something else.
    """
    if not isinstance(chunks, list) or len(chunks) != expected:
        got = f"{len(chunks)} chunks" if isinstance(chunks, list) else type(chunks).__name__
        raise PolicyOutputError(
            f"Policy.act returned {got} for {expected} observations; expected a list with one chunk for each."
        )
    return chunks


def checked_chunk(chunk: object, replan_every: int, suite: Suite) -> ActionChunk:
    """Return a chunk as plain data of its own, with the actions that will be run, `[replan_every, 7]`.

    Raises:
        PolicyOutputError: what is wrong with it.
    """
    if not isinstance(chunk, ActionChunk):
        raise PolicyOutputError(f"The policy returned {type(chunk).__name__}, expected evals.types.ActionChunk.")
    actions, motion, dim = chunk.actions, chunk.motion, suite.action_space.dim
    if isinstance(actions, np.ndarray) and type(actions) is not np.ndarray:
        got = type(actions).__name__
        raise PolicyOutputError(f"ActionChunk.actions is a {got}, expected a plain array: use np.array({got}).")
    if not isinstance(actions, np.ndarray) or actions.dtype != np.float64:
        got = getattr(actions, "dtype", type(actions).__name__)
        raise PolicyOutputError(f"ActionChunk.actions has dtype {got}, expected a float64 array: use .astype(float).")
    if actions.ndim != 2 or actions.shape[1] != dim or not len(actions):
        raise PolicyOutputError(f"ActionChunk.actions has shape {actions.shape}, expected [K >= 1, {dim}].")
    if len(actions) < replan_every:
        raise PolicyOutputError(
            f"The policy returned a chunk of {len(actions)} actions, but replan_every is {replan_every}: "
            "lower --replan-every or return longer chunks."
        )
    if not np.isfinite(actions).all():
        row, column = np.argwhere(~np.isfinite(actions))[0]
        raise PolicyOutputError(f"ActionChunk.actions[{row}, {column}] is {actions[row, column]}; it must be finite.")
    if motion is not None and not isinstance(motion, str):
        raise PolicyOutputError(f"ActionChunk.motion is {type(motion).__name__}, expected text or None.")
    return ActionChunk(actions[:replan_every].copy(), None if motion is None else str.__str__(motion))


def _check_observation(
    where: str, seen: Observation, suite: Suite, episode: Episode, cameras: Sequence[str] | None
) -> None:
    if seen.episode != episode:
        raise EnvOutputError(f"{where}: Observation.episode is {seen.episode}, expected {episode}.")
    check_vector(f"{where}: Observation.state", seen.state, len(suite.state_space.names))
    if cameras is not None and set(seen.images) != set(cameras):
        raise EnvOutputError(f"{where}: images of {sorted(seen.images)}, built with cameras {sorted(cameras)}.")
    for camera in suite.protocol.cameras:
        if camera.name in seen.images:
            _check_image(where, seen.images[camera.name], camera)


def _check_instruction(where: str, instruction: object, declared: str, probing: bool) -> None:
    """Check an instruction: that of the task where a suite is probed, any text in a run that says it otherwise."""
    if not isinstance(instruction, str) or (probing and instruction != declared):
        raise EnvOutputError(f"{where}: Observation.instruction is {instruction!r}, not the task's.")


def _check_image(where: str, image: object, camera: Camera) -> None:
    expected = (camera.height, camera.width, 3)
    if not isinstance(image, np.ndarray) or image.shape != expected or image.dtype != np.uint8:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise EnvOutputError(f"{where}: image {camera.name!r} is {got}, expected uint8 {expected}.")

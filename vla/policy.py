"""A checkpoint as a policy of the harness; the only module of this package that imports it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from evals.contract import Env
from evals.errors import SpaceMismatchError, UnknownNameError, UsageError
from evals.registry import load_suite
from evals.spaces import ActionSpace, gripper_command
from evals.types import ActionChunk, Episode, Observation, Suite
from vla.actions import normalize_state, unnormalize_affine
from vla.data.convention import Convention, Rotation
from vla.data.frames import resize
from vla.decode.decoder import Decoded, Decoder
from vla.decode.grammar import grammar
from vla.decode.interventions import EXPERT, OWN, Intervention, intervention
from vla.errors import CheckpointError, ImageError, ModelError
from vla.fit import Fit, convention_of, fit
from vla.model.checkpoint import Checkpoint, load_checkpoint
from vla.statistics import DIMENSIONS, GRIPPER
from vla.told import Speech

RotationOption = Literal["as_trained", "axis_angle", "euler_xyz"]

RELEASED = Path(__file__).parent / "checkpoints" / "tiny-libero-spatial"
RELEASED_FOR = "libero_spatial"
"""The trained model that comes with the package, and the suite whose demonstrations it was fine-tuned on."""


@dataclass(frozen=True)
class PolicyOptions:
    """How a checkpoint is run.

    Attributes:
        unnorm_key: data set whose statistics turn predictions back into the robot's units.
        rotation: format of that data set's rotation deltas.
        replan_every: actions of a chunk to run before looking again.
        exact: answer every observation alone and without drafts, so that its batch cannot change even a rounding.
        say: whose motion sentences are said.
    """

    unnorm_key: str
    rotation: Rotation
    replan_every: int
    exact: bool
    say: Intervention


def vla(
    suite: Suite,
    *,
    checkpoint: Path,
    unnorm_key: str,
    device: str = "cpu",
    exact: bool = False,
    cameras: str = "",
    rotation: RotationOption = "as_trained",
    replan_every: int = 0,
    mismatch: Literal["refuse", "warn"] = "refuse",
    say: str = OWN,
) -> VlaPolicy:
    """Load a checkpoint as a policy.

    Args:
        suite: that it is to act in.
        checkpoint: folder that `vla-train` wrote.
        unnorm_key: data set of the checkpoint whose action statistics are used.
        device: "cpu", "cuda" or "cuda:N".
        exact: answer every observation alone, and on a CPU with one thread: alike whatever it is batched with.
        cameras: the suite's names of the model's views, with commas between; by default its first ones.
        rotation: format of the data set's rotation deltas; by default the checkpoint's word, else axis-angle.
        replan_every: actions of a chunk to run before looking again; by default all of them.
        mismatch: whether units and views other than in training are refused, or said aloud and run.
        say: motion sentences that are said instead of its own: "opposite", "shuffled", "expert", a sentence for every
            step, or "file:PATH" (`vla.decode.interventions`).

    Raises:
        UsageError: the checkpoint cannot be used here; the message says why.
        SpaceMismatchError: its numbers are not the suite's.
    """
    try:
        loaded = load_checkpoint(checkpoint)
        statistics = loaded.action_statistics(unnorm_key)
        if loaded.stage not in ("finetune", "action"):
            raise CheckpointError(
                f"{checkpoint} was trained in stage {loaded.stage!r} only, so it never learnt to act; run "
                "`vla-train train --stage finetune --init` on it."
            )
        if loaded.config.proprio_dim:
            normalize_state(np.zeros(loaded.config.proprio_dim), statistics)
        told = intervention(say)
        if told.kind != OWN and not loaded.config.motion:
            raise ModelError(f"say={say}: {checkpoint} says no motion sentence, so none can be put in its place.")
        torch_device = _device(device)
    except ModelError as error:
        raise UsageError(str(error)) from error
    chosen = _cameras(suite, loaded, cameras)
    trained = _resolved(convention_of(loaded, unnorm_key))
    found = fit(trained, _convention(suite), statistics, (suite.action_space.low, suite.action_space.high), chosen)
    _check_spaces(suite, loaded, trained, found if mismatch == "refuse" else Fit((), ()))
    turned: Rotation = (trained.rotation or "axis_angle") if rotation == "as_trained" else rotation
    options = PolicyOptions(unnorm_key, turned, replan_every or loaded.config.action_horizon, exact, told)
    build = PrivilegedVlaPolicy if told.kind == EXPERT else VlaPolicy
    return build(suite, checkpoint, loaded, options, chosen, torch_device, (*found.refused, *found.remarks))


def motion_tiny(
    suite: Suite, *, device: str = "cpu", exact: bool = True, replan_every: int = 0, say: str = OWN
) -> VlaPolicy:
    """Load the preset `tiny`, fine-tuned on demonstrations of libero_spatial (how: docs/model.md).

    Args:
        suite: libero_spatial.
        device: "cpu", "cuda" or "cuda:N".
        exact: answer every observation alone and with one thread, so that an episode is the same for any number of
            workers.
        replan_every: actions of a chunk to run before looking again; by default all of them.
        say: motion sentences that are said instead of its own, as for `vla`.

    Raises:
        UsageError: another suite, or the frozen vision encoder is not on this machine.
    """
    if suite.name != RELEASED_FOR:
        raise UsageError(
            f"The released model (--policy motion_tiny, the default) was fine-tuned on {RELEASED_FOR} only and knows "
            f"nothing of {suite.name}. Give a model of your own with --policy vla --checkpoint DIR, or --policy expert."
        )
    return vla(
        suite,
        checkpoint=RELEASED,
        unnorm_key=RELEASED_FOR,
        device=device,
        exact=exact,
        replan_every=replan_every,
        say=say,
    )


class VlaPolicy:
    """Answers observations with the model's action chunk and the motion that it said first."""

    def __init__(
        self,
        suite: Suite,
        folder: Path,
        checkpoint: Checkpoint,
        options: PolicyOptions,
        cameras: tuple[str, ...],
        device: torch.device,
        remarks: tuple[str, ...] = (),
    ) -> None:
        config = checkpoint.config
        self.name = f"vla-{config.name}"
        self.checkpoint = folder
        self.action_space = suite.action_space
        self.state_space = suite.state_space if config.proprio_dim else None
        self.cameras = cameras
        self.replan_every = options.replan_every
        self.remarks = remarks
        self._config = config
        self._options = options
        self._statistics = checkpoint.action_statistics(options.unnorm_key)
        self._model = checkpoint.model.to(device).eval()
        self._prompts = checkpoint.prompts
        self._decoder = Decoder(self._model, self._prompts, grammar(self._prompts, config.motion, action=True))
        self._device = device
        self._last: dict[str, Decoded] = {}
        self._speech = Speech(suite, options.say)

    def begin(self, episode: Episode) -> None:
        """Forget what was said in an earlier attempt at the episode."""
        self._last.pop(episode.id, None)
        self._speech.begin(episode)

    def end(self, episode: Episode) -> None:
        """Forget the episode."""
        self._last.pop(episode.id, None)
        self._speech.end(episode)

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Answer a batch; an observation whose prompt or images cannot be used raises for the whole batch."""
        if self._options.exact or not observations:
            with _one_thread():
                return [self._chunk(self._decode([one])[0]) for one in observations]
        answers = self._decode(observations)
        for observation, answer in zip(observations, answers, strict=True):
            self._last[observation.episode.id] = answer
        return [self._chunk(answer) for answer in answers]

    def _decode(self, observations: Sequence[Observation]) -> list[Decoded]:
        images = np.stack([self._images(observation.images) for observation in observations])
        state = None
        if self._config.proprio_dim:
            stacked = np.stack([observation.state for observation in observations])
            state = torch.from_numpy(normalize_state(stacked, self._statistics)).to(self._device)
        with torch.inference_mode():
            features = self._model.features(torch.from_numpy(images).to(self._device))
            observed = self._model.observation(features, state)
        last = [self._last.get(observation.episode.id) for observation in observations]
        drafts = [answer.tokens if answer else () for answer in last]
        instructions = [observation.instruction for observation in observations]

        def own() -> list[str]:
            return [answer.motion or "" for answer in self._decoder.decode(observed, instructions, drafts)]

        return self._decoder.decode(observed, instructions, drafts, self._speech.motions(observations, own))

    def _images(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the views `[C, size, size, 3]`."""
        views = []
        for name in self.cameras:
            image = images.get(name)
            if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                got = "no image" if image is None else f"{image.dtype} {list(image.shape)}"
                raise ImageError(f"Camera {name!r}: got {got}, expected uint8 [height, width, 3] RGB.")
            views.append(resize(image, self._config.image_size))
        return np.stack(views)

    def _chunk(self, answer: Decoded) -> ActionChunk:
        values = answer.values or self._prompts.actions.decode(np.array(answer.action_ids))
        normalized = np.reshape(values, (-1, len(DIMENSIONS)))
        actions = unnormalize_affine(normalized, self._statistics)
        if self._options.rotation == "euler_xyz":
            actions[:, 3:6] = axis_angle_from_euler_xyz(actions[:, 3:6])
        actions[:, GRIPPER] = gripper_command(self.action_space, actions[:, GRIPPER])
        return ActionChunk(actions, answer.motion)


class PrivilegedVlaPolicy(VlaPolicy):
    """A policy in whose place the suite's expert speaks; it runs in the worker, beside the expert's env."""

    def attach(self, env: Env) -> None:
        """Give the env to the expert."""
        self._speech.attach(env)


def axis_angle_from_euler_xyz(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn roll, pitch, yaw about fixed axes, `[N, 3]` radians, into axis-angle `[N, 3]`.

    All rows at once; evals.rotations takes one, and differs in the last bit.
    """
    half = angles / 2
    (cr, cp, cy), (sr, sp, sy) = np.cos(half).T, np.sin(half).T
    w = cr * cp * cy + sr * sp * sy
    xyz = np.stack([sr * cp * cy - cr * sp * sy, cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy], axis=1)
    sine = np.linalg.norm(xyz, axis=1)
    angle = 2 * np.arctan2(sine, w)
    scale = np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)
    turned: NDArray[np.float64] = xyz * scale[:, None]
    return turned


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread, and give back what was set: the number is the whole process's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _convention(suite: Suite) -> Convention:
    """Return what a suite's numbers mean."""
    space = suite.action_space
    return Convention(
        suite=suite.name,
        control_hz=space.control_hz,
        metres_per_unit=space.metres_per_unit,
        radians_per_unit=space.radians_per_unit,
    )


def _resolved(trained: Convention) -> Convention:
    """Return the convention with the units of the suite in which the data were recorded, if that is installed."""
    if not trained.suite:
        return trained
    try:
        convention = _convention(load_suite(trained.suite))
    except UnknownNameError:
        return replace(trained, suite="")
    return replace(convention, layout=trained.layout, rotation="axis_angle", cameras=trained.cameras)


def _check_spaces(suite: Suite, checkpoint: Checkpoint, trained: Convention, found: Fit) -> None:
    """Refuse a suite whose numbers the checkpoint's cannot be."""
    unlike = []
    for name, expected in (("translation", "delta"), ("rotation", "axis_angle")):
        if (got := getattr(suite.action_space, name)) != expected:
            unlike.append(f"{ActionSpace.__name__}.{name}: policy {expected!r}, suite {got!r}")
    size, names = checkpoint.config.proprio_dim, suite.state_space.names
    if size and size != len(names):
        unlike.append(f"state: policy reads {size} numbers, suite has {len(names)} ({', '.join(names)})")
    elif size and trained.rotation == "euler_xyz" != suite.state_space.rotation:
        unlike.append(f"state: policy was trained on Euler angles, suite has {suite.state_space.rotation}")
    if found.refused:
        unlike += [*found.refused, "who knows better runs it with --policy-args mismatch=warn (views: cameras=NAME)"]
    if unlike:
        raise SpaceMismatchError(f"vla-{checkpoint.config.name}", suite.name, unlike)


def _cameras(suite: Suite, checkpoint: Checkpoint, named: str) -> tuple[str, ...]:
    known = tuple(camera.name for camera in suite.protocol.cameras)
    views = checkpoint.config.cameras
    chosen = tuple(name.strip() for name in named.split(",")) if named else known[: len(views)]
    if len(chosen) != len(views) or not set(chosen) <= set(known):
        raise UsageError(
            f"The model has the views {list(views)}; suite {suite.name!r} has the cameras {list(known)}. Name one "
            f"for each view with cameras=...; got {named!r}."
        )
    return chosen


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device={name!r} is no device; expected cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device={name!r}: PyTorch sees no GPU on this machine; use device=cpu.")
    return device

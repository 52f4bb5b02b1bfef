"""A policy and a suite that misbehave on purpose, each in the way that it is told: the harness has to stand it."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evals.contract import Env
from evals.types import ActionChunk, Episode, FloatArray, Observation, Step, Suite
from vla_eval_example.chase import Chase
from vla_eval_example.slide import SlideEnv, suite

ENOUGH = 1e6  # seconds; longer than any test waits


def _unpickled() -> None:
    raise ValueError("this does not unpickle")


class Unpicklable:
    """Text that can be sent and not be read."""

    def __reduce__(self) -> tuple[object, ...]:
        """Raise where it arrives."""
        return _unpickled, ()


class HostilePolicy(Chase):
    """Acts as `example_chase` does, and does something else besides."""

    name = "example_hostile"

    def __init__(self, kind: str, place: str) -> None:
        super().__init__(speed=1.0)
        self._kind, self._place = kind, place
        self._do("building")

    def begin(self, episode: Episode) -> None:
        """Misbehave."""
        self._do("begin")
        if self._kind == "rewrites the episode":
            object.__setattr__(episode, "initial_state", 99)

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """Misbehave, and answer."""
        chunks = super().act(observations)
        self._do("act")
        if self._kind == "writes on what it sees":
            for seen in observations:
                seen.state[:] = 7.0
                for image in seen.images.values():
                    image[:] = 7
        if self._kind == "empties its list":
            observations.clear()  # type: ignore[attr-defined]
        return [self._spoiled(chunk) for chunk in chunks]

    def end(self, episode: Episode) -> None:
        """Misbehave."""
        self._do("end")

    def _do(self, place: str) -> None:
        if place == self._place and (action := ACTIONS.get(self._kind)) is not None:
            action()

    def _spoiled(self, chunk: ActionChunk) -> ActionChunk:
        actions = chunk.actions
        spoiled: dict[str, object] = {
            "matrix": ActionChunk(np.matrix(actions)),
            "masked": ActionChunk(np.ma.masked_array(actions, mask=np.ones_like(actions))),
            "cannot be sent": ActionChunk(actions, motion=lambda: 1),  # type: ignore[arg-type]
            "cannot be read": ActionChunk(actions, motion=Unpicklable()),  # type: ignore[arg-type]
            "no chunk": actions,
        }
        return spoiled.get(self._kind, chunk)  # type: ignore[return-value]


class PrivilegedHostilePolicy(HostilePolicy):
    """The same inside the worker."""

    def attach(self, env: Env) -> None:
        """Need nothing of it."""


def policy(suite: Suite, kind: str = "", place: str = "act") -> HostilePolicy:
    """Return a policy that misbehaves in building, begin, act or end."""
    return HostilePolicy(kind, place)


def privileged_policy(suite: Suite, kind: str = "", place: str = "act") -> PrivilegedHostilePolicy:
    """Return one that lives in the worker."""
    return PrivilegedHostilePolicy(kind, place)


def _print() -> None:
    print("noise")
    os.write(1, b"noise of a descriptor\n")
    ctypes.CDLL(None).puts(b"noise of C")
    ctypes.CDLL(None).printf(b"noise that C keeps")


def _seed() -> None:
    np.random.seed(0)  # noqa: NPY002 - the global state is the point
    random.seed(0)


def _patch_time() -> None:
    time.time = time.monotonic = time.perf_counter = lambda: 0.0


def _close_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()


def _fork() -> None:
    if os.fork() == 0:
        time.sleep(ENOUGH)


def _stay() -> None:
    threading.Thread(target=time.sleep, args=(ENOUGH,), daemon=False).start()


def _raise_base() -> None:
    raise BaseException("no Exception")


def _interrupt() -> None:
    raise KeyboardInterrupt


def _handle_alarm() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)


ACTIONS = {
    "prints": _print,
    "seeds": _seed,
    "changes the folder": lambda: os.chdir("/"),
    "clears the environment": os.environ.clear,
    "patches time": _patch_time,
    "closes its streams": _close_streams,
    "closes descriptor 1": lambda: os.dup2(os.open(os.devnull, os.O_RDONLY), 1),
    "forks": _fork,
    "leaves a thread": _stay,
    "exits": lambda: sys.exit(0),
    "raises a BaseException": _raise_base,
    "raises KeyboardInterrupt": _interrupt,
    "handles a signal": _handle_alarm,
    "hangs": lambda: time.sleep(ENOUGH),
    "hangs with the lock": lambda: ctypes.PyDLL(None).sleep(1000),
}


class HostileEnv(SlideEnv):
    """Misbehaves as the variable EXAMPLE_KIND says, from its third step on."""

    def reset(self, episode: Episode, render: bool) -> Step:
        """Hang, if so told."""
        if os.environ.get("EXAMPLE_KIND") == "hangs in reset":
            Path(os.environ["EXAMPLE_PID"]).write_text(str(os.getpid()))
            time.sleep(ENOUGH)
        return super().reset(episode, render)

    def step(self, action: FloatArray, render: bool) -> Step:
        """Misbehave."""
        step = super().step(action, render)
        kind, seen = os.environ.get("EXAMPLE_KIND", ""), step.observation
        if kind == "prints":
            _print()
        if self._steps < 3:
            return step
        if kind == "exits":
            sys.exit(0)
        if kind == "raises EOFError":
            raise EOFError("the simulator's own")
        if kind == "is slow":
            time.sleep(0.05)
        if kind == "counts success in NumPy":
            return replace(step, success=np.bool_(step.success))  # type: ignore[arg-type]
        if kind == "times in float32":
            return replace(step, render_seconds=np.float32(0.1))  # type: ignore[arg-type]
        if seen is None:
            return step
        changed: dict[str, Observation] = {
            "sees nothing": replace(seen, state=np.array([np.nan])),
            "sees float16": replace(seen, state=seen.state.astype(np.float16)),
            "sees float images": replace(seen, images={k: v / 255.0 for k, v in seen.images.items()}),
            "sees another episode": replace(seen, episode=replace(seen.episode, initial_state=3)),
            "sees another step": replace(seen, step=0),
            "cannot be read": replace(seen, instruction=Unpicklable()),  # type: ignore[arg-type]
        }
        return replace(step, observation=changed.get(kind, seen))

    def renderer(self) -> str:
        """Return no text, if so told."""
        return {1} if os.environ.get("EXAMPLE_KIND") == "draws with no name" else "NumPy"  # type: ignore[return-value]


def hostile_suite() -> Suite:
    """Return `example_slide` on the env above."""
    return replace(suite(), name="example_misbehaves", env=f"{__name__}:HostileEnv")

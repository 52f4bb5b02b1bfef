"""Which OpenGL library draws the images of MuJoCo simulators, and what it calls itself."""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from envs.libero.egl_devices import NOTHING, egl_devices
from evals.errors import RendererError

NO_RENDERING = "disabled"
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
INSTALL = "On Debian or Ubuntu: apt-get install libosmesa6 (or, with a GPU, its driver and libegl1)"
CONTAINER = "In a container, NVIDIA_DRIVER_CAPABILITIES must name graphics for a GPU to draw"
ALLOWED = f"MUJOCO_GL may be egl, osmesa or {NO_RENDERING}, or be left unset"

# MuJoCo's other words for the same.
_DISABLED = (NO_RENDERING, "disable", "off", "false", "0")
_UNSET = ("", "enable", "enabled", "on", "true", "1")
_NVIDIA = "NVIDIA"


@dataclass(frozen=True)
class Machine:
    """What can draw on a machine.

    Attributes:
        nvidia_driver: whether an NVIDIA driver is loaded.
        osmesa: whether libOSMesa is installed.
        egl: vendor of each EGL device in EGL's order, `egl_devices.NOTHING` for one that cannot draw.
    """

    nvidia_driver: bool
    osmesa: bool
    egl: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """What draws.

    Attributes:
        backend: "egl", "osmesa" or `NO_RENDERING`.
        device: number of the EGL device, or None.
        remark: why no GPU draws although there is one, or "".
    """

    backend: str
    device: int | None = None
    remark: str = ""


def choose_backend(renders: bool) -> Choice:
    """Set up this process for an OpenGL library. To be called before `mujoco` is imported for the first time.

    Raises:
        RendererError: images are to be drawn and there is no OpenGL library for it, or another than was asked for.
    """
    choice = choose(os.environ, _this_machine(os.environ), renders)
    if renders and choice.remark:
        sys.stderr.write(f"{choice.remark}\n")
    _set_up(os.environ, choice)
    return choice


def choose(environment: Mapping[str, str], machine: Machine, renders: bool) -> Choice:
    """Return what draws: what MUJOCO_GL says; else EGL on an NVIDIA GPU, else OSMesa (software), else EGL (Mesa's).

    Where nothing is to be drawn, no value of a variable and no missing library is an error.

    Raises:
        RendererError: images are to be drawn, and what was asked for cannot, or nothing can.
    """
    try:
        choice = _choose(environment, machine)
        if renders and choice.backend == NO_RENDERING:
            raise RendererError(
                f"Cannot draw images: MUJOCO_GL={environment['MUJOCO_GL']} says not to. {ALLOWED}."
                if _mujoco_gl(environment) in _DISABLED
                else f"Cannot draw images: neither libOSMesa nor an EGL device is there. {INSTALL}."
            )
    except RendererError:
        if renders:
            raise
        return Choice(NO_RENDERING)
    return choice


@contextlib.contextmanager
def hidden_gpu_numbers(environment: MutableMapping[str, str]) -> Iterator[None]:
    """Hide CUDA_VISIBLE_DEVICES while robosuite is imported: it takes what is no number, or not EGL's, for an error."""
    hidden = environment.pop("CUDA_VISIBLE_DEVICES", None)
    try:
        yield
    finally:
        if hidden is not None:
            environment["CUDA_VISIBLE_DEVICES"] = hidden


def renderer_string() -> str:
    """Return vendor, renderer and version of the current OpenGL context, as its driver words them."""
    from OpenGL import GL

    names = [GL.glGetString(name) for name in (GL.GL_VENDOR, GL.GL_RENDERER, GL.GL_VERSION)]
    words = ", ".join(name.decode() for name in names if name)
    passed_over = NVIDIA_DRIVER.exists() and _NVIDIA not in words.upper()
    return words + "; an NVIDIA driver is loaded and does not draw" * passed_over


def _mujoco_gl(environment: Mapping[str, str]) -> str:
    return environment.get("MUJOCO_GL", "").lower().strip()


def _this_machine(environment: Mapping[str, str]) -> Machine:
    nvidia = NVIDIA_DRIVER.exists()
    osmesa = ctypes.util.find_library("OSMesa") is not None
    setting = _mujoco_gl(environment)
    asks = setting == "egl" or (setting in _UNSET and (nvidia or not osmesa))
    return Machine(nvidia, osmesa, egl_devices() if asks else ())


def _choose(environment: Mapping[str, str], machine: Machine) -> Choice:
    setting = _mujoco_gl(environment)
    if setting in _DISABLED:
        return Choice(NO_RENDERING)
    if setting == "osmesa":
        if not machine.osmesa:
            raise RendererError(f"Cannot draw images: MUJOCO_GL=osmesa and libOSMesa is not installed. {INSTALL}.")
        return Choice("osmesa")
    if setting == "egl":
        if not any(machine.egl):
            instead = "OSMesa is installed: MUJOCO_GL=osmesa, or leave it unset" if machine.osmesa else INSTALL
            raise RendererError(
                f"Cannot draw images: MUJOCO_GL=egl, and EGL has {_listed(machine.egl)} here. {CONTAINER}. {instead}."
            )
        return Choice("egl", _device(environment, machine.egl))
    if setting not in _UNSET:
        raise RendererError(f"Cannot draw images with MUJOCO_GL={environment['MUJOCO_GL']}. {ALLOWED}.")
    return _unasked(environment, machine)


def _unasked(environment: Mapping[str, str], machine: Machine) -> Choice:
    nvidia_draws = any(_NVIDIA in vendor.upper() for vendor in machine.egl)
    if machine.nvidia_driver and nvidia_draws:
        return Choice("egl", _device(environment, machine.egl))
    backend = "osmesa" if machine.osmesa else "egl" if any(machine.egl) else NO_RENDERING
    remark = ""
    if machine.nvidia_driver and backend != NO_RENDERING:
        by = "OSMesa" if machine.osmesa else "Mesa's EGL"
        remark = f"An NVIDIA driver is loaded without its EGL, so {by} draws, in software. {CONTAINER}."
    return Choice(backend, _device(environment, machine.egl) if backend == "egl" else None, remark)


def _device(environment: Mapping[str, str], devices: tuple[str, ...]) -> int:
    """Return the number of the EGL device that draws.

    MUJOCO_EGL_DEVICE_ID is EGL's own number and must be one that draws; empty or negative, it names none.
    CUDA_VISIBLE_DEVICES is a hint: containers and schedulers write numbers of other machines, UUIDs or nothing there.
    """
    given = environment.get("MUJOCO_EGL_DEVICE_ID", "").strip()
    drawing = [number for number, vendor in enumerate(devices) if vendor != NOTHING]
    if given and not given.startswith("-"):
        first = given.split(",")[0].strip()
        if not (first.isdecimal() and int(first) in drawing):
            raise RendererError(
                f"Cannot draw images: MUJOCO_EGL_DEVICE_ID={given}, and EGL has {_listed(devices)} here, numbered from "
                f"0. Set it to one of {', '.join(map(str, drawing))}, or leave it unset."
            )
        return int(first)
    hint = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if hint.isdecimal() and int(hint) in drawing:
        return int(hint)
    return next((number for number in drawing if _NVIDIA in devices[number].upper()), drawing[0])


def _listed(devices: tuple[str, ...]) -> str:
    if not devices:
        return "no device"
    names = [vendor or "one that cannot draw" for vendor in devices]
    return f"{len(devices)} device{'s' * (len(devices) > 1)} ({', '.join(names)})"


def _set_up(environment: MutableMapping[str, str], choice: Choice) -> None:
    environment["MUJOCO_GL"] = choice.backend
    environment.pop("PYOPENGL_PLATFORM", None)
    if choice.backend != NO_RENDERING:
        environment["PYOPENGL_PLATFORM"] = choice.backend
    if choice.device is not None:
        environment["MUJOCO_EGL_DEVICE_ID"] = str(choice.device)

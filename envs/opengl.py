"""Which OpenGL library draws the images of MuJoCo simulators, and what it calls itself."""

from __future__ import annotations

import ctypes.util
import os
from pathlib import Path

from evals.errors import RendererError

NO_RENDERING = "disabled"


def choose_backend(renders: bool) -> str:
    """Set `MUJOCO_GL` for this process and return it. To be called before `mujoco` is imported for the first time.

    What the user set is respected. Otherwise EGL where an NVIDIA driver is loaded, else OSMesa (software), else EGL
    (Mesa's), else, if nothing needs to be drawn, no OpenGL at all.

    Raises:
        RendererError: images are to be drawn and there is no OpenGL library for it.
    """
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip() or _available()
    library = {"osmesa": "OSMesa", "egl": "EGL"}.get(chosen)
    if renders and (chosen == NO_RENDERING or (library and not ctypes.util.find_library(library))):
        missing = f"lib{library} is not installed" if library else "neither libOSMesa nor libEGL is installed"
        raise RendererError(
            f"Cannot draw images: {missing}. On Debian or Ubuntu: apt-get install libosmesa6 "
            "(or, with a GPU, its driver and libegl1), then set MUJOCO_GL=osmesa (or egl) or leave it unset."
        )
    os.environ["MUJOCO_GL"] = chosen
    if chosen in ("osmesa", "egl"):
        os.environ["PYOPENGL_PLATFORM"] = chosen
    return chosen


def renderer_string() -> str:
    """Return vendor, renderer and version of the current OpenGL context, as its driver words them."""
    from OpenGL import GL

    names = [GL.glGetString(name) for name in (GL.GL_VENDOR, GL.GL_RENDERER, GL.GL_VERSION)]
    return ", ".join(name.decode() for name in names if name)


def _available() -> str:
    if Path("/proc/driver/nvidia/version").exists() and ctypes.util.find_library("EGL"):
        return "egl"
    if ctypes.util.find_library("OSMesa"):
        return "osmesa"
    return "egl" if ctypes.util.find_library("EGL") else NO_RENDERING

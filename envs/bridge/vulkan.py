"""Which Vulkan driver draws SimplerEnv, chosen before SAPIEN is imported, and what to do when there is none.

A GPU is used where there is one. Elsewhere Mesa's software rasteriser, lavapipe, draws; Mesa 22.3 of Debian 12 is too
old. What lavapipe lacks is decided here: it cannot present, so SAPIEN's viewer is never opened; it has no CUDA interop,
so pictures are read through host memory.
"""

from __future__ import annotations

import ctypes.util
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from evals.errors import RendererError

DRIVER_FOLDERS = tuple(Path(f"{root}/vulkan/icd.d") for root in ("/usr/share", "/etc", "/usr/local/share"))
USER_CHOICE = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
NVIDIA = Path("/proc/driver/nvidia/version")
NVIDIA_LIBRARIES = ("GLX_nvidia", "EGL_nvidia")
SHADER = "default"
INSTALL = """Install Mesa's software driver (a GPU with its own Vulkan driver needs nothing more):
  Ubuntu 24.04 or newer: apt-get install -y libvulkan1 mesa-vulkan-drivers
  Debian 12: echo 'deb http://deb.debian.org/debian bookworm-backports main' > /etc/apt/sources.list.d/bpo.list
             apt-get update && apt-get install -y -t bookworm-backports libvulkan1 mesa-vulkan-drivers
Episodes of policies that use no camera (noop, random, expert) need no renderer."""


def choose_driver() -> str:
    """Point the Vulkan loader at a driver and return which, in words.

    A user's choice is left alone if it names a driver that is there: images of containers carry such settings to
    machines without it, and the loader would then see none at all. An NVIDIA driver draws where its Vulkan library is
    there, which a container for computing does not have.

    Raises:
        RendererError: there is no GPU and no software driver.
    """
    remarks = []
    for variable in USER_CHOICE:
        named = os.environ.get(variable, "").strip()
        if any(_loads(Path(name)) for name in named.split(os.pathsep) if name):
            return f"{variable}={named}"
        if named:
            remarks.append(f"{variable}={named} names no driver that is here")
        os.environ.pop(variable, None)
    drivers = [driver for folder in DRIVER_FOLDERS for driver in sorted(folder.glob("lvp_icd*.json"))]
    if NVIDIA.exists():
        if not drivers or any(ctypes.util.find_library(name) for name in NVIDIA_LIBRARIES):
            return "; ".join(["the NVIDIA driver", *remarks])
        remarks.append("an NVIDIA driver is loaded without its Vulkan library, as in a container without graphics")
    if not drivers:
        searched = ", ".join(str(folder) for folder in DRIVER_FOLDERS)
        reasons = "; ".join(["no GPU", f"no lvp_icd*.json in {searched}", *remarks])
        raise RendererError(f"No Vulkan driver to draw simpler_bridge with: {reasons}.\n{INSTALL}")
    # The older of the two names; loaders of every version read it.
    os.environ["VK_ICD_FILENAMES"] = str(drivers[0])
    return "; ".join([f"lavapipe, {drivers[0]}", *remarks])


def _loads(file: Path) -> bool:
    """Return whether a description of a driver, or a folder of such, is there and its library loads."""
    if file.is_dir():
        return any(_loads(inside) for inside in sorted(file.glob("*.json")))
    try:
        library = json.loads(file.read_text())["ICD"]["library_path"]
        ctypes.CDLL(str(file.parent / library) if "/" in library else library)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


@dataclass(frozen=True)
class Renderer:
    """A started renderer. SAPIEN forgets its compiled shaders (8 CPU seconds) when nobody holds one any more.

    Attributes:
        name: what draws, in words.
        system: SAPIEN's handle, held so that the shaders stay.
    """

    name: str
    system: object


@lru_cache(maxsize=1)
def start_renderer() -> Renderer:
    """Choose a driver and start SAPIEN's renderer on it, once in a process.

    Raises:
        RendererError: there is no driver, or it cannot render (Mesa 22, which Debian 12 has, is too old).
    """
    driver = choose_driver()
    import sapien

    sapien.render.set_log_level("error")
    sapien.render.set_camera_shader_dir(SHADER)
    try:
        system = sapien.render.RenderSystem()
    except RuntimeError as error:
        raise RendererError(f"SAPIEN cannot draw with {driver}: {error}.\n{INSTALL}") from error
    return Renderer(f"SAPIEN {sapien.__version__}, shader {SHADER!r}, {system.device.name}, by {driver}", system)

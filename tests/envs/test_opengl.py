"""Which OpenGL library is chosen, and what is said where there is none."""

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs import opengl
from evals.errors import RendererError

REPOSITORY = Path(__file__).resolve().parents[2]

NO_LIBRARY = """
import ctypes.util, sys
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name in ("OSMesa", "EGL", "GL") else find(name)
sys.path.insert(0, sys.argv[1])
from envs.libero import make
from envs.libero_tasks import libero_object
from evals.errors import RendererError
from evals.types import Episode
suite = libero_object()
env = make(suite, suite.tasks[0], ())
env.reset(Episode(suite.name, 0, 0, 0, ""), look=True)
print(env.renderer())
try:
    make(suite, suite.tasks[0], ("agentview",))
except RendererError as error:
    print(error)
"""


@pytest.fixture
def machine(monkeypatch):
    """A function that pretends which libraries are installed."""
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def pretend(*libraries, nvidia=False):
        monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so" if name in libraries else None)
        monkeypatch.setattr(Path, "exists", lambda path: nvidia and "nvidia" in str(path))

    return pretend


@pytest.mark.parametrize(
    ("libraries", "nvidia", "expected"),
    [
        (("OSMesa", "EGL"), False, "osmesa"),
        (("OSMesa", "EGL"), True, "egl"),
        (("OSMesa",), True, "osmesa"),
        (("EGL",), False, "egl"),
        ((), False, "disabled"),
    ],
)
def test_egl_with_an_nvidia_driver_and_software_without(machine, libraries, nvidia, expected):
    machine(*libraries, nvidia=nvidia)
    assert opengl.choose_backend(renders=False) == expected == os.environ["MUJOCO_GL"]


def test_the_users_choice_is_kept(machine, monkeypatch):
    machine("OSMesa", "EGL")
    monkeypatch.setenv("MUJOCO_GL", "egl")
    assert opengl.choose_backend(renders=True) == "egl"


def test_a_missing_library_is_named_with_the_way_out(machine, monkeypatch):
    machine()
    with pytest.raises(RendererError, match="apt-get install libosmesa6"):
        opengl.choose_backend(renders=True)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(RendererError, match="libOSMesa is not installed"):
        opengl.choose_backend(renders=True)


def test_without_an_opengl_library_physics_runs_and_drawing_is_refused():
    environment = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    command = [sys.executable, "-c", NO_LIBRARY, str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    renderer, error = done.stdout.splitlines()
    assert renderer == "none"
    assert "This process loaded MuJoCo without OpenGL and cannot draw images" in error

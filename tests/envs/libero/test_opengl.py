"""Which OpenGL library is chosen, on which device, and what is said where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.libero.egl_devices import NOTHING
from envs.libero.opengl import Choice, Machine, choose, hidden_gpu_numbers
from evals.errors import RendererError

REPOSITORY = Path(__file__).resolve().parents[3]
GPUS = ("NVIDIA", "NVIDIA")

NO_LIBRARY = """
import ctypes.util
find = ctypes.util.find_library
ctypes.util.find_library = lambda name: None if name in ("OSMesa", "EGL", "GL") else find(name)
from envs.libero.env import make
from envs.libero.tasks import libero_object
from evals.errors import RendererError
from evals.types import Episode
suite = libero_object()
env = make(suite, suite.tasks[0], ())
env.reset(Episode(suite.name, 0, 0, 0, ""), render=True)
print(env.renderer())
try:
    make(suite, suite.tasks[0], ("agentview",))
except RendererError as error:
    print(error)
"""


def machine(osmesa=True, nvidia=False, egl=()):
    return Machine(nvidia, osmesa, egl)


@pytest.mark.parametrize(
    ("here", "backend"),
    [
        (machine(egl=("Mesa Project",)), "osmesa"),
        (machine(nvidia=True, egl=GPUS), "egl"),
        (machine(nvidia=True), "osmesa"),
        (machine(osmesa=False, egl=("Mesa Project",)), "egl"),
        (machine(osmesa=False), "disabled"),
        (machine(osmesa=False, egl=(NOTHING,)), "disabled"),
    ],
)
def test_egl_with_an_nvidia_driver_and_software_without(here, backend):
    assert choose({}, here, renders=False).backend == backend


@pytest.mark.parametrize("word", ["", " ", "1", "on"])
def test_a_driver_for_computing_only_leaves_drawing_to_software_and_says_so(word):
    choice = choose({"MUJOCO_GL": word}, machine(nvidia=True, egl=("Mesa Project",)), renders=True)
    assert choice.backend == "osmesa"
    assert "OSMesa draws, in software" in choice.remark
    assert "NVIDIA_DRIVER_CAPABILITIES" in choice.remark


def test_the_users_choice_is_kept():
    assert choose({"MUJOCO_GL": "EGL "}, machine(egl=("Mesa Project",)), renders=True) == Choice("egl", 0)
    assert choose({"MUJOCO_GL": "osmesa"}, machine(nvidia=True, egl=GPUS), renders=True) == Choice("osmesa")


@pytest.mark.parametrize(
    ("environment", "here", "words"),
    [
        ({}, machine(osmesa=False), "apt-get install libosmesa6"),
        ({"MUJOCO_GL": "osmesa"}, machine(osmesa=False), "libOSMesa is not installed"),
        ({"MUJOCO_GL": "egl"}, machine(), "EGL has no device here.*MUJOCO_GL=osmesa"),
        ({"MUJOCO_GL": "egl"}, machine(osmesa=False, egl=(NOTHING,)), "one that cannot draw.*apt-get install"),
        ({"MUJOCO_GL": "glfw"}, machine(), "MUJOCO_GL=glfw. MUJOCO_GL may be egl, osmesa or disabled"),
        ({"MUJOCO_GL": "off"}, machine(), "MUJOCO_GL=off says not to"),
    ],
)
def test_what_cannot_draw_is_named_with_the_way_out_and_needed_for_drawing_only(environment, here, words):
    with pytest.raises(RendererError, match=words):
        choose(environment, here, renders=True)
    assert choose(environment, here, renders=False).backend == "disabled"


@pytest.mark.parametrize("device", [None, "", "-1"])
@pytest.mark.parametrize(
    ("visible", "expected"),
    [("1", 1), ("1,0", 1), ("7", 0), ("GPU-5ef1", 0), ("MIG-GPU-5ef1/1/0", 0), ("", 0), ("-1", 0), (" 1 ", 1)],
)
def test_numbers_that_are_not_egls_are_hints_that_cannot_hurt(device, visible, expected):
    environment = {"MUJOCO_GL": "egl", "CUDA_VISIBLE_DEVICES": visible}
    if device is not None:
        environment["MUJOCO_EGL_DEVICE_ID"] = device
    assert choose(environment, machine(egl=GPUS), renders=True).device == expected


def test_egls_own_number_is_obeyed_whatever_else_is_visible():
    environment = {"MUJOCO_EGL_DEVICE_ID": "1", "CUDA_VISIBLE_DEVICES": "3"}
    assert choose(environment, machine(nvidia=True, egl=GPUS), renders=True).device == 1


@pytest.mark.parametrize("told", ["2", "GPU-5ef1", "1.0", "nonsense"])
def test_an_egl_number_that_is_not_there_is_refused_with_those_that_are(told):
    environment = {"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": told}
    with pytest.raises(RendererError, match=rf"MUJOCO_EGL_DEVICE_ID={told}, .* Set it to one of 0, 1,"):
        choose(environment, machine(egl=GPUS), renders=True)


def test_a_device_that_cannot_draw_is_passed_over():
    assert choose({"MUJOCO_GL": "egl"}, machine(egl=(NOTHING, "Mesa Project", "NVIDIA")), renders=True).device == 2


def test_gpu_numbers_are_hidden_for_a_moment_only():
    environment = {"CUDA_VISIBLE_DEVICES": "GPU-5ef1"}
    with hidden_gpu_numbers(environment):
        assert environment == {}
    assert environment == {"CUDA_VISIBLE_DEVICES": "GPU-5ef1"}


@pytest.mark.sim
def test_without_an_opengl_library_physics_runs_and_drawing_is_refused():
    environment = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    command = [sys.executable, "-c", NO_LIBRARY]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    renderer, error = done.stdout.splitlines()
    assert renderer == "none"
    assert "This process loaded MuJoCo without OpenGL and cannot draw images" in error

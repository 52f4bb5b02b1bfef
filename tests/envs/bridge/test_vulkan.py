"""Which driver draws: the user's, the GPU's, or Mesa's; and what to install when there is none."""

import ctypes.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import envs.bridge.vulkan as vulkan
from evals.errors import RendererError

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without GPU, drivers or choices, whose driver folder is returned."""
    for variable in vulkan.USER_CHOICE:
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(vulkan, "DRIVER_FOLDERS", (tmp_path,))
    monkeypatch.setattr(vulkan, "NVIDIA", tmp_path / "no-gpu")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    return tmp_path


def described(file, library):
    """Describe a driver to the Vulkan loader."""
    file.write_text(
        json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": library, "api_version": "1.3.0"}})
    )
    return file


def test_software_draws_where_there_is_no_gpu(machine):
    (machine / "lvp_icd.x86_64.json").touch()
    assert vulkan.choose_driver() == f"lavapipe, {machine / 'lvp_icd.x86_64.json'}"
    assert os.environ["VK_ICD_FILENAMES"] == str(machine / "lvp_icd.x86_64.json")


def test_a_gpu_draws_where_there_is_one(machine, monkeypatch):
    (machine / "no-gpu").touch()
    (machine / "lvp_icd.json").touch()
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "libGLX_nvidia.so.0")
    assert vulkan.choose_driver() == "the NVIDIA driver"
    assert "VK_ICD_FILENAMES" not in os.environ


def test_software_draws_where_the_gpus_driver_is_for_computing_only_and_the_record_says_so(machine):
    (machine / "no-gpu").touch()
    (machine / "lvp_icd.json").touch()
    assert "; an NVIDIA driver is loaded without its Vulkan library" in vulkan.choose_driver()
    assert os.environ["VK_ICD_FILENAMES"] == str(machine / "lvp_icd.json")


@pytest.mark.parametrize("variable", vulkan.USER_CHOICE)
def test_the_users_choice_is_left_alone(machine, monkeypatch, variable):
    mine = described(machine / "mine.json", "libm.so.6")
    monkeypatch.setenv(variable, f"/absent.json:{mine}")
    assert vulkan.choose_driver() == f"{variable}=/absent.json:{mine}"


@pytest.mark.parametrize("variable", vulkan.USER_CHOICE)
@pytest.mark.parametrize("harm", ["no file", "no library", "no description"])
def test_a_choice_of_a_driver_that_is_not_there_is_no_choice(machine, monkeypatch, variable, harm):
    (machine / "lvp_icd.json").touch()
    absent = machine / "nvidia_icd.json"
    if harm == "no library":
        described(absent, "libGLX_none.so.0")
    elif harm == "no description":
        absent.write_text("[]")
    monkeypatch.setenv(variable, str(absent))
    assert f"; {variable}={absent} names no driver that is here" in vulkan.choose_driver()
    assert os.environ.get("VK_DRIVER_FILES") is None


def test_without_any_driver_the_error_says_what_to_install(machine):
    with pytest.raises(RendererError, match=r"apt-get install -y -t bookworm-backports libvulkan1 mesa-vulkan-drivers"):
        vulkan.choose_driver()


@pytest.mark.sim
def test_a_driver_that_cannot_draw_is_an_error_that_says_what_to_install(tmp_path):
    program = (
        "from envs.bridge.vulkan import start_renderer\n"
        "from evals.errors import RendererError\n"
        "try: start_renderer()\n"
        "except RendererError as error: print(error)"
    )
    driver = described(tmp_path / "broken_icd.json", "libm.so.6")
    environment = {**os.environ, "VK_ICD_FILENAMES": str(driver), "VK_DRIVER_FILES": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert f"SAPIEN cannot draw with VK_ICD_FILENAMES={driver}" in done.stdout
    assert "apt-get install" in done.stdout

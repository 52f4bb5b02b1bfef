"""Which driver draws: the user's, the GPU's, or Mesa's; and what to install when there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import envs.simpler_vulkan as vulkan
from evals.errors import RendererError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without GPU, drivers or choices, whose driver folder is returned."""
    for variable in vulkan.USER_CHOICE:
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(vulkan, "DRIVER_FOLDERS", (tmp_path,))
    monkeypatch.setattr(vulkan, "NVIDIA", tmp_path / "no-gpu")
    return tmp_path


def test_software_draws_where_there_is_no_gpu(machine):
    (machine / "lvp_icd.x86_64.json").touch()
    assert vulkan.choose_driver() == f"lavapipe, {machine / 'lvp_icd.x86_64.json'}"
    assert os.environ["VK_ICD_FILENAMES"] == str(machine / "lvp_icd.x86_64.json")


def test_a_gpu_draws_where_there_is_one(machine):
    (machine / "no-gpu").touch()
    (machine / "lvp_icd.json").touch()
    assert vulkan.choose_driver() == "the NVIDIA driver"
    assert os.environ["VK_ICD_FILENAMES"] == ""


def test_the_users_choice_is_left_alone(machine, monkeypatch):
    monkeypatch.setenv("VK_ICD_FILENAMES", "/opt/mine.json")
    assert vulkan.choose_driver() == "VK_ICD_FILENAMES=/opt/mine.json"


def test_without_any_driver_the_error_says_what_to_install(machine):
    with pytest.raises(RendererError, match=r"apt-get install -y -t bookworm-backports libvulkan1 mesa-vulkan-drivers"):
        vulkan.choose_driver()


def test_a_driver_that_cannot_draw_is_an_error_that_says_what_to_install():
    program = (
        "from envs.simpler_vulkan import start_renderer\n"
        "from evals.errors import RendererError\n"
        "try: start_renderer()\n"
        "except RendererError as error: print(error)"
    )
    environment = {**os.environ, "VK_ICD_FILENAMES": "/nonexistent.json"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert "SAPIEN cannot draw with VK_ICD_FILENAMES=/nonexistent.json" in done.stdout
    assert "apt-get install" in done.stdout

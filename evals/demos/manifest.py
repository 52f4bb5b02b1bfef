"""The manifest of a demonstration folder, `demos.json`: which episodes it holds, and how they were recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evals.errors import RunFolderError, UsageError

MANIFEST = "demos.json"
FORMAT = 1


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `demos.json`.

    Raises:
        RunFolderError: the file is missing or cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise RunFolderError(f"{folder} holds no demonstrations: it has no {MANIFEST}. Record some: vla-eval record.")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        found = manifest["format"]
        if found == FORMAT and isinstance(manifest["suite"], str) and isinstance(manifest["episodes"], list):
            return manifest
    except (ValueError, KeyError, TypeError) as error:
        found = f"none that reads ({type(error).__name__}: {error})"
    raise RunFolderError(
        f"{path} has format {found}, this version reads {FORMAT}. The vla-eval record command that made it writes it "
        "again; its episodes stay."
    )


def require_no_merged(folder: Path) -> None:
    """Return unless a folder was put together from others, which are what is recorded and rendered into.

    Raises:
        UsageError: it was.
    """
    if (folder / MANIFEST).is_file() and (parts := read_manifest(folder).get("merged_from")):
        names = ", ".join(part["folder"] for part in parts)
        raise UsageError(f"{folder} was put together from {names}: record and render these, and merge them again.")

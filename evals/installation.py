"""How the package that runs came onto this machine: from a wheel, as an editable installation, or as plain sources."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

NAME = "motion-vla"
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Installation:
    """What runs.

    Attributes:
        how: "a wheel", "an editable installation" or "plain sources".
        version: the package's, or "" if nothing says it.
        commit: what a wheel was built from, if it was installed from a repository, or "".
    """

    how: str
    version: str
    commit: str = ""


def installation() -> Installation:
    """Return how the package that runs was installed.

    An installed distribution counts only if its files are those that run: sources on PYTHONPATH come before it.
    """
    try:
        found = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        return Installation("plain sources", _declared())
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if Path(str(found.locate_file("evals/installation.py"))).resolve() == Path(__file__).resolve() and not (
        origin.get("dir_info", {}).get("editable")
    ):
        return Installation("a wheel", found.version, origin.get("vcs_info", {}).get("commit_id", ""))
    if Path(unquote(urlparse(origin.get("url", "")).path)).resolve() == ROOT:
        return Installation("an editable installation", found.version)
    return Installation("plain sources", _declared())


def _declared() -> str:
    file = ROOT / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return ""
    return str(project.get("version", "")) if project.get("name") == NAME else ""

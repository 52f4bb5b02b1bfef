"""What `make docs` adds to mkdocs: the decisions in the navigation, and figures that lie outside of docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
FIGURES = "results/figures"


def on_config(config: Any) -> Any:  # noqa: ANN401 - mkdocs' own objects
    """List every decision under one heading."""
    decisions = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    config["nav"].append({"Decisions": [f"decisions/{name}" for name in decisions]})
    return config


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401
    """Add the figures, which the pages show."""
    for path in sorted((ROOT / FIGURES).glob("*.png")):
        files.append(File(f"{FIGURES}/{path.name}", str(ROOT), config["site_dir"], config["use_directory_urls"]))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401
    """Point at the site's copy of a figure; what else lies outside of docs/ is named, not linked."""
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(rf"\]\((?:\.\./)+{FIGURES}/(\w+\.png)\)", rf"]({up}{FIGURES}/\1)", markdown)
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?!decisions|guides)(results|tests|vla|evals|envs)[^)]*\)", r"\1", markdown)

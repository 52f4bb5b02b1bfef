"""`vla-eval figures NAME`: finds the figure's module and runs it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from evals.errors import UnknownNameError, UsageError
from evals.terminal.text import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = {
    "embeddings": "analysis.embeddings.command",
    "architecture": "analysis.figures.architecture",
    "demonstrations": "analysis.figures.demonstrations",
}
"""Figures, and the module whose `command` draws each."""


def figures(arguments: list[str]) -> int:
    """Run `vla-eval figures`."""
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(f"Name a figure: vla-eval figures {{{','.join(FIGURES)}}} ...; NAME --help says more.")
    name, rest = arguments[0], arguments[1:]
    if name not in FIGURES:
        raise UnknownNameError("figure", name, FIGURES)
    code: int = import_module(FIGURES[name]).command(rest)
    return code


def write_figure(
    figure: Figure, folder: Path, name: str, dpi: int = 130, suffixes: Sequence[str] = ("png", "pdf")
) -> None:
    """Write a figure in every format, the same bytes each time, and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in suffixes:
        path = folder / f"{name}.{suffix}"
        figure.savefig(path, dpi=dpi, metadata={"CreationDate": None} if suffix == "pdf" else {})
        show(f"Wrote {path}\n")

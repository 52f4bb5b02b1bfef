"""`vla-eval figures NAME`: finds the figure's module and runs it."""

from __future__ import annotations

from importlib import import_module

from evals.errors import UnknownNameError, UsageError

FIGURES = {
    "embeddings": "analysis.embeddings",
    "pipeline": "analysis.figures_pipeline",
    "architecture": "analysis.figures_architecture",
    "demonstrations": "analysis.figures_demonstrations",
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

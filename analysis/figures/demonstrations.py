"""`vla-eval figures demonstrations`: a contact sheet of recorded demonstrations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro

from analysis.figures.command import write_figure
from evals.errors import UsageError
from vla.data.demonstration import Demonstration
from vla.data.demos import read_demos
from vla.data.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE = 1.35
"""Inches of a picture."""


@dataclass(frozen=True)
class DemonstrationsConfig:
    """Draw the first and the last image of one demonstration of every task.

    Attributes:
        data: Demonstration folders with rendered images.
        camera: Name of the camera whose images are shown; the first camera of each folder by default.
        columns: Number of tasks in a row.
        name: Name of the PNG file, without its ending.
        out: Folder for the PNG file.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    camera: str | None = None
    columns: int = 5
    name: str = "demonstrations"
    out: Path = Path("results/figures")


def command(arguments: list[str]) -> int:
    """Run `vla-eval figures demonstrations`."""
    config = tyro.cli(DemonstrationsConfig, args=arguments, prog="vla-eval figures demonstrations")
    try:
        episodes = [episode for folder in config.data for episode in first_of_each_task(read_demos(folder))]
        figure = contact_sheet(episodes, config.columns, config.camera)
    except DataError as error:
        raise UsageError(str(error)) from error
    write_figure(figure, config.out, config.name, dpi=100, suffixes=("png",))
    return 0


def first_of_each_task(episodes: Iterable[Demonstration]) -> list[Demonstration]:
    """Return the first episode of every instruction."""
    found: dict[str, Demonstration] = {}
    for episode in episodes:
        found.setdefault(episode.instruction, episode)
    return list(found.values())


def contact_sheet(episodes: list[Demonstration], columns: int, camera: str | None = None) -> Figure:
    """Draw the first and the last picture of every episode side by side, its instruction above.

    Raises:
        UsageError: an episode has no pictures, or not of that camera.
    """
    from matplotlib.figure import Figure

    rows = -(-len(episodes) // columns)
    figure = Figure(figsize=(columns * (2 * _SIZE + 0.15), rows * (_SIZE + 0.45)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, episode in zip(grid, episodes, strict=False):
        name = camera or next(iter(episode.cameras), "")
        if name not in episode.cameras or not episode.num_starts:
            known = ", ".join(episode.cameras) or "none; draw some with vla-eval render"
            raise UsageError(f"{episode.where} has no pictures of camera {name!r} (it has: {known}).")
        frames = episode.cameras[name]
        pair = [frames[episode.start(index)] for index in (0, episode.num_starts - 1)]
        axes.imshow(np.concatenate(pair, axis=1))
        title = "\n".join(textwrap.wrap(episode.instruction, 46)[:2])
        axes.set_title(f"{episode.dataset}, {len(episode)} steps\n{title}", fontsize=6)
    return figure

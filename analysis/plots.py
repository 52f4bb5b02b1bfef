"""Plots of frames: (frame, Axes) to Axes; nothing here shows or saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from evals.summary import effective_n, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def success_rates(frame: pd.DataFrame, axes: Axes, by: str = "policy") -> Axes:
    """Draw the success rate of every task with its Wilson interval, one colour a value of `by`.

    Args:
        frame: of `analysis.runs.episodes`, of one suite; episodes without a score are left out.
        axes: to draw on.
        by: column that tells series apart.

    Raises:
        ValueError: the frame holds more than one suite, or none.
    """
    suites = frame["suite"].unique().tolist()
    if len(suites) != 1:
        raise ValueError(f"One suite was expected, got {suites}.")
    scored = frame[frame["scored"]]
    tasks = sorted(scored["task"].unique())
    series = scored[by].unique().tolist()
    for at, name in enumerate(series):
        mine = scored[scored[by] == name]
        points = [(task, *_rate(mine[mine["task"] == task])) for task in tasks if (mine["task"] == task).any()]
        y, rate, low, high = (np.array(column, dtype=float) for column in zip(*points, strict=True))
        y += (at - (len(series) - 1) / 2) * 0.6 / len(series)
        axes.errorbar(100 * rate, y, xerr=100 * np.abs([rate - low, high - rate]), fmt="o", capsize=2, label=name)
    axes.set_yticks(tasks, [f"task {task}" for task in tasks])
    axes.set(xlim=(-2, 102), xlabel="success rate, %, with 95 % interval", title=suites[0])
    axes.invert_yaxis()
    axes.legend(loc="best")
    return axes


def episode_seconds(frame: pd.DataFrame, axes: Axes, by: str = "policy") -> Axes:
    """Draw where the wall time of scored episodes went, one bar a value of `by`."""
    phases = ["reset_seconds", "physics_seconds", "render_seconds", "policy_seconds"]
    means = frame[frame["scored"]].groupby(by, observed=True)[phases].mean()
    left = np.zeros(len(means))
    for phase in phases:
        axes.barh(means.index.astype(str), means[phase], left=left, label=phase.removesuffix("_seconds"))
        left += means[phase].to_numpy()
    axes.set(xlabel="seconds an episode")
    axes.legend(loc="best")
    return axes


def _rate(episodes: pd.DataFrame) -> tuple[float, float, float]:
    rate = float(episodes["success"].mean())
    n = effective_n(episodes["trajectory_hash"])
    return rate, *wilson(rate * n, n)

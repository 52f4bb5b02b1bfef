"""Where the marks of a report's two plots stand; the template draws them as SVG, in the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.summary import Rate, Summary
from evals.summary_format import percent, span
from evals.types import EpisodeResult

PHASES = ("reset", "physics", "render", "policy")
_ROW, _LANE, _TOP = 14, 12, 22


@dataclass(frozen=True)
class Mark:
    """A rate with its interval, `y` pixels from the top."""

    y: float
    rate: Rate
    series: int
    text: str


@dataclass(frozen=True)
class Dots:
    """Rates with intervals, tasks from top to bottom, one lane a run within a task.

    Attributes:
        labels: (y, text) of each row.
        marks: what was measured.
        names: one name a series.
        height: of the plot, in pixels.
    """

    labels: tuple[tuple[float, str], ...]
    marks: tuple[Mark, ...]
    names: tuple[str, ...]
    height: float


@dataclass(frozen=True)
class Bar:
    """Mean seconds an episode of one run, by phase: (phase, seconds, percent of the longest run before it, its own)."""

    name: str
    total: float
    parts: tuple[tuple[str, float, float, float], ...]


def dots(runs: Sequence[tuple[str, Summary]]) -> Dots:
    """Place the rates of runs of one suite; tasks without a score have no mark."""
    names = {rate.task: rate.label for _, summary in runs for rate in (*summary.tasks, summary.mean)}
    rows = [*sorted(task for task in names if task is not None), None]
    pitch = _ROW + _LANE * len(runs)
    labels, marks = [], []
    for at, task in enumerate(rows):
        top = _TOP + at * pitch
        labels.append((top + pitch / 2 - _ROW / 2, names[task]))
        for series, (name, summary) in enumerate(runs):
            for rate in (*summary.tasks, summary.mean):
                if rate.task == task and rate.value is not None:
                    text = f"{name}, {names[task]}: {percent(rate.value)} %, 95 % interval {span(rate.interval)}"
                    marks.append(Mark(top + (series + 0.5) * _LANE, rate, series, text))
    return Dots(tuple(labels), tuple(marks), tuple(name for name, _ in runs), _TOP + len(rows) * pitch)


def time_bars(runs: Sequence[tuple[str, Sequence[EpisodeResult]]]) -> list[Bar]:
    """Return where the wall time of the scored episodes went."""
    means = []
    for name, results in runs:
        scored = [result.seconds for result in results if result.status.scored]
        if scored:
            means.append((name, {p: sum(getattr(s, p) for s in scored) / len(scored) for p in PHASES}))
    longest = max((sum(mean.values()) for _, mean in means), default=0.0) or 1.0
    bars = []
    for name, mean in means:
        before, parts = 0.0, []
        for phase in PHASES:
            parts.append((phase, mean[phase], 100 * before / longest, 100 * mean[phase] / longest))
            before += mean[phase]
        bars.append(Bar(name, before, tuple(parts)))
    return bars

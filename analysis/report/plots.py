"""Where the marks of a report's two plots stand; the template draws them as SVG, in the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.summary import Summary
from evals.types import EpisodeResult

PHASES = ("reset", "physics", "render", "policy")
_ROW, _LANE, _TOP = 14, 12, 22


@dataclass(frozen=True)
class Mark:
    """A rate with its interval, in percent, `y` pixels from the top."""

    y: float
    value: float
    low: float
    high: float
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
    texts = {row.task: f"{row.task} {row.instruction or row.name}" for _, summary in runs for row in summary.tasks}
    rows = [*sorted(texts), None]
    pitch = _ROW + _LANE * len(runs)
    labels, marks = [], []
    for at, task in enumerate(rows):
        top = _TOP + at * pitch
        labels.append((top + pitch / 2 - _ROW / 2, "Mean of tasks" if task is None else texts[task]))
        for series, (name, summary) in enumerate(runs):
            found = _rate(summary, task)
            if found is not None:
                value, low, high = (100 * number for number in found)
                text = f"{name}, {labels[-1][1]}: {value:.1f} %, 95 % interval {low:.1f} to {high:.1f}"
                marks.append(Mark(top + (series + 0.5) * _LANE, value, low, high, series, text))
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


def _rate(summary: Summary, task: int | None) -> tuple[float, float, float] | None:
    if task is None:
        if summary.mean is None or summary.interval is None:
            return None
        return summary.mean.value, *summary.interval
    row = next((row for row in summary.tasks if row.task == task), None)
    return None if row is None or row.rate is None else (row.rate, *row.interval)

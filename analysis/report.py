"""`vla-eval report RUN...`: one HTML file that opens from disk and needs no network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
import tyro

from analysis.comparison import SuiteComparison, adjust, compare
from analysis.frame import find_runs, planned
from analysis.report_episodes import EpisodeView, Films, episodes_of
from analysis.report_plots import Bar, Dots, dots, time_bars
from evals.errors import UsageError
from evals.record import Run, packages, read_run, revision
from evals.summary import Summary, summarise
from evals.summary_format import notes
from evals.types import Task

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class ReportConfig:
    """Write one self-contained HTML page about recorded runs, failures first.

    Attributes:
        runs: Run folders, or folders or patterns that hold some.
        out: File to write.
        title: Heading of the page.
        film_megabytes: Films of failed episodes are embedded up to this size; later ones are linked.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    out: Path = Path("report.html")
    title: str = "Evaluation report"
    film_megabytes: float = 50.0


@dataclass(frozen=True)
class RunView:
    """A run in a report."""

    label: str
    run: Run
    summary: Summary
    notes: tuple[str, ...]

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What was run and how, as pairs of words."""
        header, sessions = self.run.header, self.run.header.sessions
        last = sessions[-1] if sessions else {}
        pairs = {
            "Folder": str(self.run.path),
            **{name: _words(value) for name, value in header.config.items()},
            **{name: value for name, value in header.conditions.items() if value},
            "Started": ", ".join(str(session.get("started", "")) for session in sessions),
            "Command": " ".join(map(str, last.get("command", ()))),
            "Gates": _words(last.get("gates", "")),
            "Revision": "; then ".join(dict.fromkeys(filter(None, map(revision, sessions)))),
            "Packages": "; then ".join(dict.fromkeys(filter(None, map(packages, sessions)))),
            **{name: _words(last.get(name.lower(), "")) for name in ("Renderer", "Python", "Platform", "CPU", "GPU")},
        }
        return [(name.replace("_", " ").capitalize(), text) for name, text in pairs.items() if text]

    @property
    def protocol(self) -> list[tuple[str, str]]:
        """The protocol, as pairs of words."""
        fields = {"hash": self.run.header.protocol_hash, **self.run.header.protocol}
        return [(name.replace("_", " ").capitalize(), _words(value)) for name, value in fields.items() if value != {}]


@dataclass(frozen=True)
class SuiteView:
    """The runs of one suite, compared with the first of them."""

    name: str
    runs: tuple[RunView, ...]
    plot: Dots
    comparisons: tuple[tuple[str, str, SuiteComparison], ...]
    warnings: tuple[str, ...]


def command(arguments: list[str]) -> int:
    """Run `vla-eval report`."""
    config = tyro.cli(ReportConfig, args=arguments, prog="vla-eval report")
    runs = [read_run(path) for path in find_runs(*config.runs)] if config.runs else []
    if not runs:
        raise UsageError("Name a run folder, or a folder of them: vla-eval report results/runs")
    films = Films(int(config.film_megabytes * _MEGABYTE))
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(html(runs, config.title, films, config.out.parent), encoding="utf-8")
    print(f"Wrote {config.out} ({config.out.stat().st_size / _MEGABYTE:.1f} MB, {len(runs)} runs).")
    if films.linked:
        print(f"{films.linked} films are linked, not embedded: keep the run folders beside it, or --film-megabytes.")
    return 0


def html(runs: Sequence[Run], title: str, films: Films, folder: Path) -> str:
    """Return the page.

    Args:
        runs: what it is about.
        title: its heading.
        films: embeds or links videos.
        folder: where the page will lie, for links.

    Raises:
        RunFolderError: a run does not say what was planned, or a trace does not read.
    """
    views = [_view(run, label) for run, label in zip(runs, labels(runs), strict=True)]
    by_suite: dict[str, list[RunView]] = {}
    for view in views:
        by_suite.setdefault(view.summary.suite, []).append(view)
    every = [e for view in views for e in episodes_of(view.run, view.label, films, folder)]
    every.sort(key=lambda e: e.rank)
    loader = jinja2.PackageLoader("analysis")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page: str = environment.get_template("report.html").render(
        title=title,
        suites=[_suite(name, members) for name, members in by_suite.items()],
        runs=views,
        times=_times(views),
        episodes=every,
        outcomes=list(dict.fromkeys(e.outcome for e in every)),
        filters={"Run": _values(every, "run"), "Task": _values(every, "task"), "Outcome": _values(every, "outcome")},
    )
    return page


def labels(runs: Sequence[Run]) -> list[str]:
    """Return a short name for each run: its policy, with as much of its folder as it takes to tell them apart."""
    policies = [str(run.header.config["policy"]) for run in runs]
    suites = [run.header.suite["name"] for run in runs]
    names = [f"{suite}: {policy}" for suite, policy in zip(suites, policies, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name}, {run.path.name}" for name, run in zip(names, runs, strict=True)
    ]


def _view(run: Run, label: str) -> RunView:
    tasks = [Task(**task) for task in run.header.suite["tasks"]]
    summary = summarise(run.header.suite["name"], tasks, run.results, planned(run))
    torn = ("The last line of the record was cut off; the run did not end by itself.",) if run.torn else ()
    return RunView(label, run, summary, (*notes(summary), *torn, *run.remarks))


def _suite(name: str, views: Sequence[RunView]) -> SuiteView:
    pairs, warnings = [], []
    if len({view.run.header.protocol_hash for view in views}) > 1:
        warnings.append("These runs have different protocols: their rates are not comparable.")
    for a, b in itertools.combinations(views, 2):
        try:
            pairs.append((a.label, b.label, compare(a.run, b.run, mixed_protocols=True)))
        except UsageError as error:
            warnings.append(str(error))
    adjusted = adjust([comparison for _, _, comparison in pairs])
    compared = tuple((a, b, c) for (a, b, _), c in zip(pairs, adjusted, strict=True))
    plot = dots([(view.label, view.summary) for view in views])
    return SuiteView(name, tuple(views), plot, compared, tuple(warnings))


def _times(views: Sequence[RunView]) -> list[Bar]:
    return time_bars([(view.label, view.run.results) for view in views])


def _values(episodes: Sequence[EpisodeView], field: str) -> list[str]:
    return list(dict.fromkeys(str(getattr(episode, field)) for episode in episodes))


def _words(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_words(part)}" for key, part in value.items())
    return json.dumps(value)

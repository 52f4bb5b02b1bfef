"""`vla-eval report RUN...`: one HTML file that opens from disk and needs no network."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
import tyro
from markupsafe import Markup

from analysis.paper.measured import conditions_of
from analysis.recorded import Recorded, decision_of, load_runs, planned, split_strays, tasks_of
from analysis.report.episodes import EpisodeView, Films, episodes_of
from analysis.report.plots import Bar, Dots, dots, time_bars
from analysis.stats.paired import SuiteComparison, adjust, compare
from evals.errors import UsageError
from evals.record import Run, packages, revision
from evals.summary import Summary, summarise
from evals.summary_format import notes, sheet
from evals.terminal.tables import Sheet
from evals.terminal.text import show, visible, write_whole
from vla.errors import LabellerError
from vla.motion.registry import labeller

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class ReportConfig:
    """Write one self-contained HTML page about recorded runs, with failed episodes first.

    Attributes:
        runs: Run folders, or folders or patterns that hold run folders.
        out: HTML file to write.
        title: Heading of the page.
        motion: Labeller that says what was done: raw, adaptive, hmm, segments or a plugin's.
        film_megabytes: Largest total size, in megabytes, of the videos that are embedded in the page; further videos
            are linked.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    out: Path = Path("report.html")
    title: str = "Evaluation report"
    motion: str = "adaptive"
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
        command = last.get("command", "")
        pairs = {
            "Folder": str(self.run.path),
            **{name: _words(value) for name, value in header.config.items()},
            **{name: value for name, value in header.conditions.items() if value},
            "Started": ", ".join(str(session.get("started", "")) for session in sessions),
            "Command": " ".join(map(str, command)) if isinstance(command, list) else _words(command),
            "Gates": _words(last.get("gates", "")),
            "Revision": "; then ".join(dict.fromkeys(filter(None, map(revision, sessions)))),
            "Packages": "; then ".join(dict.fromkeys(filter(None, map(packages, sessions)))),
            **{name: _words(last.get(name.lower(), "")) for name in ("Renderer", "Python", "Platform", "CPU", "GPU")},
        }
        return [(name.replace("_", " ").capitalize(), text) for name, text in pairs.items() if text]

    @property
    def sheet(self) -> Sheet:
        """The rates of the run, as the terminal shows them."""
        return sheet(self.summary)

    @property
    def protocol(self) -> list[tuple[str, str]]:
        """The protocol, as pairs of words."""
        fields = {"hash": self.run.header.protocol_hash, **self.run.header.protocol}
        return [(name.replace("_", " ").capitalize(), _words(value)) for name, value in fields.items() if value != {}]


@dataclass(frozen=True)
class SuiteView:
    """The runs of one suite, and their comparisons.

    Attributes:
        name: name of the suite.
        runs: the runs.
        plot: success rates of the runs.
        comparisons: (name of A, name of B, comparison) for every pair of entries.
        warnings: reasons why runs cannot be compared, or only with care.
    """

    name: str
    runs: tuple[RunView, ...]
    plot: Dots
    comparisons: tuple[tuple[str, str, SuiteComparison], ...]
    warnings: tuple[str, ...]


def command(arguments: list[str]) -> int:
    """Run `vla-eval report`."""
    config = tyro.cli(ReportConfig, args=arguments, prog="vla-eval report")
    if not 0 <= config.film_megabytes < math.inf:
        raise UsageError(f"--film-megabytes is {config.film_megabytes}; it must be a number from 0.")
    recorded = load_runs(*config.runs) if config.runs else Recorded(())
    if not recorded.runs:
        raise UsageError("Name a run folder, or a folder of them: vla-eval report results/runs")
    films = Films(int(config.film_megabytes * _MEGABYTE))
    write_whole(config.out, html(recorded, config, films))
    size = config.out.stat().st_size / _MEGABYTE
    lines = [f"Wrote {config.out} ({size:.1f} MB, {len(recorded.runs)} runs).", *recorded.notes]
    if films.linked:
        lines.append(
            f"{films.linked} videos are linked, not embedded: keep the run folders next to the page, or raise "
            "--film-megabytes."
        )
    show("".join(f"{line}\n" for line in lines))
    return 0


def html(recorded: Recorded, config: ReportConfig, films: Films) -> str:
    """Return the page.

    Args:
        recorded: the runs that it is about.
        config: what was asked for.
        films: embeds or links videos.

    Raises:
        UsageError: there is no such labeller.
        RunFolderError: a run does not say what was planned.
    """
    try:
        chosen = labeller(config.motion)
    except LabellerError as error:
        raise UsageError(f"--motion: {error}") from error
    runs = recorded.runs
    views = [_view(run, label) for run, label in zip(runs, labels(runs), strict=True)]
    by_suite: dict[str, list[RunView]] = {}
    for view in views:
        by_suite.setdefault(view.summary.suite, []).append(view)
    every = [
        episode
        for view, run in zip(views, runs, strict=True)
        for episode in episodes_of(run, view.label, films, config.out.parent, chosen)
    ]
    every.sort(key=lambda e: e.rank)
    loader = jinja2.PackageLoader("analysis.report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_shown
    )
    page: str = environment.get_template("report.html").render(
        title=config.title,
        motion=config.motion,
        notes=recorded.notes,
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
    names = [f"{run.header.suite['name']}: {run.header.config['policy']}" for run in runs]
    folders = [run.path.resolve().parts for run in runs]
    found = names
    for depth in range(1, max(map(len, folders), default=0) + 1):
        if len(set(found)) == len(found):
            break
        ends = ["/".join(parts[-depth:]) for parts in folders]
        found = [name if names.count(name) == 1 else f"{name}, {end}" for name, end in zip(names, ends, strict=True)]
    return found


def _view(run: Run, label: str) -> RunView:
    run, strays = split_strays(run)
    summary = summarise(run.header.suite["name"], tasks_of(run), run.results, planned(run))
    said = list(notes(summary))
    if run.torn:
        said.append("The last line of the record was cut off; the run did not end by itself.")
    if strays:
        unknown = ", ".join(map(str, strays))
        said.append(f"run.json has no task {unknown}: episodes of it are listed, and count in no rate or comparison.")
    if decided := decision_of(run):
        said.append(decided)
    return RunView(label, run, summary, (*said, *run.remarks))


def _entries(views: Sequence[RunView]) -> list[tuple[str, list[Run]]]:
    """Return the entries that are compared, as (name, runs): runs that differ only in their seed are one entry."""
    groups: dict[str, list[RunView]] = {}
    for view in views:
        header = view.run.header
        config = {name: value for name, value in header.config.items() if name != "seed"}
        identity = [conditions_of(view.run), header.protocol_hash, sorted(config.items())]
        groups.setdefault(repr(identity), []).append(view)
    found = []
    policies = [members[0].run.header.config["policy"] for members in groups.values()]
    for members in groups.values():
        seeds = [view.run.header.config.get("seed") for view in members]
        if len(members) == 1 or len(set(map(repr, seeds))) < len(seeds):
            found += [(view.label, [view.run]) for view in members]
        else:
            policy = members[0].run.header.config["policy"]
            alone = policies.count(policy) == 1
            name = f"{members[0].summary.suite}: {policy}" if alone else members[0].label
            found.append((f"{name}, seeds {', '.join(map(str, seeds))}", [view.run for view in members]))
    return found


def _suite(name: str, views: Sequence[RunView]) -> SuiteView:
    pairs, warnings = [], []
    if len({view.run.header.protocol_hash for view in views}) > 1:
        warnings.append("These runs have different protocols: their rates are not comparable.")
    for (a, first), (b, second) in itertools.combinations(_entries(views), 2):
        try:
            pairs.append((a, b, compare(first, second, mixed_protocols=True)))
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


def _shown(value: object) -> object:
    """Return what the page shows of a value: text from a record with its control characters written out."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)


def _words(value: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_words(part)}" for key, part in value.items())
    return json.dumps(value)

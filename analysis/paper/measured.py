"""From run folders to cells of a table: runs are told apart by the conditions that they declare, never by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.paper.printed import Column, Conditions
from analysis.recorded import decision_of, planned, tasks_of
from evals.errors import UsageError
from evals.record import Run
from evals.summary import Interval, Rate, Summary, mean_of, summarise


@dataclass(frozen=True)
class Cell:
    """A measured success rate, and what must be said beside it.

    Attributes:
        rate: the rate; its value is None while a task of the suite has no score.
        missing: what is not there, in words, or "".
        bounds: the rates that the missing episodes could still lead to, tasks that nobody planned included.
        protocol: hash of the protocol.
        runs: the folders behind it.
        decided: why runs stopped before their last episode, if they did.
    """

    rate: Rate
    missing: str
    bounds: Interval
    protocol: str
    runs: tuple[str, ...]
    decided: tuple[str, ...] = ()


Measurements = Mapping[Conditions, Mapping[Column, Cell]]


def conditions_of(run: Run) -> Conditions:
    """Return a run's declared conditions; a run that declares none is a baseline named by its policy."""
    declared = Conditions(*(str(run.header.conditions.get(name, "")) for name in Conditions._fields))
    return declared if any(declared) else Conditions(method=str(run.header.config["policy"]))


def measure(runs: Sequence[Run], mixed_protocols: bool = False) -> Measurements:
    """Return the cells that runs fill: each suite, and each task of it, under each set of conditions.

    Runs that differ in their seed only are pooled; their identical trajectories count once in the errors.

    Raises:
        UsageError: one suite was run under several protocols and that is not asked for; two runs of one seed, or of
            different policies, declare the same conditions.
    """
    groups: dict[tuple[Conditions, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((conditions_of(run), run.header.suite["name"]), []).append(run)
    if not mixed_protocols:
        _refuse_mixed(runs)
    cells: dict[Conditions, dict[Column, Cell]] = {}
    for (conditions, _), members in groups.items():
        said = f"declare the conditions {tuple(conditions_of(members[0]))} for {members[0].header.suite['name']}"
        refuse_duplicates(members, said, "Name one of them, or tell them apart with --condition when they run.")
        cells.setdefault(conditions, {}).update(_cells(members))
    return cells


def average(cells: Mapping[Column, Cell], columns: Sequence[Column]) -> Cell | None:
    """Return the equal-weight mean of columns, or None unless every one of them has a rate."""
    parts = [cells[column] for column in columns if column in cells and cells[column].rate.value is not None]
    if len(parts) < len(columns):
        return None
    return Cell(
        rate=mean_of([part.rate for part in parts]),
        missing="; ".join(dict.fromkeys(part.missing for part in parts if part.missing)),
        bounds=Interval(*(sum(ends) / len(parts) for ends in zip(*(part.bounds for part in parts), strict=True))),
        protocol="",
        runs=tuple(run for part in parts for run in part.runs),
        decided=tuple(dict.fromkeys(text for part in parts for text in part.decided)),
    )


def _refuse_mixed(runs: Sequence[Run]) -> None:
    first: dict[str, Run] = {}
    for run in runs:
        known = first.setdefault(run.header.suite["name"], run)
        if known.header.protocol_hash != run.header.protocol_hash:
            a, b = known.header.protocol, run.header.protocol
            fields = ", ".join(sorted(name for name in {*a, *b} if a.get(name) != b.get(name)))
            raise UsageError(
                f"{known.path} and {run.path} ran {run.header.suite['name']} under different protocols (they differ in:"
                f" {fields}) and do not belong in one table. --mixed-protocols prints them with footnotes."
            )


def refuse_duplicates(runs: Sequence[Run], said: str, advice: str) -> None:
    """Refuse to count runs together that differ in more than their seed, or not in their seed.

    Args:
        runs: runs of one suite.
        said: what they have in common, as the end of "A and B both ...".
        advice: what to do about it.

    Raises:
        UsageError: two of them cannot be counted together.
    """
    by_seed: dict[object, Run] = {}
    for run in runs:
        identity, first = _identity(run), _identity(runs[0])
        if identity != first:
            differing = ", ".join(sorted(k for k in {*identity, *first} if identity.get(k) != first.get(k)))
            raise UsageError(f"{runs[0].path} and {run.path} both {said}, but differ in: {differing}. {advice}")
        known = by_seed.setdefault(run.header.config.get("seed"), run)
        if known is not run:
            raise UsageError(f"{known.path} and {run.path} both {said} with the same seed. Name one of them.")


def _identity(run: Run) -> dict[str, object]:
    config = {key: value for key, value in run.header.config.items() if key != "seed"}
    return {**config, "protocol": run.header.protocol_hash}


def _cells(runs: Sequence[Run]) -> dict[Column, Cell]:
    header = runs[0].header
    suite = header.suite["name"]
    tasks = tasks_of(runs[0])
    plan: Counter[int] = Counter()
    for run in runs:
        plan.update(planned(run))
    summary = summarise(suite, tasks, [result for run in runs for result in run.results], plan)
    decided = tuple(filter(None, map(decision_of, runs)))
    source = (header.protocol_hash, tuple(str(run.path) for run in runs), decided)
    cells = {}
    for row in summary.tasks:
        missing = f"{row.missing} of {row.planned} episodes of {suite} {row.task}" if row.missing else ""
        cells[Column(suite, row.name)] = Cell(row, missing, row.bounds, *source)
    cells[Column(suite)] = Cell(summary.mean, _missing(summary, len(tasks)), _bounds(summary, len(tasks)), *source)
    return cells


def _missing(summary: Summary, tasks: int) -> str:
    missing = []
    if len(summary.tasks) < tasks:
        missing.append(f"{tasks - len(summary.tasks)} of {tasks} tasks of {summary.suite}")
    if lost := summary.mean.missing:
        missing.append(f"{lost} of {summary.mean.planned} episodes of {summary.suite}")
    return ", ".join(missing)


def _bounds(summary: Summary, tasks: int) -> Interval:
    """Return worst-case bounds of the mean over all of the suite's tasks, unplanned ones included."""
    share, within = len(summary.tasks) / tasks, summary.mean.bounds
    return Interval(within.low * share, within.high * share + 1 - share)

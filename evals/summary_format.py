"""A summary as text: a table for the terminal, markdown, CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

from rich.table import Table

from evals.errors import UsageError
from evals.summary import Interval, Rate, Summary
from evals.terminal.tables import Column, Sheet, as_csv, records_of, sheet_of

Format = Literal["table", "markdown", "csv", "json"]
FORMATS: tuple[Format, ...] = ("table", "markdown", "csv", "json")


def percent(rate: float) -> str:
    """Return a rate in [0, 1] as it is printed."""
    return f"{100 * rate:.1f}"


def span(interval: Interval) -> str:
    """Return an interval as it is printed."""
    return f"{percent(interval.low)} to {percent(interval.high)}"


COLUMNS: list[Column[Rate]] = [
    Column("task", lambda rate: "" if rate.task is None else rate.task),
    Column("name", lambda rate: rate.name),
    Column("instruction", lambda rate: rate.instruction),
    Column("", lambda rate: rate.label, "Task"),
    Column("rate", lambda rate: rate.value, "Success", percent),
    Column("", lambda rate: None if rate.value is None else rate.interval, "95 % interval", span),
    Column("standard_error", lambda rate: rate.standard_error, "± SE", percent),
    Column("low", lambda rate: None if rate.value is None else rate.interval.low),
    Column("high", lambda rate: None if rate.value is None else rate.interval.high),
    Column("worst", lambda rate: rate.bounds.low if rate.planned else None),
    Column("best", lambda rate: rate.bounds.high if rate.planned else None),
    Column("planned", lambda rate: rate.planned),
    Column("scored", lambda rate: rate.scored, "n"),
    Column("successes", lambda rate: rate.successes),
    Column("successes_ever", lambda rate: rate.successes_ever),
    Column("successes_last", lambda rate: rate.successes_last),
    Column("at_reset", lambda rate: rate.at_reset),
    Column("unofficial", lambda rate: rate.unofficial),
    Column("", lambda rate: rate.effective, "n_eff", "{:.0f}".format),
    Column("missing", lambda rate: rate.missing, "Missing", lambda missing: str(missing or "")),
    Column("effective", lambda rate: rate.effective),
]
"""What is told of a rate, in every format. A line here is all that a further column takes."""


def render(summary: Summary, format: Format = "table", width: int = 120) -> str:
    """Return the summary as text that ends in a newline.

    Args:
        summary: what `evals.summary.summarise` returned.
        format: one of `FORMATS`. "table" is plain text without colour; print `rich_table` for colour.
        width: columns of a plain-text table.

    Raises:
        UsageError: there is no such format.
    """
    if format in ("table", "markdown"):
        return sheet(summary, summary.suite if format == "table" else "").text(format, width)
    records = records_of(columns(summary), _rates(summary))
    if format == "csv":
        return as_csv([list(records[0]), *(record.values() for record in records)])
    if format == "json":
        return json.dumps({"suite": summary.suite, "rows": records, "notes": notes(summary)}, indent=1) + "\n"
    raise UsageError(f"No format named {format!r}. Known: {', '.join(FORMATS)}.")


def rich_table(summary: Summary) -> Table:
    """Return the summary as a Rich table; `notes` belong under it."""
    return sheet(summary, summary.suite).table()


def sheet(summary: Summary, title: str = "") -> Sheet:
    """Return a row a task and one for the mean, with the notes."""
    rates, last = _rates(summary), len(summary.tasks)
    told = tuple(notes(summary))
    return sheet_of(columns(summary), rates, title, notes=told, ends=[last - 1], bold=[last])


def columns(summary: Summary) -> list[Column[Rate]]:
    """Return `COLUMNS` and the partial outcomes: the first stands beside success, where the suite counts any."""
    names = list(summary.mean.partial)
    shown = [Column("", _partial(name), name, percent) for name in names[:1]]
    at = 1 + [column.key for column in COLUMNS].index("rate")
    return [*COLUMNS[:at], *shown, *COLUMNS[at:], *(Column(name, _partial(name)) for name in names)]


def notes(summary: Summary) -> list[str]:
    """Return the sentences that must stand under the table for its numbers to be honest."""
    lines = []
    mean = summary.mean
    if mean.missing:
        ended = ", ".join(f"{count} {status}" for status, count in sorted(mean.errors.items()))
        low, high = map(percent, mean.bounds)
        lines.append(
            f"INCOMPLETE: {mean.missing} of {mean.planned} episodes have no score"
            f" ({ended or 'not run'}); the mean lies between {low} and {high} % whatever they were."
        )
    if mean.effective < mean.scored:
        lines.append(
            f"{mean.scored} episodes carry as much as {mean.effective:.0f}: some repeat the same trajectory exactly."
            " Errors and intervals use n_eff."
        )
    if mean.at_reset:
        lines.append(f"Successes before the first action (free points): {mean.at_reset}.")
    if mean.unofficial:
        lines.append(f"Initial states that are not the protocol's, so not comparable: {mean.unofficial}.")
    ever, last, scores = mean.successes_ever, mean.successes_last, mean.successes
    if not ever == last == scores:
        lines.append(f"Success at any step: {ever}, at the last step: {last}, as the protocol scores it: {scores}.")
    return lines


def _rates(summary: Summary) -> list[Rate]:
    return [*summary.tasks, summary.mean]


def _partial(name: str) -> Callable[[Rate], float | None]:
    return lambda rate: rate.partial.get(name)

"""A summary as text: a table for the terminal, markdown, CSV or JSON."""

from __future__ import annotations

import json
from typing import Any, Literal

from rich.table import Table

from evals.errors import UsageError
from evals.summary import Estimate, Interval, Summary, TaskRow
from evals.terminal.tables import as_csv, as_markdown, as_text, make_table, markdown
from evals.terminal.text import one_line

Format = Literal["table", "markdown", "csv", "json"]
FORMATS: tuple[Format, ...] = ("table", "markdown", "csv", "json")
NOTHING = "–"  # noqa: RUF001  (an en dash stands for "no number")
_HEADER = ("Task", "Success", "95 % interval", "± SE", "n", "n_eff", "Missing")


def render(summary: Summary, format: Format = "table", width: int = 120) -> str:
    """Return the summary as text that ends in a newline.

    Args:
        summary: what `evals.summary.summarise` returned.
        format: one of `FORMATS`. "table" is plain text without colour; print `rich_table` for colour.
        width: columns of a plain-text table.

    Raises:
        UsageError: there is no such format.
    """
    if format == "table":
        return as_text(rich_table(summary), width) + "".join(f"{one_line(note)}\n" for note in notes(summary))
    if format == "markdown":
        below = "".join(f"\n{markdown(note)}\n" for note in notes(summary))
        return as_markdown(_header(summary), _cells(summary)) + below
    if format == "csv":
        records = as_records(summary)
        return as_csv([list(records[0]), *(record.values() for record in records)])
    if format == "json":
        return (
            json.dumps({"suite": summary.suite, "rows": as_records(summary), "notes": notes(summary)}, indent=1) + "\n"
        )
    raise UsageError(f"No format named {format!r}. Known: {', '.join(FORMATS)}.")


def rich_table(summary: Summary) -> Table:
    """Return the summary as a Rich table; `notes` belong under it."""
    rows = _cells(summary)
    mean = len(rows) - 1
    return make_table(_header(summary), rows, title=summary.suite, ends=[mean - 1], bold=[mean])


def notes(summary: Summary) -> list[str]:
    """Return the sentences that must stand under the table for its numbers to be honest."""
    lines = []
    missing = int(summary.total("missing"))
    if missing and summary.bounds is not None:
        causes: dict[str, int] = {}
        for row in summary.tasks:
            for status, count in row.errors.items():
                causes[status] = causes.get(status, 0) + count
        ended = ", ".join(f"{count} {status}" for status, count in sorted(causes.items()))
        low, high = summary.bounds
        lines.append(
            f"INCOMPLETE: {missing} of {int(summary.total('planned'))} episodes have no score"
            f" ({ended or 'not run'}); the mean lies between {_percent(low)} and {_percent(high)} % whatever they were."
        )
    scored, effective = summary.total("scored"), summary.total("effective")
    if effective < scored:
        lines.append(
            f"{int(scored)} episodes carry as much as {effective:.0f}: some repeat the same trajectory exactly."
            " Errors and intervals use n_eff."
        )
    if at_reset := int(summary.total("at_reset")):
        lines.append(f"Successes before the first action (free points): {at_reset}.")
    if unofficial := int(summary.total("unofficial")):
        lines.append(f"Initial states that are not the protocol's, so not comparable: {unofficial}.")
    ever, last, scores = (int(summary.total(f"successes{rule}")) for rule in ("_ever", "_last", ""))
    if not ever == last == scores:
        lines.append(f"Success at any step: {ever}, at the last step: {last}, as the protocol scores it: {scores}.")
    return lines


def as_records(summary: Summary) -> list[dict[str, Any]]:
    """Return one flat dict a task and one for the mean (task ""), rates in [0, 1], None where there is no number."""
    records = [_record(row) for row in summary.tasks]
    mean, interval, bounds = summary.mean, summary.interval, summary.bounds
    counts = ("planned", "scored", "successes", "successes_ever", "successes_last", "at_reset", "unofficial", "missing")
    records.append(
        {
            "task": "",
            "name": "mean",
            "instruction": "",
            **_numbers(mean, interval, bounds),
            **{name: int(summary.total(name)) for name in counts},
            "effective": summary.total("effective"),
            **summary.partial,
        }
    )
    names = list(summary.partial)
    return [{**record, **{name: record.get(name) for name in names}} for record in records]


def _header(summary: Summary) -> tuple[str, ...]:
    """Return the columns' names: beside success the first partial outcome, where the suite counts any."""
    return (*_HEADER[:2], *list(summary.partial)[:1], *_HEADER[2:])


def _record(row: TaskRow) -> dict[str, Any]:
    estimate = None if row.rate is None or row.standard_error is None else Estimate(row.rate, row.standard_error)
    return {
        "task": row.task,
        "name": row.name,
        "instruction": row.instruction,
        **_numbers(estimate, row.interval if row.scored else None, row.bounds),
        "planned": row.planned,
        "scored": row.scored,
        "successes": row.successes,
        "successes_ever": row.successes_ever,
        "successes_last": row.successes_last,
        "at_reset": row.at_reset,
        "unofficial": row.unofficial,
        "missing": row.missing,
        "effective": row.effective,
        **row.partial,
    }


def _numbers(estimate: Estimate | None, interval: Interval | None, bounds: Interval | None) -> dict[str, float | None]:
    return {
        "rate": None if estimate is None else estimate.value,
        "standard_error": None if estimate is None else estimate.standard_error,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "worst": None if bounds is None else bounds.low,
        "best": None if bounds is None else bounds.high,
    }


def _cells(summary: Summary) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for record in as_records(summary):
        label = (
            "Mean of tasks" if record["task"] == "" else f"{record['task']} {record['instruction'] or record['name']}"
        )
        shown = record["rate"] is not None
        partial = [record[name] for name in list(summary.partial)[:1]]
        rows.append(
            (
                label,
                _percent(record["rate"]) if shown else NOTHING,
                *(NOTHING if rate is None else _percent(rate) for rate in partial),
                f"{_percent(record['low'])} to {_percent(record['high'])}" if shown else NOTHING,
                _percent(record["standard_error"]) if shown else NOTHING,
                str(record["scored"]),
                f"{record['effective']:.0f}",
                str(record["missing"]) if record["missing"] else "",
            )
        )
    return rows


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"

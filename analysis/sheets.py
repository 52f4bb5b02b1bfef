"""A table of text in the four formats that are printed: terminal, markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evals.terminal.tables import as_csv, as_markdown, as_text, make_table, markdown
from evals.terminal.text import one_line

SheetFormat = Literal["table", "markdown", "latex", "csv"]
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "Δ": r"$\Delta$", "→": r"$\to$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "√": r"$\surd$", "\u2013": "--",
}  # fmt: skip


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        title: its caption.
        header: names of the columns; the first `labels` of them hold labels and are set left.
        rows: cells, as many as the header has.
        notes: sentences under the table.
        labels: number of label columns.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    labels: int = 1


def render(sheets: Sequence[Sheet], format: SheetFormat = "table", width: int = 160) -> str:
    """Return sheets as text, one after the other."""
    writers = {"table": _plain, "markdown": _markdown, "latex": _latex, "csv": _csv}
    return "\n".join(_plain(sheet, width) if format == "table" else writers[format](sheet) for sheet in sheets)


def remarks(sentences: Sequence[str], format: SheetFormat) -> str:
    """Return sentences that stand under all sheets, as text of the same format; nothing in CSV, which has no place."""
    if format == "csv":
        return ""
    write = markdown if format == "markdown" else one_line
    return "".join(f"\n{'% ' if format == 'latex' else ''}{write(sentence)}\n" for sentence in sentences)


def _plain(sheet: Sheet, width: int = 160) -> str:
    groups = [row[0] for row in sheet.rows] if sheet.labels > 1 else []
    ends = [i for i in range(len(groups) - 1) if groups[i] != groups[i + 1]]
    table = make_table(sheet.header, sheet.rows, labels=sheet.labels, title=sheet.title, ends=ends)
    notes = (
        textwrap.fill(one_line(note), width, break_long_words=False, break_on_hyphens=False) for note in sheet.notes
    )
    return as_text(table, width) + "".join(f"{note}\n" for note in notes)


def _markdown(sheet: Sheet) -> str:
    body = as_markdown(sheet.header, sheet.rows, sheet.labels)
    return f"**{markdown(sheet.title)}**\n\n{body}" + "".join(f"\n{markdown(note)}\n" for note in sheet.notes)


def _latex(sheet: Sheet) -> str:
    lines = [" & ".join(map(_escape, sheet.header)) + r" \\", r"\midrule"]
    for i, row in enumerate(sheet.rows):
        if i and sheet.labels > 1 and row[0] != sheet.rows[i - 1][0]:
            lines.append(r"\midrule")
        lines.append(" & ".join(map(_escape, row)) + r" \\")
    columns = "l" * sheet.labels + "r" * (len(sheet.header) - sheet.labels)
    notes = " ".join(map(_escape, sheet.notes))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\\{{\footnotesize {notes}}}"] if notes else []),
            rf"\caption{{{_escape(sheet.title)}}}",
            r"\end{table}",
            "",
        ]
    )


def _csv(sheet: Sheet) -> str:
    return as_csv([("table", *sheet.header), *((sheet.title, *row) for row in sheet.rows)])


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))

"""A table of text in the four formats that are printed: terminal, markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

SheetFormat = Literal["table", "markdown", "latex", "csv"]
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "Δ": r"$\Delta$", "→": r"$\to$",
    "†": r"$\dagger$", "√": r"$\surd$", "\u2013": "--",
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


def _plain(sheet: Sheet, width: int = 160) -> str:
    table = Table(title=sheet.title, title_justify="left")
    for i, name in enumerate(sheet.header):
        table.add_column(name, justify="left" if i < sheet.labels else "right")
    for i, row in enumerate(sheet.rows):
        following = sheet.rows[i + 1][0] if i + 1 < len(sheet.rows) else row[0]
        table.add_row(*row, end_section=sheet.labels > 1 and following != row[0])
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, color_system=None, highlight=False, markup=False)
    console.print(table)
    for note in sheet.notes:
        console.print(note)
    return buffer.getvalue()


def _markdown(sheet: Sheet) -> str:
    rule = ["---" if i < sheet.labels else "---:" for i in range(len(sheet.header))]
    lines = [sheet.header, rule, *sheet.rows]
    body = "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
    return f"**{sheet.title}**\n\n{body}" + "".join(f"\n{note}\n" for note in sheet.notes)


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
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("table", *sheet.header))
    writer.writerows((sheet.title, *row) for row in sheet.rows)
    return buffer.getvalue()


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)

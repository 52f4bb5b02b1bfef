"""Tables of text in all printed formats, and a console that prints text without interpreting it.

A cell is text from anywhere: it stays inside its cell, and is read as text by whatever reads the table.
"""

from __future__ import annotations

import csv
import io
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from evals.terminal.text import fit, one_line, visible

Row = Sequence[str]
RowT = TypeVar("RowT")
SheetFormat = Literal["table", "markdown", "latex", "csv"]
NOTHING = "–"  # noqa: RUF001  (an en dash stands for "no number")
_LABEL_WIDTH = 24  # a label's words may be cut into lines of so many columns; a number's never
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "Δ": r"$\Delta$", "→": r"$\to$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "√": r"$\surd$", "\u2013": "--",
}  # fmt: skip


class PlainConsole(Console):
    """A console to which a string is text: no markup, no emoji codes, no escapes, nothing its encoding lacks."""

    @property
    def encoding(self) -> str:
        """Encoding of the file, or of standard output for a text that will be printed there."""
        return getattr(self.file, "encoding", None) or getattr(sys.stdout, "encoding", None) or "utf-8"

    def on_broken_pipe(self) -> None:
        """End the command: nobody reads what it prints any more."""
        self.quiet = True
        raise BrokenPipeError

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - Rich's own options, passed on
        """Return a string as Rich text, character for character."""
        options |= {"emoji": False, "markup": False, "highlight": False}
        return super().render_str(fit(visible(text), self.encoding), **options)


@dataclass(frozen=True)
class Column(Generic[RowT]):
    """A column of a table, as data and as people read it.

    Attributes:
        key: its name in CSV and JSON; "" if it is shown only.
        value: what it holds of a row, None where there is nothing.
        heading: its name where people read it; "" if it is data only.
        text: how a value is shown.
    """

    key: str
    value: Callable[[RowT], Any]
    heading: str = ""
    text: Callable[[Any], str] = str

    def shown(self, row: RowT) -> str:
        """Return the text of a row's cell."""
        value = self.value(row)
        return NOTHING if value is None else self.text(value)


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        title: its caption.
        header: names of the columns; the first `labels` of them hold labels and are set left.
        rows: cells, as many as the header has.
        notes: sentences under the table.
        labels: number of label columns; where there are several, a line is drawn after each group of the first.
        bold: rows that are set in bold on a console.
        ends: rows after which a line is drawn on a console.
    """

    title: str
    header: Row
    rows: Sequence[Row]
    notes: tuple[str, ...] = ()
    labels: int = 1
    bold: Collection[int] = ()
    ends: Collection[int] = ()

    def table(self) -> Table:
        """Return the table for a console; `notes` belong under it."""
        table = Table(title=one_line(self.title) or None, title_justify="left")
        shown = [[*map(one_line, row)] for row in (self.header, *self.rows)]
        for i, name in enumerate(shown[0]):
            longest = max((cell_len(word) for row in shown for word in row[i].split()), default=0)
            least = min(longest, _LABEL_WIDTH) if i < self.labels else longest
            table.add_column(name, justify="left" if i < self.labels else "right", min_width=least, overflow="fold")
        ends = {*self.ends, *(i - 1 for i in self._groups())}
        for i, row in enumerate(shown[1:]):
            table.add_row(*row, style="bold" if i in self.bold else "", end_section=i in ends)
        return table

    def text(self, format: SheetFormat = "table", width: int = 160) -> str:
        """Return the table and its notes as text that ends in a newline; CSV has no place for notes.

        Args:
            format: how.
            width: columns of a plain-text table.
        """
        if format == "csv":
            titles = [["table"], *[[self.title]] * len(self.rows)] if self.title else [[]] * (1 + len(self.rows))
            return as_csv([*title, *row] for title, row in zip(titles, [self.header, *self.rows], strict=True))
        if format == "latex":
            return self._latex()
        if format == "markdown":
            title = f"**{markdown(self.title)}**\n\n" if self.title else ""
            return f"{title}{self._markdown()}{remarks(self.notes, format)}"
        buffer = io.StringIO()
        print_table(PlainConsole(file=buffer, width=width, color_system=None), self.table())
        wrap = partial(textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False)
        return buffer.getvalue() + "".join(f"{wrap(one_line(note))}\n" for note in self.notes)

    def _groups(self) -> list[int]:
        """Return the rows that begin another group than the row before."""
        rows = self.rows if self.labels > 1 else ()
        return [i for i in range(1, len(rows)) if rows[i][0] != rows[i - 1][0]]

    def _markdown(self) -> str:
        """Pipes, HTML and links in cells are shown and not obeyed."""
        rule = ["---" if i < self.labels else "---:" for i in range(len(self.header))]
        lines = [map(markdown, self.header), rule, *(map(markdown, row) for row in self.rows)]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def _latex(self) -> str:
        header, *rows = (" & ".join(map(_escape, row)) + r" \\" for row in (self.header, *self.rows))
        groups = self._groups()
        body = (f"\\midrule\n{row}" if i in groups else row for i, row in enumerate(rows))
        columns = "l" * self.labels + "r" * (len(self.header) - self.labels)
        notes = " ".join(map(_escape, self.notes))
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            header,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\\{{\footnotesize {notes}}}"] if notes else []),
            rf"\caption{{{_escape(self.title)}}}",
            r"\end{table}",
        ]
        return "".join(f"{line}\n" for line in lines)


def render(sheets: Iterable[Sheet], format: SheetFormat = "table") -> str:
    """Return sheets as text, one after the other."""
    return "\n".join(sheet.text(format) for sheet in sheets)


def sheet_of(columns: Sequence[Column[RowT]], rows: Sequence[RowT], title: str = "", **layout: Any) -> Sheet:  # noqa: ANN401
    """Return rows as a sheet of the columns that people read; `layout` are other fields of the sheet."""
    shown = [column for column in columns if column.heading]
    cells = [[column.shown(row) for column in shown] for row in rows]
    return Sheet(title, [column.heading for column in shown], cells, **layout)


def records_of(columns: Sequence[Column[RowT]], rows: Iterable[RowT]) -> list[dict[str, Any]]:
    """Return rows as data, one flat dict a row, None where there is nothing."""
    return [{column.key: column.value(row) for column in columns if column.key} for row in rows]


def remarks(sentences: Iterable[str], format: SheetFormat) -> str:
    """Return sentences that stand under tables, as text of the same format; nothing in CSV, which has no place."""
    if format == "csv":
        return ""
    write = markdown if format == "markdown" else one_line
    return "".join(f"\n{'% ' if format == 'latex' else ''}{write(sentence)}\n" for sentence in sentences)


def print_table(console: Console, table: Table) -> None:
    """Print a table; one that is wider than the terminal is not cut, since numbers would be lost."""
    least = 1 + sum((column.min_width or 0) + 3 for column in table.columns)
    wide = console.options.update(width=max(least, console.width))
    console.print(Segments(console.render(table, wide)), crop=False, end="")


def markdown(text: str) -> str:
    """Return a text for Markdown, as one line in which nothing begins HTML, a link, code or another cell."""
    text = one_line(text)
    for letter, shown in (("\\", "\\\\"), ("|", "\\|"), ("`", "\\`"), ("&", "&amp;"), ("<", "&lt;"), ("](", "]\\(")):
        text = text.replace(letter, shown)
    return text


def as_csv(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV; a text that a spreadsheet would compute begins with an apostrophe."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([_csv_cell(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _csv_cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = one_line(cell)
    formula = text[:1] in ("=", "@", "\t") or (text[:1] in ("+", "-") and not text[1:2].isdigit() and len(text) > 1)
    return f"'{text}" if formula else text


def _escape(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in one_line(text))

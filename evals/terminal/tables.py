"""Tables of text in all printed formats, and a console that prints text without interpreting it.

A cell is text from anywhere: it stays inside its cell, and is read as text by whatever reads the table.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from evals.terminal.text import fit, one_line, visible

Row = Sequence[str]
_LABEL_WIDTH = 24  # a label's words may be cut into lines of so many columns; a number's never


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


def make_table(
    header: Row,
    rows: Sequence[Row],
    *,
    labels: int = 1,
    title: str = "",
    ends: Collection[int] = (),
    bold: Collection[int] = (),
) -> Table:
    """Return a table for a console.

    Args:
        header: names of the columns; the first `labels` hold labels and are set left.
        rows: cells, as many as the header has.
        labels: number of label columns.
        title: its caption.
        ends: rows after which a line is drawn.
        bold: rows that are set in bold.
    """
    table = Table(title=one_line(title) or None, title_justify="left")
    shown = [[*map(one_line, row)] for row in (header, *rows)]
    for i, name in enumerate(shown[0]):
        longest = max((cell_len(word) for row in shown for word in row[i].split()), default=0)
        least = min(longest, _LABEL_WIDTH) if i < labels else longest
        table.add_column(name, justify="left" if i < labels else "right", min_width=least, overflow="fold")
    for i, row in enumerate(shown[1:]):
        table.add_row(*row, style="bold" if i in bold else "", end_section=i in ends)
    return table


def print_table(console: Console, table: Table) -> None:
    """Print a table; one that is wider than the terminal is not cut, since numbers would be lost."""
    least = 1 + sum((column.min_width or 0) + 3 for column in table.columns)
    wide = console.options.update(width=max(least, console.width))
    console.print(Segments(console.render(table, wide)), crop=False, end="")


def as_text(table: Table, width: int) -> str:
    """Return a table as plain text for standard output."""
    buffer = io.StringIO()
    print_table(PlainConsole(file=buffer, width=width, color_system=None), table)
    return buffer.getvalue()


def as_markdown(header: Row, rows: Iterable[Row], labels: int = 1) -> str:
    """Return a Markdown table; pipes, HTML and links in cells are shown and not obeyed."""
    rule = ["---" if i < labels else "---:" for i in range(len(header))]
    lines = [map(markdown, header), rule, *(map(markdown, row) for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


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

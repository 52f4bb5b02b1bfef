"""Text from outside, made fit to show: the border that everything printed passes.

Names, instructions, paths and messages come from plugins, data sets and other people's records. A terminal would obey
some of their characters, reverse the reading order at others, and cannot show all of the rest.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from evals.errors import RecordError

FAILED, UNREAD = 1, 141  # 141: what a shell says of a writer whose reader has gone (128 + SIGPIPE)
# Control characters but line feed and tab, marks that turn the reading order, lone surrogates, invisible tags.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_FALLBACK = "motion_vla_fallback"
_BOXES = {**dict.fromkeys("─━═╌┄", "-"), **dict.fromkeys("│┃║╎┆", "|"), **dict.fromkeys("█▉▊▋▌▍▎▏░▒▓", "#")}
_ASCII = {
    "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"',
    "±": "+-", "\u00d7": "x", "Δ": "Delta", "†": "+", "‡": "++", "→": "->", "√": "sqrt ", "≤": "<=", "≥": ">=",
    "…": "...", "✓": "yes", "•": "*", "■": "#", "●": "*", "\u00a0": " ", "\u202f": " ",
}  # fmt: skip


def visible(text: str) -> str:
    r"""Return a text with every character that a terminal would obey written out, ESC as `\x1b`; lines stay lines."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """Return a visible text as one line, for a cell of a table."""
    return visible(re.sub(r"\s*[\r\n\x0b\x0c\x85\u2028\u2029]\s*", " ", text))


def fit(text: str, encoding: str) -> str:
    r"""Return a text with what an encoding cannot say written in ASCII: boxes as `+-|`, the rest as `\u4e2d`."""
    codecs.register_error(_FALLBACK, _in_ascii)
    return text.encode(encoding, _FALLBACK).decode(encoding)


def show(text: str, stderr: bool = False) -> None:
    """Write a text to standard output (or error), visible; where there is none, nothing happens.

    Raises:
        SystemExit: it cannot be written (`guarded_output`).
    """
    stream = sys.stderr if stderr else sys.stdout
    try:
        if stream is not None:
            stream.write(visible(text))
    except OSError as error:
        sys.exit(_given_up(stream, error))


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Let no character, closed pipe or full disk turn what a command prints into a traceback; decorates a `main`.

    Raises:
        SystemExit: 141 where nobody reads what is printed any more, 1 where standard output cannot be written.
    """
    codecs.register_error(_FALLBACK, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_FALLBACK)
    try:
        yield
    except OSError:
        code = _flushed("\n")  # a line more tells whether the error is about what is printed
        if not code:
            raise
        sys.exit(code)
    except SystemExit as end:
        sys.exit(_flushed() or end.code)
    else:
        if code := _flushed():
            sys.exit(code)


def write_whole(path: Path, text: str) -> None:
    """Write a file as UTF-8, beside its place and then into it, so that what was there stays until all is written.

    Raises:
        RecordError: it cannot be written.
    """
    content = fit(text, "utf-8").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or (path.exists() and not path.is_file()):  # a device or a pipe has nothing to keep
            path.write_bytes(content)
        else:
            _replace(path.resolve(), content)
    except OSError as error:
        raise RecordError(f"Cannot write {path}: {error.strerror}. Choose another place.") from error


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def _flushed(last: str = "") -> int:
    """Flush the buffers while a failure can still be reported; return an exit code, 0 if all is well."""
    code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                if last and not code:  # writing nothing is a call too, where the stream has no buffer
                    stream.write(last)
                stream.flush()
        except OSError as error:
            code = _given_up(stream, error)
    return code


def _given_up(stream: TextIO, error: OSError) -> int:
    """Lead a stream that cannot be written into nothing, or Python tries again when it ends; return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if isinstance(error, BrokenPipeError):
        return UNREAD
    if stream is sys.stdout and sys.stderr is not None:
        sys.stderr.write(f"error: standard output cannot be written: {error.strerror}.\n")
    return FAILED


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_written_out, error.object[error.start : error.end])), error.end


def _written_out(letter: str) -> str:
    known = _ASCII.get(letter) or _BOXES.get(letter)
    corner = "+" if "\u2500" <= letter <= "\u257f" else letter.encode("ascii", "backslashreplace").decode()
    return known or corner

"""What is printed reaches any terminal, file or pipe as text, and as nothing else."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.errors import RecordError
from evals.terminal.tables import PlainConsole, Sheet, as_csv, print_table
from evals.terminal.text import fit, one_line, visible, write_whole

HOSTILE = "[red]a[/] :smile: \x1b]0;title\x07 \x9b2J \u202eb\u2066 \r\n\x00|<b>\ud800"


def vla_eval(*arguments, environment=None, **options):
    command = [sys.executable, "-m", "evals.cli", *arguments]
    return subprocess.run(command, capture_output=True, timeout=120, env=environment, **options)


@pytest.fixture(scope="module")
def environment():
    import os

    return lambda **changes: {**os.environ, **changes}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "[/x] :smile: [bold]\x1b[31m"
    command = ("--suite", "reach", "--policy", "random", "--trials", "1", "--workers", "1", "--no-gates")
    done = vla_eval(*command, "--out", str(folder))
    assert done.returncode == 0
    return folder, done


@given(st.text(st.characters(), max_size=40))
def test_a_visible_text_holds_nothing_that_a_terminal_obeys(text):
    shown = visible(text)
    assert not any((ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160 for letter in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    shown.encode()
    assert len(one_line(text).splitlines()) <= 1


def test_what_is_written_out_can_be_read():
    assert visible("a\x1b[2J\r\tb\n\ud800") == r"a\x1b[2J\r" + "\tb\n" + r"\ud800"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_table_keeps_its_layout_and_numbers_in_every_encoding(encoding):
    rows = [("Δ \u4e2d → a", "84.0±0.9", "\u2013"), ("b", "-1.0†", "12")]
    console = PlainConsole(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=60, color_system=None)
    print_table(console, Sheet("", ("Task", "± SE", "n"), rows).table())
    console.file.seek(0)
    lines = console.file.read().splitlines()
    assert len({len(line) for line in lines}) == (2 if encoding == "utf-8" else 1)  # a wide letter is one, in utf-8
    assert any("84.0+-0.9" in line or "84.0±0.9" in line for line in lines)
    assert fit("┏━┓│└", "ascii") == "+-+|+"


@pytest.mark.parametrize("width", [1, 20, 140])
def test_no_number_is_cut_however_narrow_the_terminal(width):
    numbers = ["100.0", "-100.0 to +100.0", "123456789"]
    text = Sheet("", ("Task", "a", "b", "c"), [("a long label of a task" * 3, *numbers)]).text("table", width)
    assert all(part in text for number in numbers for part in number.split())


def test_a_console_takes_no_orders_from_what_it_prints():
    file = io.StringIO()
    console = PlainConsole(file=file, width=200, force_terminal=True, color_system=None)
    console.print(HOSTILE)
    console.print(Sheet(HOSTILE, (HOSTILE,), [(HOSTILE,)]).table())
    assert file.getvalue().count("[red]a[/] :smile:") == 4
    assert not set("\x1b\x07\x9b\r\x00") & set(file.getvalue())


def test_a_cell_stays_a_cell_in_markdown_and_csv():
    [_, _, line] = Sheet("", ("a", "b"), [(HOSTILE + "\\\\", "2 | [x](y) `c")]).text("markdown").splitlines()
    assert line.endswith(r" | 2 \| [x]\(y) \`c |")
    assert "<" not in line
    [row] = csv.reader(io.StringIO(as_csv([[HOSTILE, "=1+1", "@x", "+10.0", "-5", 3]])))
    assert len(row) == 6
    assert row[1:] == ["'=1+1", "'@x", "+10.0", "-5", "3"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_whole(tmp_path / "new" / "a.md", "± \ud800")
    assert (tmp_path / "new" / "a.md").read_bytes().decode() == r"± \ud800"
    for place in (tmp_path / "new", Path(), tmp_path / "new" / "a.md" / "b"):
        with pytest.raises(RecordError, match="Choose another place"):
            write_whole(place, "text")
    write_whole(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()
    (tmp_path / "new" / "link").symlink_to("a.md")
    write_whole(tmp_path / "new" / "link", "new text")
    assert (tmp_path / "new" / "a.md").read_text() == "new text"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_run_says_where_it_was_recorded_letter_by_letter(recorded):
    folder, done = recorded
    assert f"Recorded in {visible(str(folder))}\n" in done.stderr.decode()
    assert b"Mean of tasks" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8:strict"])
@pytest.mark.parametrize("arguments", [("tables",), ("compare", "--format", "table"), ("list",), ("--help",)])
def test_every_command_prints_in_every_encoding(recorded, environment, encoding, arguments):
    folder = str(recorded[0])
    places = {"tables": [folder], "compare": [folder, folder]}.get(arguments[0], [])
    done = vla_eval(*arguments, *places, environment=environment(PYTHONIOENCODING=encoding, PYTHONUTF8="0"))
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stdout.decode(encoding.split(":")[0]).strip()
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("format", ["csv", "json"])
def test_formats_for_machines_are_those_of_machines_in_every_encoding(recorded, environment, format):
    folder = str(recorded[0])
    done = vla_eval("compare", folder, folder, "--format", format, environment=environment(PYTHONIOENCODING="ascii"))
    if format == "json":
        assert json.loads(done.stdout)["suites"][0]["mean"]["n"] == [4, 4]
    else:
        assert {len(row) for row in csv.reader(io.StringIO(done.stdout.decode()))} == {10}


def test_a_narrow_terminal_loses_no_number_of_a_run(recorded, environment):
    command = ("--suite", "reach", "--policy", "random", "--trials", "1", "--workers", "1", "--no-gates")
    done = vla_eval(*command, "--out", str(recorded[0]), environment=environment(COLUMNS="20"))
    assert "49.0" in done.stdout.decode()  # the upper bound of no success in four episodes


def test_a_reader_that_has_gone_ends_a_command_quietly():
    command = [sys.executable, "-m", "evals.cli", "tables"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("arguments", [("tables",), ("list",)])
def test_output_that_cannot_be_written_is_a_failure_in_words(arguments):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "evals.cli", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "error: standard output cannot be written: No space left on device.\n"

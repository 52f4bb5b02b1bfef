"""The run folder: it has one writer, and nothing foreign in it is touched or waited for."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from evals.errors import RunFolderError
from evals.record import Recorder, read_run
from tests.evals.record.recorded import HEADER, result, states_of


def test_another_configuration_is_refused_with_the_differing_fields(tmp_path):
    Recorder(tmp_path, HEADER).__exit__(None, None, None)
    other = replace(HEADER, config={**HEADER.config, "seed": 7}, protocol={**HEADER.protocol, "settle_steps": 9})
    with pytest.raises(RunFolderError, match=r"seed: recorded 0, asked for 7\n  - protocol settle_steps: recorded 5"):
        Recorder(tmp_path, other)


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match=r"is no run folder and is not empty \(it holds 'thesis\.tex'\)"):
        Recorder(tmp_path, HEADER)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_is_being_written_is_refused(tmp_path):
    with Recorder(tmp_path, HEADER), pytest.raises(RunFolderError, match="being written by another process"):
        Recorder(tmp_path, HEADER)


def test_it_is_refused_also_when_somebody_has_removed_the_lock(tmp_path):
    with Recorder(tmp_path, HEADER):
        (tmp_path / ".lock").unlink()
        with pytest.raises(RunFolderError, match="being written by another process"):
            Recorder(tmp_path, HEADER)


def test_a_lock_that_leads_elsewhere_does_not_empty_what_is_there(folder, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    (folder / ".lock").unlink()
    (folder / ".lock").symlink_to(tmp_path / "thesis.tex")
    Recorder(folder, HEADER).__exit__(None, None, None)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_helper_that_a_run_forked_does_not_hold_the_folder_after_it(tmp_path):
    """The run is killed, its helper lives on; the next start must not have to wait for it."""
    dies = (
        "import os, sys, time, pathlib; from evals.record import Recorder;"
        "from tests.evals.record.recorded import HEADER;"
        "recorder = Recorder(pathlib.Path(sys.argv[1]), HEADER); helper = os.fork();"
        "helper or (os.close(1), time.sleep(600)); print(helper, flush=True); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", dies, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    try:
        Recorder(tmp_path / "run", HEADER).__exit__(None, None, None)
    finally:
        os.kill(int(done.stdout), 9)


@pytest.mark.parametrize("name", ["run.json", "episodes.jsonl", ".lock"])
@pytest.mark.parametrize(
    ("put", "kind"),
    [
        (os.mkfifo, "is a named pipe, expected a plain file"),
        (os.mkdir, "is a folder, expected a plain file"),
        (lambda file: os.symlink("/dev/zero", file), "is a device, expected a plain file"),
        (lambda file: os.symlink("gone", file), "is a link to gone, which is not there"),
    ],
)
def test_what_is_no_file_is_named_and_never_waited_for(folder, name, put, kind):
    (folder / name).unlink()
    put(folder / name)
    with pytest.raises(RunFolderError, match=rf"{name} {kind}"):
        Recorder(folder, HEADER)
    if name != ".lock":
        with pytest.raises(RunFolderError, match=rf"{name} {kind}"):
            read_run(folder)


@pytest.mark.parametrize("left", ["run.json.partial", "episodes.jsonl", ".lock"])
def test_a_start_that_died_before_its_header_does_not_block_the_folder(tmp_path, left):
    (tmp_path / left).write_bytes(b'{"format": 1' if left == "run.json.partial" else b"")
    with Recorder(tmp_path, HEADER) as recorder:
        recorder.append(result())
    assert states_of(tmp_path) == [0]
    assert not (tmp_path / "run.json.partial").exists()


def test_a_partial_header_that_leads_elsewhere_is_not_written_through(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json.partial").symlink_to(tmp_path / "thesis.tex")
    Recorder(tmp_path / "run", HEADER).__exit__(None, None, None)
    assert (tmp_path / "thesis.tex").read_text() == "precious"

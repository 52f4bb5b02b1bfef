"""The header of a run: read as declared, or refused with a way out."""

import json
import shutil

import pytest

from evals.errors import RecordError, RunFolderError
from evals.record import Recorder, read_header, read_run
from tests.evals.record.recorded import HEADER, lines_of, states_of


def test_a_newer_format_is_refused(tmp_path):
    Recorder(tmp_path, HEADER).__exit__(None, None, None)
    header = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**header, "format": 2}))
    with pytest.raises(RunFolderError, match="has format 2; this version reads up to 1"):
        read_run(tmp_path)


def test_a_folder_without_a_header_is_no_run(tmp_path):
    with pytest.raises(RunFolderError, match=r"is no run folder: it has no run\.json"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"config": []}, {"config": None}, {"sessions": None}, {"sessions": [1]}, {"suite": {}}, {"protocol": "x"},
        {"conditions": {"size": 1}}, {"suite": {"name": "reach", "tasks": [{"id": "0"}]}}, {"protocol_hash": 7},
        {"format": "1"}, {"new": 1},
    ],
)  # fmt: skip
def test_a_header_that_is_not_as_declared_is_named_with_a_way_out(folder, change):
    header = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**header, **change}))
    with pytest.raises(
        RunFolderError, match=r"run\.json does not read as a run header: .*Restore run\.json from a copy"
    ):
        read_run(folder)


@pytest.mark.parametrize("damage", [b"", b"\0" * 99, b'{"format": 1, "config"', b"[" * 100_000, b"7"])
def test_a_damaged_header_is_named_with_a_way_out_that_works(folder, tmp_path, damage):
    (folder / "run.json").write_bytes(damage)
    with pytest.raises(RunFolderError, match="or from a run of the same command in a new folder"):
        Recorder(folder, HEADER)
    Recorder(tmp_path / "new", HEADER).__exit__(None, None, None)
    shutil.copy(tmp_path / "new" / "run.json", folder / "run.json")
    assert states_of(folder) == [0, 1, 2]


def test_episodes_without_a_header_are_kept_and_said(folder):
    (folder / "run.json").unlink()
    with pytest.raises(RunFolderError, match=r"holds episodes\.jsonl but no run\.json\. Restore"):
        Recorder(folder, HEADER)
    assert len(lines_of(folder)) == 3


def test_a_header_that_cannot_be_written_is_a_record_error_and_the_old_one_stays(folder):
    with Recorder(folder, HEADER) as recorder:
        (folder / "run.json.partial").mkdir()  # stands in the way like a full disk
        with pytest.raises(RecordError, match=r"Cannot write .*run\.json: .*run the same command again"):
            recorder.start_session({"started": "now"})
    assert read_header(folder).sessions == []

"""The header of a run: read as declared, or refused with a way out."""

import json
import shutil
from dataclasses import replace

import pytest

from envs.reach import suite
from evals.errors import RecordError, RunFolderError
from evals.record import Recorder, action_space_of, read_header, read_run
from tests.evals.record.recorded import HEADER, lines_of, result, states_of


def test_a_newer_format_is_refused(tmp_path):
    Recorder(tmp_path, HEADER).__exit__(None, None, None)
    header = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**header, "format": 3}))
    with pytest.raises(RunFolderError, match="has format 3; this version reads up to 2"):
        read_run(tmp_path)


def as_format_1(folder):
    """Write a run's header as it was before it said what its numbers mean."""
    header = json.loads((folder / "run.json").read_text())
    del header["action_space"], header["state_space"]
    (folder / "run.json").write_text(json.dumps({**header, "format": 1}))


def test_a_record_says_what_its_numbers_mean(folder):
    data = json.loads((folder / "run.json").read_text())
    assert data["format"] == 2
    assert (data["action_space"]["gripper_open"], data["action_space"]["gripper_closed"]) == (-1.0, 1.0)
    assert data["state_space"]["names"] == list(suite().state_space.names)
    header = read_header(folder)
    assert (header.action_space, header.state_space) == (suite().action_space, suite().state_space)


def test_a_record_of_format_1_reads_and_goes_on(folder):
    as_format_1(folder)
    header = read_header(folder)
    assert header.action_space is header.state_space is None
    assert action_space_of(header) == suite().action_space  # the installed suite's
    assert action_space_of(replace(header, suite={**header.suite, "name": "gone"})) is None
    with Recorder(folder, HEADER) as recorder:
        assert len(recorder.done) == 3
        recorder.start_session({"planned": 4})
        recorder.append(result(3))
    assert states_of(folder) == [0, 1, 2, 3]
    assert read_header(folder).action_space == suite().action_space


def test_a_run_does_not_go_on_where_its_numbers_mean_something_else(folder):
    other = replace(HEADER, action_space=replace(HEADER.action_space, gripper_open=1.0))
    with pytest.raises(RunFolderError, match=r"action space gripper_open: recorded -1\.0, asked for 1\.0"):
        Recorder(folder, other)


def test_a_folder_without_a_header_is_no_run(tmp_path):
    with pytest.raises(RunFolderError, match=r"is no run folder: it has no run\.json"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"config": []}, {"config": None}, {"sessions": None}, {"sessions": [1]}, {"suite": {}}, {"protocol": "x"},
        {"conditions": {"size": 1}}, {"suite": {"name": "reach", "tasks": [{"id": "0"}]}}, {"protocol_hash": 7},
        {"format": "1"}, {"new": 1}, {"action_space": 7}, {"action_space": {"gripper_open": "up"}}, {"state_space": {}},
        {"action_space": {"gripper_open": float("nan")}}, {"action_space": {"gain": 1.0}},
        {"state_space": {"names": 1}},
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

"""The run folder: nothing recorded is lost, nothing foreign is touched."""

import json
from dataclasses import replace

import pytest

from envs.reach import suite
from evals.errors import RunFolderError
from evals.record import Header, Recorder, read_run
from evals.types import EpisodeResult, Seconds, Status

HEADER = Header.of(suite(), {"suite": "reach", "policy": "noop", "seed": 0}, {})


def result(state=0, status=Status.SUCCESS, attempt=1):
    return EpisodeResult(
        suite="reach", task=0, initial_state=state, seed=0, episode_id=f"{state:016x}", status=status, success_first=3,
        success_ever=True, success_last=True, success_at_reset=False, official=True, steps=3, seconds=Seconds(0.1),
        trajectory_hash="a", scene_hash="b", protocol_hash="c", worker=0, attempt=attempt,
        error=None if status.scored else "it broke",
    )  # fmt: skip


def test_what_is_appended_is_read_back(tmp_path):
    with Recorder(tmp_path / "run", HEADER) as recorder:
        recorder.append(result(0))
        recorder.append(result(1, Status.FAILURE))
    run = read_run(tmp_path / "run")
    assert run.results == (result(0), result(1, Status.FAILURE))
    assert run.header.protocol_hash == suite().protocol.hash


def test_an_error_never_replaces_a_score_and_a_score_replaces_errors(tmp_path):
    with Recorder(tmp_path, HEADER) as recorder:
        recorder.append(result(0, Status.SIM_ERROR))
        recorder.append(result(0, Status.SUCCESS, attempt=2))
        recorder.append(result(0, Status.TIMEOUT, attempt=3))
    assert [r.attempt for r in read_run(tmp_path).results] == [2]


def test_a_torn_last_line_is_cut_off_and_said(tmp_path):
    with Recorder(tmp_path, HEADER) as recorder:
        recorder.append(result(0))
        recorder.append(result(1))
    file = tmp_path / "episodes.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert read_run(tmp_path).torn
    with Recorder(tmp_path, HEADER) as recorder:
        assert recorder.repaired
        assert list(recorder.done) == [result(0).episode_id]
        recorder.append(result(1))
    assert len(read_run(tmp_path).results) == 2


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    with Recorder(tmp_path, HEADER) as recorder:
        recorder.append(result(0))
    file = tmp_path / "episodes.jsonl"
    file.write_bytes(b"{not json\n" + file.read_bytes())
    with pytest.raises(RunFolderError, match=r"episodes\.jsonl, line 1, does not read as an episode"):
        read_run(tmp_path)


def test_another_configuration_is_refused_with_the_differing_fields(tmp_path):
    Recorder(tmp_path, HEADER).__exit__(None, None, None)
    other = replace(HEADER, config={**HEADER.config, "seed": 7}, protocol={**HEADER.protocol, "settle_steps": 9})
    with pytest.raises(RunFolderError, match=r"seed: recorded 0, asked for 7\n  - protocol settle_steps: recorded 5"):
        Recorder(tmp_path, other)


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunFolderError, match=r"is no run folder and is not empty \(it holds 'thesis\.tex'\)"):
        Recorder(tmp_path, HEADER)
    assert not (tmp_path / "run.json").exists()


def test_a_folder_that_is_being_written_is_refused(tmp_path):
    with Recorder(tmp_path, HEADER), pytest.raises(RunFolderError, match="being written by another process"):
        Recorder(tmp_path, HEADER)


def test_a_newer_format_is_refused(tmp_path):
    Recorder(tmp_path, HEADER).__exit__(None, None, None)
    header = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**header, "format": 2}))
    with pytest.raises(RunFolderError, match="has format 2; this version reads up to 1"):
        read_run(tmp_path)


def test_a_folder_without_a_header_is_no_run(tmp_path):
    with pytest.raises(RunFolderError, match=r"is no run folder: it has no run\.json"):
        read_run(tmp_path)

"""The lines of a record: none is lost, and none of another run is counted."""

import json
from dataclasses import replace

import pytest

from envs.reach import suite
from evals.errors import RunFolderError
from evals.record import Recorder, read_run
from evals.types import Episode, Status
from tests.evals.record.recorded import HEADER, lines_of, result, states_of


def test_what_is_appended_is_read_back(tmp_path):
    with Recorder(tmp_path / "run", HEADER) as recorder:
        recorder.append(result(0))
        recorder.append(result(1, Status.FAILURE))
        assert recorder.results() == (result(0), result(1, Status.FAILURE))
    run = read_run(tmp_path / "run")
    assert run.results == (result(0), result(1, Status.FAILURE))
    assert run.header.protocol_hash == suite().protocol.hash


def test_an_error_never_replaces_a_score_and_a_score_replaces_errors(tmp_path):
    with Recorder(tmp_path, HEADER) as recorder:
        recorder.append(result(0, Status.SIM_ERROR))
        recorder.append(result(0, Status.SUCCESS, attempt=2))
        recorder.append(result(0, Status.TIMEOUT, attempt=3))
    assert [r.attempt for r in read_run(tmp_path).results] == [2]


@pytest.mark.parametrize("tail", [b'{"suite":"rea', b"{", b"\0" * 512, b'{"suite"\0\0\0'])
def test_a_torn_last_line_is_cut_off_and_said(folder, tail):
    file = folder / "episodes.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + tail)
    assert read_run(folder).torn
    with Recorder(folder, HEADER) as recorder:
        assert recorder.repaired
        assert file.read_bytes() == whole
        recorder.append(result(3))
    assert states_of(folder) == [0, 1, 2, 3]


def test_a_last_line_that_only_lacks_its_newline_counts_and_gets_it(folder):
    file = folder / "episodes.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert states_of(folder) == [0, 1, 2]
    with Recorder(folder, HEADER) as recorder:
        assert not recorder.repaired
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    "damage",
    [b"{not json", b"", b"\0" * 40, b"null", b"[]", b"[" * 100_000, b"\xff\xfe{}", b'{"status":"maybe"}'],
)
def test_a_line_that_does_not_read_is_named_with_a_way_out(folder, damage):
    file = folder / "episodes.jsonl"
    before = damage + b"\n" + file.read_bytes()
    file.write_bytes(before)
    said = r"episodes\.jsonl, line 1, does not read as an episode: .*Delete that line and give the same command"
    with pytest.raises(RunFolderError, match=said):
        read_run(folder)
    with pytest.raises(RunFolderError, match=said):
        Recorder(folder, HEADER)
    assert file.read_bytes() == before


@pytest.mark.parametrize("encode", [lambda text: text.replace("\n", "\r").encode(), lambda text: text.encode("utf-16")])
def test_a_record_in_another_encoding_is_refused_and_not_cut_off(folder, encode):
    file = folder / "episodes.jsonl"
    before = encode(file.read_text())
    file.write_bytes(before)
    with pytest.raises(RunFolderError, match="does not read as an episode"):
        Recorder(folder, HEADER)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"suite": "libero_spatial"}, "its suite is 'libero_spatial', the run's is 'reach'"),
        ({"protocol_hash": "0" * 16}, "its protocol_hash is '0000000000000000'"),
        ({"seed": 7}, "its seed is 7, the run's is 0"),
        ({"task": 3}, "its episode_id is .*that of task 3, initial state 0"),
        ({"initial_state": 9}, "its episode_id is .*that of task 0, initial state 9"),
        ({"episode_id": "f" * 16}, "its episode_id is 'ffffffffffffffff'"),
        ({"task": 99}, "its episode_id is .*that of task 99"),
    ],
)
def test_a_line_of_another_run_is_refused_by_file_and_line(folder, change, complaint):
    foreign = {**json.loads(lines_of(folder)[0]), **change}
    with (folder / "episodes.jsonl").open("a") as file:
        file.write(json.dumps(foreign) + "\n")
    with pytest.raises(RunFolderError, match=rf"episodes\.jsonl, line 4, is not of this run: {complaint}.*Delete"):
        read_run(folder)


def test_an_episode_is_not_of_a_run_that_renamed_it_with_its_id(folder):
    """Another seed with an id that fits it is still another run's."""
    other = Episode("reach", 0, 5, 7, suite().protocol.hash)
    forged = replace(result(5), seed=7, episode_id=other.id).to_json()
    (folder / "episodes.jsonl").write_text(json.dumps(forged) + "\n")
    with pytest.raises(RunFolderError, match="its seed is 7"):
        read_run(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": "many"}, {"steps": 1.5}, {"success_ever": 1}, {"steps": 10**30}, {"worker": None},
        {"seconds": {"physics": "x"}},
    ],
)  # fmt: skip
def test_a_field_of_another_type_is_refused(folder, change):
    wrong = {**json.loads(lines_of(folder)[0]), **change}
    (folder / "episodes.jsonl").write_text(json.dumps(wrong) + "\n")
    with pytest.raises(
        RunFolderError, match=rf"line 1, does not read as an episode: (seconds\.)?{next(iter(change))}|phys"
    ):
        read_run(folder)


def test_two_different_scores_of_one_episode_are_remarked_on_and_the_first_counts(folder):
    other = {**json.loads(lines_of(folder)[1]), "status": "failure", "trajectory_hash": "else"}
    with (folder / "episodes.jsonl").open("a") as file:
        file.write(lines_of(folder)[0] + "\n")  # the same once more is no contradiction
        file.write(json.dumps(other) + "\n")
    run = read_run(folder)
    [remark] = run.remarks
    assert "Task 0, initial state 1 has two different scores: success (3 steps), which counts" in remark
    assert all(r.status is Status.SUCCESS for r in run.results)

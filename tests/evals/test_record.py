"""The run folder: nothing recorded is lost, nothing foreign is touched or counted."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from envs.reach import suite
from evals.errors import RecordError, RunFolderError
from evals.record import Header, Recorder, action_space_of, read_header, read_run
from evals.types import Episode, EpisodeResult, Seconds, Status

HEADER = Header.of(suite(), {"suite": "reach", "policy": "noop", "seed": 0}, {})


def result(state=0, status=Status.SUCCESS, attempt=1):
    episode = Episode("reach", 0, state, 0, suite().protocol.hash)
    return EpisodeResult(
        suite="reach", task=0, initial_state=state, seed=0, episode_id=episode.id, status=status, success_first=3,
        success_ever=True, success_last=True, success_at_reset=False, official=True, steps=3, seconds=Seconds(0.1),
        trajectory_hash="a", scene_hash="b", protocol_hash=episode.protocol_hash, worker=0, attempt=attempt,
        error=None if status.scored else "it broke",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A run folder with three episodes."""
    with Recorder(tmp_path / "run", HEADER) as recorder:
        for state in range(3):
            recorder.append(result(state))
    return tmp_path / "run"


def lines_of(folder):
    return (folder / "episodes.jsonl").read_text().splitlines()


def states_of(folder):
    return [r.initial_state for r in read_run(folder).results]


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
        "import os, sys, time, pathlib; from evals.record import Recorder; from tests.evals.test_record import HEADER;"
        "recorder = Recorder(pathlib.Path(sys.argv[1]), HEADER); helper = os.fork();"
        "helper or (os.close(1), time.sleep(60)); print(helper, flush=True); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", dies, str(tmp_path / "run")], capture_output=True, text=True)
    try:
        Recorder(tmp_path / "run", HEADER).__exit__(None, None, None)
    finally:
        os.kill(int(done.stdout), 9)


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


def test_a_header_that_cannot_be_written_is_a_record_error_and_the_old_one_stays(folder):
    with Recorder(folder, HEADER) as recorder:
        (folder / "run.json.partial").mkdir()  # stands in the way like a full disk
        with pytest.raises(RecordError, match=r"Cannot write .*run\.json: .*run the same command again"):
            recorder.start_session({"started": "now"})
    assert read_header(folder).sessions == []


def remove(folder):
    shutil.rmtree(folder)


def remove_record(folder):
    (folder / "episodes.jsonl").unlink()


def empty(folder):
    (folder / "episodes.jsonl").write_bytes(b"")


def cut(folder):
    os.truncate(folder / "episodes.jsonl", 30)


def restore_an_old_copy(folder):
    (folder / "x").write_text(lines_of(folder)[0] + "\n")
    (folder / "x").replace(folder / "episodes.jsonl")


def remove_header(folder):
    (folder / "run.json").unlink()


LOSSES = [remove, remove_record, empty, cut, restore_an_old_copy, remove_header]


def recorded_while(folder, lose, then):
    """Continue a run, lose its record on the way, and go on."""
    with Recorder(folder, HEADER) as recorder:
        recorder.append(result(3))
        lose(folder)
        then(recorder)


def interrupt(recorder):
    raise KeyboardInterrupt


@pytest.mark.parametrize("lose", LOSSES)
def test_a_record_lost_under_a_run_is_noticed_at_the_next_episode_and_written_back(folder, lose):
    with pytest.raises(RecordError, match=r"was removed or changed .*written back; the same command continues"):
        recorded_while(folder, lose, lambda recorder: recorder.append(result(4)))
    assert states_of(folder) == [0, 1, 2, 3, 4]
    with Recorder(folder, HEADER) as recorder:
        assert len(recorder.done) == 5


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("end", [Recorder.results, interrupt])
def test_a_record_lost_after_the_last_episode_is_noticed_at_the_end(folder, lose, end):
    with pytest.raises(RecordError, match="written back"):
        recorded_while(folder, lose, end)
    assert states_of(folder) == [0, 1, 2, 3]


def test_a_record_that_was_replaced_by_the_same_is_gone_on_with_and_held(folder):
    with Recorder(folder, HEADER) as recorder:
        recorder.append(result(3))
        shutil.copy(folder / "episodes.jsonl", folder / "x")
        (folder / "x").replace(folder / "episodes.jsonl")
        recorder.append(result(4))
        with pytest.raises(RunFolderError, match="being written"):
            Recorder(folder, HEADER)
        assert len(recorder.results()) == 5
    assert states_of(folder) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("foreign", ["somebody's\n", "of the same length"])
def test_what_somebody_else_put_there_is_not_overwritten(folder, foreign):
    def put(folder):
        length = (folder / "episodes.jsonl").stat().st_size
        (folder / "episodes.jsonl").write_text(foreign if foreign.endswith("\n") else foreign.ljust(length))

    said = r"is in .*episodes\.kept-\d+\.jsonl\. To continue, put that file in the place of"
    with pytest.raises(RecordError, match=said):
        recorded_while(folder, put, Recorder.results)
    assert (folder / "episodes.jsonl").read_text().startswith(foreign)
    [kept] = folder.glob("episodes.kept-*.jsonl")
    kept.replace(folder / "episodes.jsonl")
    assert states_of(folder) == [0, 1, 2, 3]

"""A record that is lost under a run is noticed and written back."""

import os
import shutil

import pytest

from evals.errors import RecordError, RunFolderError
from evals.record import Recorder
from tests.evals.record.recorded import HEADER, lines_of, result, states_of


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

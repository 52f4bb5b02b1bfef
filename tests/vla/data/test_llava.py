"""Conversations in LLaVA's format: what is read, what is left out, and that it is said before a model is built."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vla.data.errors import DataError
from vla.data.llava import read_conversations
from vla.data.whole import LeftOut, SkipOptions

HI = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / "sound.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "sound.png").read_bytes()[:40])
    return tmp_path


def read(images: Path, entries: list, skip: SkipOptions | None = None, render: bool = True):
    path = images / "data.json"
    path.write_text(json.dumps(entries))
    left = LeftOut(skip or SkipOptions(skip_bad=False))
    return read_conversations(path, images, left, render), left


@pytest.mark.parametrize(
    ("turns", "read_as"),
    [
        (HI, (("Hi", "Hello"),)),
        ([HI[1], *HI], (("Hi", "Hello"),)),
        ([*HI, HI[0]], (("Hi", "Hello"),)),
        ([*HI, *HI], (("Hi", "Hello"), ("Hi", "Hello"))),
    ],
)
def test_turns_before_the_first_question_and_after_the_last_answer_are_passed_over(images, turns, read_as):
    (one,), left = read(images, [{"id": 7, "image": "sound.png", "conversations": turns}])
    assert (one.name, one.image, one.turns) == ("7", images / "sound.png", read_as)
    assert left.lines() == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"image": "gone.png", "conversations": HI}, r"number 1, field 'image': .*gone\.png is missing"),
        ({"image": "sound.jpg", "conversations": HI}, r"sound\.jpg is missing; there is sound\.png"),
        ({"image": "cut.png", "conversations": HI}, r"cut\.png cannot decode the image"),
        ({"image": ["sound.png", "sound.png"], "conversations": HI}, "2 images; a conversation is about one"),
        ({"image": 5, "conversations": HI}, "number 1: "),
        ({"conversations": [{"from": "system", "value": "x"}, *HI]}, "'system' speaks"),
        ({"conversations": [HI[0], HI[0], HI[1]]}, "must alternate"),
        ({"conversations": [{"from": "human"}]}, "field 'value': is missing"),
        ({"conversations": "hi"}, "field 'conversations': is 'hi'; a list is expected"),
        ({}, "field 'conversations': is missing"),
        ([], "a list"),
        (None, "a NoneType"),
    ],
)
def test_an_entry_that_cannot_be_used_stops_and_is_left_out_on_demand(images, entry, said):
    entries = [{"conversations": HI}, entry]
    with pytest.raises(DataError, match=rf"data\.json, episode .*{said}.*--no-skip-bad"):
        read(images, entries)
    kept, left = read(images, entries, SkipOptions())
    assert (len(kept), len(left.lines())) == (1, 1)
    with pytest.raises(DataError, match=r"1 of 2 episodes \(50\.0%\) cannot be read"):
        read(images, entries, SkipOptions(max_bad=0.05))


def test_an_entry_without_an_answer_is_left_out_unasked(images):
    kept, left = read(images, [{"conversations": HI}, {"id": "q", "conversations": [HI[1], HI[0]]}])
    assert len(kept) == 1
    assert "has no answer to a question" in left.lines()[0]


def test_an_entry_a_line_is_read_too(images):
    path = images / "lines.jsonl"
    path.write_text("\n".join([json.dumps({"conversations": HI}), "", json.dumps({"conversations": HI}), '{"cut']))
    left = LeftOut(SkipOptions())
    assert len(read_conversations(path, images, left, True)) == 2
    assert "in line 4: cannot be read as JSON" in left.lines()[0]


@pytest.mark.parametrize("content", ["", "[]", "{", "5", "\x00"])
def test_a_file_without_a_conversation_is_refused(images, content):
    path = images / "data.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"data\.json"):
        read_conversations(path, images, LeftOut(SkipOptions(skip_bad=False)), True)

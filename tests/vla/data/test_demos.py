"""Recorded demonstrations that are incomplete or contradict their manifest are noticed."""

import json
from pathlib import Path

import numpy as np
import pytest

from vla.data.errors import DataError
from vla.data.read import read_episodes
from vla.data.whole import SkipOptions, read_whole


def demos(folder: Path, **changes) -> Path:
    """Two recorded episodes of four steps, drawn every second step from two cameras."""
    view = folder / "images/8px-every2"
    for path in (folder / "run", view):
        path.mkdir(parents=True)
    entries = []
    for name in "ab":
        actions = np.column_stack([np.full((4, 6), 0.1), np.full(4, -1.0)])
        np.savez(folder / f"run/{name}.npz", actions=actions, said=np.array(["move"] * 4), states=np.zeros((4, 8)))
        for camera in ("front", "wrist"):
            np.save(view / f"{name}.{camera}.npy", np.zeros((2, 8, 8, 3), np.uint8))
        entry = {"task": 0, "instruction": "reach", "initial_state": ord(name), "steps": 4, "trace": f"run/{name}.npz"}
        entries.append(entry)
    manifest = {"format": 1, "suite": "reach", "control_hz": 20, "gripper": {"open": -1.0, "closed": 1.0}}
    (folder / "demos.json").write_text(json.dumps({**manifest, "episodes": entries, **changes}))
    return folder


def test_sound_demonstrations_are_read(tmp_path: Path):
    whole = read_whole(demos(tmp_path / "d"), None, SkipOptions(), images=True)
    assert [list(episode.cameras) for episode in whole.episodes] == [["front", "wrist"]] * 2
    assert whole.left_out.lines() == []


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("images/8px-every2/a.front.npy", np.zeros((1, 8, 8, 3), np.uint8), "2 are expected for 4 steps"),
        ("images/8px-every2/a.front.npy", np.zeros((3, 8, 8, 3), np.uint8), "2 are expected for 4 steps"),
        ("images/8px-every2/a.front.npy", np.zeros((2, 8, 8, 3), np.float32), "of uint8 is expected"),
        ("images/8px-every2/a.front.npy", b"junk", "cannot read the images"),
        ("images/8px-every2/a.wrist.npy", None, "has no images of camera wrist"),
        ("run/a.npz", b"junk", "is no trace of vla-eval record"),
        ("run/a.npz", None, "is missing; the same vla-eval record command"),
    ],
)
def test_an_incomplete_demonstration_is_noticed(tmp_path: Path, file: str, content, said: str):
    root = demos(tmp_path / "d")
    path = root / file
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(DataError, match=f"task 0 state 97.*{said}"):
        read_whole(root, None, SkipOptions(skip_bad=False), images=True)
    whole = read_whole(root, None, SkipOptions(), images=True)
    assert [episode.where.episode for episode in whole.episodes] == ["task 0 state 98"]
    assert whole.excess is None


def test_a_demonstration_that_was_not_drawn_is_left_out_and_listed(tmp_path: Path):
    root = demos(tmp_path / "d")
    for path in root.glob("images/*/a.*"):
        path.unlink()
    whole = read_whole(root, None, SkipOptions(), images=True)
    assert len(whole.episodes) == 1
    assert "state 97: has no images in 8px-every2" in whole.left_out.lines()[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gripper": {"open": 1.0, "closed": 1.0}}, "field 'gripper'"),
        ({"gripper": None}, "field 'gripper'"),
        ({"control_hz": "x"}, "field 'control_hz'"),
        ({"control_hz": 0}, "field 'control_hz'"),
        ({"suite": None}, "field 'suite'"),
        ({"episodes": {}}, "field 'episodes'"),
        ({"episodes": [{}]}, "number 0: is described otherwise"),
        ({"format": 2}, "has format 2"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path: Path, changes: dict, said: str):
    with pytest.raises(DataError, match=rf"demos\.json.*{said}"):
        list(read_episodes(demos(tmp_path / "d", **changes)))


def test_an_episode_that_is_listed_twice_or_has_other_steps_is_refused(tmp_path: Path):
    root = demos(tmp_path / "d")
    manifest = json.loads((root / "demos.json").read_text())
    first, second = manifest["episodes"]
    for entries, problem in (
        ([first, first], "is listed twice"),
        ([{**second, "steps": 9}], "has 4 steps; demos.json"),
    ):
        (root / "demos.json").write_text(json.dumps({**manifest, "episodes": entries}))
        with pytest.raises(DataError, match=problem):
            list(read_episodes(root))


def test_an_instruction_that_is_no_text_names_the_episode(tmp_path: Path):
    root = demos(tmp_path / "d")
    text = (root / "demos.json").read_text()
    for instruction, problem in (('"\\ud800"', "field 'instruction': is no text"), ("5", "cannot be read")):
        (root / "demos.json").write_text(
            text.replace('"reach", "initial_state": 97', f'{instruction}, "initial_state": 97')
        )
        with pytest.raises(DataError, match=f"state 97.*{problem}"):
            list(read_episodes(root))

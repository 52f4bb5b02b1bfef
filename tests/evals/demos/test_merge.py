"""Recordings of one suite are put together as one data set that says where its episodes come from."""

import json

import numpy as np
import pytest

from evals.demos.command import RecordConfig, record
from evals.demos.merge import MergeConfig, merge, merge_command
from evals.demos.rendering import RenderConfig, render
from evals.errors import RunFolderError, UsageError
from vla.data.demos import read_demos
from vla.data.lerobot import read_lerobot
from vla.data.read import read_episodes


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Recordings of the same tasks: of two seeds, and one that shares the first one's scenes and is pushed."""
    folders = {}
    for name, options in {
        "a": {},
        "b": {"seed": 1},
        "pushed": {"push_fraction": 0.3, "slowest": 0.5, "fastest": 0.6},
    }.items():
        folders[name] = tmp_path_factory.mktemp("parts") / name
        record(RecordConfig("reach", folders[name], trials=1, workers=2, gates=False, **options))
        render(RenderConfig(folders[name], every=2, workers=2))
    return folders


def altered(folder, target, **changes):
    manifest = json.loads((folder / "demos.json").read_text())
    target.mkdir()
    (target / "demos.json").write_text(json.dumps({**manifest, **changes}))
    return target


def test_the_new_folder_is_one_data_set_of_all_episodes(parts, tmp_path):
    assert merge_command([str(tmp_path / "all"), str(parts["a"]), str(parts["b"])]) == 0
    merged = list(read_episodes(tmp_path / "all"))
    apart = [*read_demos(parts["a"]), *read_demos(parts["b"])]
    assert len({episode.dataset for episode in merged}) == 1
    for one, other in zip(merged, apart, strict=True):
        assert np.array_equal(one.actions, other.actions)
        assert np.array_equal(one.cameras["agentview"][2], other.cameras["agentview"][2])
    assert len(list(read_lerobot(tmp_path / "all/lerobot"))) == 8
    card = (tmp_path / "all/lerobot/README.md").read_text()
    assert "(a, 4 episodes): speed times 1 to 1" in card
    assert "(b, 4 episodes): speed times 1 to 1" in card


def test_a_scene_that_is_there_twice_is_listed(parts, tmp_path):
    lines = merge(MergeConfig(tmp_path / "all", (parts["a"], parts["pushed"])))
    assert len(list(read_demos(tmp_path / "all"))) == 8
    again = [line for line in lines if line.startswith("task")]
    assert len(again) == 4
    assert all("another trajectory, both are taken" in line for line in again)
    lines = merge(MergeConfig(tmp_path / "more", (parts["a"], tmp_path / "all")))
    assert len([line for line in lines if "the same trajectory, taken once" in line]) == 4
    assert len(list(read_demos(tmp_path / "more"))) == 8


def test_what_was_put_together_can_be_put_together_again_and_keeps_where_it_came_from(parts, tmp_path):
    merge(MergeConfig(tmp_path / "ab", (parts["a"], parts["b"])))
    merge(MergeConfig(tmp_path / "abp", (tmp_path / "ab", parts["pushed"])))
    manifest = json.loads((tmp_path / "abp/demos.json").read_text())
    assert [part["folder"] for part in manifest["merged_from"]] == ["a", "b", "pushed"]
    assert [part["perturbation"]["push_fraction"] for part in manifest["merged_from"]] == [0.0, 0.0, 0.3]
    assert len(list(read_demos(tmp_path / "abp"))) == 12


def test_another_suite_or_protocol_is_refused_with_the_difference(parts, tmp_path):
    other = altered(parts["b"], tmp_path / "other", suite="reach2", protocol="f" * 16)
    with pytest.raises(UsageError, match=r"(?s)data set.*\n  suite: 'reach' in .*, 'reach2' in .*\n  protocol: "):
        merge(MergeConfig(tmp_path / "all", (parts["a"], other)))
    assert not (tmp_path / "all").exists()


def test_a_recording_that_does_not_say_its_protocol_has_it_from_its_run(parts, tmp_path):
    manifest = json.loads((parts["b"] / "demos.json").read_text())
    manifest.pop("protocol")
    folder = altered(parts["b"], tmp_path / "old")
    (folder / "demos.json").write_text(json.dumps(manifest))
    with pytest.raises(RunFolderError, match=r"does not say under which protocol .*run\.json is missing"):
        merge(MergeConfig(tmp_path / "all", (parts["a"], folder)))
    (folder / "run").symlink_to(parts["b"] / "run")
    assert "8 episodes of 2 folders" in merge(MergeConfig(tmp_path / "all", (parts["a"], folder)))[0]


def test_images_that_only_some_have_are_left_out_and_said(parts, tmp_path):
    render(RenderConfig(parts["a"], every=5, workers=2))
    lines = merge(MergeConfig(tmp_path / "all", (parts["a"], parts["b"])))
    assert "images/64px-every5, camera agentview: not in every folder" in lines[-1]
    assert [path.name for path in (tmp_path / "all/images").iterdir()] == ["64px-every2"]


def test_a_folder_that_was_put_together_is_neither_recorded_nor_rendered_into(parts, tmp_path):
    merge(MergeConfig(tmp_path / "all", (parts["a"], parts["b"])))
    before = (tmp_path / "all/demos.json").read_bytes()
    with pytest.raises(UsageError, match="put together from a, b: record and render these"):
        record(RecordConfig("reach", tmp_path / "all", trials=1, gates=False))
    with pytest.raises(UsageError, match="put together from a, b"):
        render(RenderConfig(tmp_path / "all"))
    assert (tmp_path / "all/demos.json").read_bytes() == before


def test_folders_that_cannot_be_put_together_are_named(parts, tmp_path):
    with pytest.raises(UsageError, match="at least two different"):
        merge(MergeConfig(tmp_path / "all", (parts["a"], parts["a"])))
    with pytest.raises(UsageError, match="holds something already"):
        merge(MergeConfig(parts["b"], (parts["a"], parts["pushed"])))
    with pytest.raises(RunFolderError, match="holds no demonstrations"):
        merge(MergeConfig(tmp_path / "all", (parts["a"], tmp_path / "nowhere")))

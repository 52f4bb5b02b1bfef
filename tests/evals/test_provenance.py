"""Where a number comes from: which code, which packages, which weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evals
from evals.config import RunConfig
from evals.errors import RunFolderError, UsageError
from evals.fingerprint import former_hash, hash_path
from evals.provenance import changes_between, require_same_simulator, revision
from evals.registry import load_suite
from evals.setup import Setup, prepare
from vla.policy import RELEASED

ROOT = Path(evals.__file__).parent.parent
ASK = "import json; from evals.provenance import provenance; print(json.dumps(provenance()))"


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True, text=True).stdout


def copy_of_the_package(place):
    place.mkdir(parents=True)
    for package in ("evals", "envs"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def asked(place, **environment):
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "PYTHONPATH": str(place), **environment},
        capture_output=True,
        text=True,
        cwd=place,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with two files, one of them in a sub-folder."""
    folder = tmp_path / "checkpoint"
    (folder / "tower").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tower" / "config.json").write_text("{}")
    return folder


def test_the_repository_around_an_installation_is_not_taken_for_ours(tmp_path):
    place = copy_of_the_package(tmp_path / "mine" / ".venv" / "site-packages")
    git(tmp_path / "mine", "init", "-q")
    (tmp_path / "mine" / ".gitignore").write_text(".venv")
    git(tmp_path / "mine", "add", "-A")
    git(tmp_path / "mine", "commit", "-qm", "somebody's own")
    session = asked(place)
    assert session["git"] == {"sha": "", "dirty": False}
    assert session["installed"] == "plain sources"
    assert "motion-vla" not in session["packages"]  # what is installed elsewhere is not what runs


def test_a_checkout_names_its_commit_even_in_a_git_hook_and_leaves_its_index_alone(tmp_path):
    place = copy_of_the_package(tmp_path / "checkout")
    git(place, "init", "-q")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "ours")
    for file in (place / "evals").glob("*.py"):
        os.utime(file, (1, 1))
    index = (place / ".git" / "index").read_bytes()
    session = asked(place, GIT_DIR=str(ROOT / ".git"))
    assert session["git"] == {"sha": git(place, "rev-parse", "HEAD").strip(), "dirty": False}
    assert (place / ".git" / "index").read_bytes() == index


def test_a_change_of_the_code_changes_its_hash_without_any_repository(tmp_path):
    place = copy_of_the_package(tmp_path / "copy")
    before = asked(place)
    with (place / "envs" / "reach.py").open("a") as file:
        file.write("FASTER = True\n")
    now = asked(place)
    assert before["code"]["evals"] == now["code"]["evals"]
    assert changes_between([before, now]) == [
        "Start 2 of this run had other versions than the one before: code in envs."
    ]


def test_packages_and_revisions_that_changed_are_named_and_what_was_not_recorded_is_not():
    old = {"git": {"sha": "a" * 40, "dirty": True}, "packages": {"numpy": "1.0", "mujoco": "3.3.2"}}
    new = {
        "git": {"sha": "b" * 40},
        "code": {"envs": "x"},
        "packages": {"numpy": "2.0", "mujoco": "3.3.2", "torch": "2"},
    }
    [said] = changes_between([old, new])
    assert said.endswith("code (revision aaaaaaaaaaaa, then bbbbbbbbbbbb), numpy 1.0, then 2.0.")
    assert changes_between([{}, new, new]) == []
    assert revision(old) == "a" * 40 + " with local changes"


def test_another_simulator_is_refused_unless_it_is_said_that_it_may_be():
    old, new = ({"packages": {"mujoco": version, "torch": version}} for version in ("3.3.2", "3.4.0"))
    require_same_simulator([old], new, "envs.reach 1", allowed=False)
    require_same_simulator([old], new, "robosuite 1.4.0, mujoco 3.3.2", allowed=True)
    require_same_simulator([], new, "mujoco 3.3.2", allowed=False)
    with pytest.raises(RunFolderError, match=r"mujoco was 3\.3\.2, is 3\.4\.0\. .*--other-versions"):
        require_same_simulator([old], new, "robosuite 1.4.0, mujoco 3.3.2", allowed=False)


def test_a_copied_renamed_or_downloaded_checkpoint_is_the_same_policy(checkpoint, tmp_path):
    known = hash_path(checkpoint)
    other = shutil.copytree(checkpoint, tmp_path / "step-1")
    for name in (".cache/huggingface/download/model.metadata", ".git/HEAD", "__pycache__/x.pyc", "tower/.DS_Store"):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text("left behind")
    (other / ".gitattributes").write_text("*.safetensors filter=lfs")
    (other / "README.md").write_text("a model card")
    assert hash_path(other) == hash_path(str(other)) == known
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for name in ("model.safetensors", "tower"):
        (linked / name).symlink_to(checkpoint / name)
    assert hash_path(linked) == known
    (tmp_path / "link").symlink_to(checkpoint)
    assert hash_path(tmp_path / "link") == known


@pytest.mark.parametrize("name", ["model.safetensors", "tower/config.json"])
def test_a_changed_renamed_or_missing_file_is_another_policy(checkpoint, tmp_path, name):
    linked = tmp_path / "linked"
    linked.mkdir()
    for entry in checkpoint.iterdir():
        (linked / entry.name).symlink_to(entry)
    known = hash_path(linked)
    (checkpoint / name).write_bytes(b"other")  # behind a link to its folder too
    changed = hash_path(linked)
    (checkpoint / name).rename(checkpoint / f"{name}2")
    if "/" not in name:
        (linked / name).unlink()
    assert len({known, changed, hash_path(linked)}) == 3


def test_a_file_may_be_renamed_too(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert hash_path(tmp_path / "a.safetensors") == hash_path(tmp_path / "b.safetensors")


def test_weights_that_are_not_there_are_an_error_and_not_a_hash(checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".gitattributes").write_text("no weights")
    os.mkfifo(tmp_path / "pipe")
    (checkpoint / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    around = tmp_path / "around"
    around.mkdir()
    (around / "again").symlink_to(around)
    for path, complaint in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "empty", "holds no file"),
        (tmp_path / "pipe", "is no file or folder"),
        (checkpoint, r"gone\.safetensors is no file that can be read"),
        (around, "is a link to a folder around it"),
    ):
        with pytest.raises(UsageError, match=complaint):
            hash_path(path)


def test_a_run_that_recorded_the_former_hash_of_the_same_weights_is_continued_under_it(tmp_path):
    recorded = json.loads((ROOT / "results/reference/runs/libero_spatial/motion_tiny/seed0/run.json").read_text())
    assert recorded["config"]["policy_args"]["checkpoint"] == former_hash(RELEASED)
    (tmp_path / "run.json").write_text(json.dumps(recorded))
    suite = load_suite("libero_spatial")
    with_weights = RunConfig("libero_spatial", "vla", checkpoint=RELEASED, out=tmp_path)
    assert Setup(with_weights, suite, None, 1, []).checkpoint_hash() == former_hash(RELEASED)
    (tmp_path / "run.json").unlink()
    assert Setup(with_weights, suite, None, 1, []).checkpoint_hash() == hash_path(RELEASED)


def test_a_suite_may_have_other_names_and_records_have_one(tmp_path):
    assert load_suite("libero_long") == load_suite("libero_10")
    config = prepare(RunConfig("libero_long", "noop")).config
    assert config.suite == "libero_10"
    assert config.folder() == Path("results/runs/libero_10/noop/seed0")

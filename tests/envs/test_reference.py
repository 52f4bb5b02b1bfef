"""The command that writes golden moments writes what the gates then read."""

import json
from pathlib import Path

import envs
from envs.reference import store, take
from evals.gates.golden import Reference, load
from evals.registry import load_suite


def test_taking_a_moment_again_gives_what_is_stored():
    assert take("reach", 2) == load(load_suite("reach"), 2)


def test_a_stored_moment_survives_the_file(tmp_path):
    reference = take("reach", 1)
    store(tmp_path / "new.json", "reach 1", reference)
    assert Reference.from_json(json.loads((tmp_path / "new.json").read_text())["reach 1"]) == reference


def test_storing_one_task_leaves_the_others_as_they_are(tmp_path):
    stored = Path(envs.__file__).parent / load_suite("reach").reference
    copy = tmp_path / "copy.json"
    copy.write_text(stored.read_text())
    store(copy, "reach 3", take("reach", 3))
    assert copy.read_text() == stored.read_text()

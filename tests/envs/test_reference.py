"""The command that writes golden moments writes what the gates then read."""

import json
from pathlib import Path

import numpy as np

import envs
from envs.reference import store, take
from evals.gates.golden import Reference, View, load
from evals.registry import load_suite


def test_taking_a_moment_again_gives_what_is_stored():
    assert take("reach", 2) == load(load_suite("reach"), 2)


def test_a_thumbnail_is_the_mean_of_its_cells_in_any_size():
    gradient = np.repeat(np.arange(0, 240, dtype=np.uint8)[:, None, None], 3, axis=2)
    for width in (8, 16, 100):
        grid = View.of(np.repeat(gradient, width, axis=1)).grid()
        np.testing.assert_array_equal(grid, np.repeat(np.arange(7, 240, 15)[:, None], 16, axis=1))


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

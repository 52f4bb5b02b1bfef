"""Compact features: what is stored, and that a policy sees what training saw."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.vla.nano_models import nano
from vla.data.demonstration import Demonstration
from vla.data.errors import Where
from vla.data.frames import ArrayFrames
from vla.data.mixture import Mixture, Source
from vla.errors import TrainingError
from vla.statistics import statistics_of
from vla.train.compact import basis_of, load_basis
from vla.train.features import StoredFeatures, basis_for, feature_files


def correlated(rng, count=3000, width=48, rank=6, noise=0.02):
    return rng.normal(size=(count, rank)) @ rng.normal(size=(rank, width)) + 3 + noise * rng.normal(size=(count, width))


@pytest.fixture(scope="module")
def basis():
    return basis_of(correlated(np.random.default_rng(0)), 8)


@pytest.fixture
def frozen():
    model, _ = nano()
    model, _ = nano(vision_encoders=(dataclasses.replace(model.config.vision_encoders[0], frozen=True),))
    return model


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(1)
    episodes = []
    for number in range(3):
        pictures = rng.integers(0, 255, (8, 56, 56, 3), np.uint8)
        actions = rng.uniform(-0.1, 0.1, (8, 7)).astype(np.float32)
        actions[:, 6] = 1
        where = Where(tmp_path / "data", str(number))
        cameras = {"front": ArrayFrames(pictures)}
        episodes.append(Demonstration("d", where, "lift", actions, np.zeros((8, 0), np.float32), cameras))
    return Source(episodes, statistics_of("d", [episode.actions for episode in episodes]), ("front",))


def test_the_basis_says_how_much_of_the_variance_is_kept(basis):
    fresh = correlated(np.random.default_rng(0))[:500]
    back = basis.expand(basis.compact(fresh)).astype(np.float64)
    kept = 1 - np.square(back - fresh).sum() / np.square(fresh - fresh.mean(0)).sum()
    assert 0.99 < basis.kept < 1
    assert kept == pytest.approx(basis.kept, abs=2e-3)
    assert basis_of(correlated(np.random.default_rng(0)), 2).kept < basis.kept - 0.1


def test_a_basis_is_a_function_of_the_sample_and_survives_its_file(basis, tmp_path):
    again = basis_of(correlated(np.random.default_rng(0)), 8)
    assert again.name == basis.name
    basis.save(tmp_path / "basis.npz")
    assert load_basis(tmp_path / "basis.npz").name == basis.name
    (tmp_path / "basis.npz").write_bytes((tmp_path / "basis.npz").read_bytes()[:-50])
    assert load_basis(tmp_path / "basis.npz") is None


def test_numbers_beyond_the_sample_are_clipped_and_do_not_wrap_around(basis):
    far = basis.mean + 50 * basis.steps[0] * 127 * basis.axes[0]
    assert basis.compact(far)[0] == 127


def test_a_folded_model_makes_of_whole_features_what_training_made_of_projected_ones(basis):
    torch.manual_seed(0)
    layer = torch.nn.Linear(48, 5)
    weights = {"projector.0.weight": layer.weight.detach(), "projector.0.bias": layer.bias.detach()}
    folded = basis.folded({**weights, "other": torch.ones(2)})
    whole = torch.from_numpy(np.random.default_rng(5).normal(size=(20, 48))).float()
    mean, axes = torch.from_numpy(basis.mean), torch.from_numpy(basis.axes)
    projected = mean + (whole - mean) @ axes.T @ axes
    with torch.no_grad():
        expected = layer(projected)
    given = whole @ folded["projector.0.weight"].T + folded["projector.0.bias"]
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(folded["other"], torch.ones(2))
    twice = basis.folded(folded)
    torch.testing.assert_close(twice["projector.0.weight"], folded["projector.0.weight"], rtol=1e-4, atol=1e-4)


def test_stored_features_are_few_bytes_and_near_the_whole_ones(frozen, source, tmp_path):
    basis = basis_for(frozen, [source], tmp_path)
    [path] = feature_files(frozen, [source], tmp_path, basis)
    [whole] = feature_files(frozen, [source], tmp_path)
    stored = np.load(path)
    assert stored.dtype == np.int8
    assert stored.nbytes * 11 < np.load(whole).nbytes
    seen, exact = Mixture([source], None, view=StoredFeatures([path], basis)), np.load(whole).astype(float)
    index = seen.start(5)[1]
    lost = np.square(seen[5].seen - exact[index]).mean() / np.square(exact - exact.mean((0, 1))).mean()
    assert lost < 1.6 * (1 - basis.kept) + 0.01


def test_a_second_start_computes_neither_basis_nor_features(frozen, source, tmp_path, monkeypatch):
    basis = basis_for(frozen, [source], tmp_path)
    files = feature_files(frozen, [source], tmp_path, basis)
    monkeypatch.setattr(frozen, "features", None)
    assert basis_for(frozen, [source], tmp_path).name == basis.name
    assert feature_files(frozen, [source], tmp_path, basis) == files


def test_too_few_pictures_for_a_basis_are_said():
    with pytest.raises(TrainingError, match=r"8 components, .* 5 places .* without --compact-cache"):
        basis_of(np.zeros((5, 48)), 8)

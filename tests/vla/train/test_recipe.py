"""Options of the recipe change what they should, and nothing where they are off."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vla.nano_models import nano, random_images
from vla.actions import normalize_affine, unnormalize_affine
from vla.data.loader import MixtureLoader
from vla.data.mixture import Mixture, MixtureConfig, Source
from vla.errors import CheckpointError, TrainingError
from vla.model.checkpoint import load_checkpoint
from vla.model.config import ModelConfig
from vla.model.crop import centre_cropped
from vla.model.losses import Objective, soft_targets
from vla.motion.labellers import AdaptiveLabeller
from vla.statistics import statistics_from_json, statistics_of, statistics_to_json, with_axis_floor
from vla.train.augment import training_view
from vla.train.collate import Collate, padded
from vla.train.config import LoopConfig, ModelOptions, OptimConfig, TrainConfig, recorded
from vla.train.loop import train
from vla.train.prepare import objective_of
from vla.train.recipe import RecipeConfig
from vla.train.sources import cameras_of, read_data, statistics_to_learn

ALL = RecipeConfig(
    axis_floor=0.25,
    soft_bins=1.5,
    motion_weight=0.5,
    dimension_weights=(1, 1, 1, 0.5, 0.5, 1, 2),
    proprio_dropout=0.3,
    proprio_noise=0.05,
    dropout=0.1,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.05,
)


@pytest.fixture(scope="module")
def bridge(shared):
    return shared / "data/bridge_dataset/1.0.0"


@pytest.fixture(scope="module")
def whole(bridge):
    episodes = read_data(config(bridge, Path("unused")))[0].episodes
    return Source(episodes, statistics_to_learn(episodes), cameras_of(episodes, 1, ()))


def config(data, out, steps=2, model=None, workers=0, **changes):
    optim = OptimConfig(lr=1e-3, batch_size=4, micro_batch=2)
    loop = LoopConfig(out=out, optim=optim, steps=steps, save_every=2, workers=workers)
    options = ModelOptions(**{"preset": "nano", "proprio_dim": 7, **(model or {})})
    return TrainConfig(data=(data,), loop=loop, model=options, **changes)


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out):
    return [(line["loss"], line["objective"]) for line in lines(out)]


def mixture_of(whole, view=None):
    return Mixture([whole], AdaptiveLabeller(), MixtureConfig(seed=3, image_size=56), view)


def test_a_floor_widens_narrow_ranges_about_their_middle_and_nothing_else():
    generator = np.random.default_rng(0)
    scale = np.array([1.0, 0.5, 0.02, 0.03, 0.4, 0.0])
    actions = np.column_stack([generator.uniform(-1, 1, (2000, 6)) * scale + 0.1, generator.integers(0, 2, 2000)])
    plain = statistics_of("d", [actions])
    floored = with_axis_floor(plain, 0.25)
    span, wide = np.subtract(plain.q99, plain.q01), np.subtract(floored.q99, floored.q01)
    np.testing.assert_allclose(wide[[2, 3]], 0.25 * span[0])
    assert wide[[0, 1, 4, 5, 6]].tolist() == span[[0, 1, 4, 5, 6]].tolist()
    np.testing.assert_allclose(np.add(plain.q99, plain.q01), np.add(floored.q99, floored.q01))
    assert with_axis_floor(plain, 0.0) is plain
    normalized = normalize_affine(actions, floored)
    assert np.abs(normalized[:, 3]).max() < 0.2, "jitter stays in the middle bins"
    np.testing.assert_allclose(unnormalize_affine(normalized, floored)[:, [2, 3, 5]], actions[:, [2, 3, 5]], atol=1e-9)
    assert statistics_from_json("d", statistics_to_json(floored)) == floored


def test_a_floor_on_translations_takes_no_measure_from_rotations():
    units = [0.01, 0.01, 0.01, 0.4, 0.4, 0.4, 0.5]
    radians = np.random.default_rng(0).uniform(-1, 1, (500, 7)) * units + [0, 0, 0, 0, 0, 0, 0.5]
    plain = statistics_of("d", [radians])
    assert with_axis_floor(plain, 0.25).q01[:3] == plain.q01[:3]


def test_the_checkpoint_holds_the_widened_ranges_that_its_actions_are_decoded_by(bridge, tmp_path, whole):
    train(config(bridge, tmp_path / "run", recipe=RecipeConfig(axis_floor=0.9)))
    checkpoint = load_checkpoint(tmp_path / "run/checkpoint")
    told = checkpoint.action_statistics("bridge_dataset")
    expected = with_axis_floor(whole.statistics, 0.9)
    assert told.q01 == expected.q01 != whole.statistics.q01
    assert checkpoint.training["recipe"] == {"axis_floor": 0.9}


def batch_of(model, prompts, rows=2):
    first = prompts.actions.first_token_id
    actions = [first + 100, first + 3, first + 255, first, first + 128, first + 127, first + 255]
    sequences = [prompts.sequence("push", sentence, actions) for sentence in ("stop", "move forward up")[:rows]]
    return padded(sequences, images=random_images(model, rows))


def test_what_is_minimised_by_default_is_the_cross_entropy():
    model, prompts = nano()
    assert objective_of(RecipeConfig(), prompts) is None
    sums = model(batch_of(model, prompts))
    assert sums.objective is None
    assert sums.optimised is sums.loss


def test_the_logged_loss_is_the_hard_unweighted_one_whatever_is_minimised():
    model, prompts = nano()
    plain = model(batch_of(model, prompts))
    model.objective = objective_of(ALL, prompts)
    sums = model(batch_of(model, prompts))
    assert torch.equal(sums.loss, plain.loss)
    assert torch.equal(sums.row_loss, plain.row_loss)
    assert sums.objective.item() != pytest.approx(plain.loss.item(), rel=1e-3)


def test_targets_a_fraction_of_a_bin_wide_and_weights_of_one_are_the_cross_entropy():
    model, prompts = nano()
    model.objective = Objective(prompts.actions.first_token_id, soft_bins=0.01, dimensions=(1,) * 7)
    sums = model(batch_of(model, prompts))
    torch.testing.assert_close(sums.objective, sums.loss)


def test_weights_scale_the_tokens_that_they_name():
    model, prompts = nano()
    batch = batch_of(model, prompts, 1)

    def minimised(**weights):
        model.objective = Objective(prompts.actions.first_token_id, **weights)
        return model(batch).objective.item()

    motion = minimised(action=0.0)
    action = minimised(motion=0.0)
    assert motion + action == pytest.approx(model(batch).loss.item(), rel=1e-6)
    single = [minimised(motion=0.0, dimensions=tuple(float(i == d) for i in range(7))) for d in range(7)]
    stop = minimised(motion=0.0, dimensions=(0.0,) * 7)
    assert stop > 0
    assert sum(one - stop for one in single) == pytest.approx(action - stop, rel=1e-4)


def test_soft_targets_are_distributions_around_their_bin():
    table = soft_targets(2.0).double()
    torch.testing.assert_close(table.sum(dim=1), torch.ones(256, dtype=torch.float64), atol=1e-5, rtol=0)
    assert table.argmax(dim=1).tolist() == list(range(256))
    means = table @ torch.arange(256, dtype=torch.float64)
    torch.testing.assert_close(means[20:236], torch.arange(20, 236, dtype=torch.float64), atol=1e-3, rtol=0)
    spread = (table[128] * (torch.arange(256) - 128.0) ** 2).sum().sqrt()
    assert spread.item() == pytest.approx((4 + 1 / 12) ** 0.5, rel=1e-3)


def test_the_gripper_keeps_hard_targets_in_both_orders_of_ids():
    kinds = torch.full((1, 8), 2)
    for targets in ([10, 11, 12, 13, 14, 15, 255, 300], [255, 254, 250, 1, 2, 3, 0, 300]):
        objective = Objective(0, soft_bins=3.0)
        dimension = objective.dimensions_of(torch.tensor([targets]), kinds)
        assert dimension.tolist() == [[0, 1, 2, 3, 4, 5, 6, -1]]
    scores = torch.randn(8, 301, generator=torch.Generator().manual_seed(0))
    hard = torch.nn.functional.cross_entropy(scores, torch.tensor(targets), reduction="none")
    only = torch.zeros(8, dtype=torch.bool)
    only[6:] = True
    loss = objective.loss(scores[only], torch.tensor(targets)[only], hard[only], kinds[0][only], dimension[0][only])
    torch.testing.assert_close(loss, hard[only].sum())


def test_states_change_by_their_position_alone(whole):
    _, prompts = nano(proprio_dim=7)
    mixture = mixture_of(whole)
    samples = [mixture[position] for position in range(60)]
    statistics = {whole.name: whole.statistics}
    plain = Collate(prompts, statistics, "action")(samples).batch.state
    changed = Collate(prompts, statistics, "action", recipe=ALL, seed=1)
    states = changed(samples).batch.state
    assert torch.equal(changed(samples[::-1]).batch.state.flip(0), states)
    dropped = (states == 0).all(dim=1)
    assert 0.1 < dropped.float().mean() < 0.5
    noise = (states - plain)[~dropped]
    assert 0.03 < noise.std() < 0.07
    assert not torch.equal(Collate(prompts, statistics, "action", recipe=ALL, seed=2)(samples).batch.state, states)


def test_dropout_is_of_the_sample_and_not_of_its_batch(whole):
    model, prompts = nano(proprio_dim=7)
    mixture = mixture_of(whole)
    recipe = RecipeConfig(dropout=0.25)
    collate = Collate(prompts, {whole.name: whole.statistics}, "motion_action", recipe=recipe, seed=1)
    together = collate([mixture[0], mixture[1]]).batch
    alone = collate([mixture[1]]).batch
    width = alone.dropout.shape[1]
    assert torch.equal(together.dropout[1, :width], alone.dropout[0])
    assert (alone.dropout == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert alone.dropout.max().item() == pytest.approx(4 / 3, rel=1e-3)
    assert model(alone).loss != model(dataclasses.replace(alone, dropout=None)).loss
    assert Collate(prompts, {whole.name: whole.statistics}, "motion_action")([mixture[1]]).batch.dropout is None


def test_crops_hold_a_part_of_the_image_and_differ_each_time(whole):
    plain = mixture_of(whole)
    cropped = mixture_of(whole, training_view(0, 0.25, RecipeConfig()))
    assert training_view(0, 1.0, RecipeConfig()) is None
    assert cropped.fingerprint == plain.fingerprint
    for position in range(4):
        image, crop = plain[position].seen[0], cropped[position].seen[0]
        assert crop.shape == image.shape
        small = crop[::2, ::2].astype(float)
        distances = [
            np.abs(small - image[top : top + 28, left : left + 28]).mean() for top in range(29) for left in range(29)
        ]
        assert min(distances) < np.abs(small - image[::2, ::2]).mean()
        np.testing.assert_array_equal(cropped[position].seen[0], crop)
    again = len(plain)
    same = next(k for k in range(again, 2 * again) if plain.place(k) == plain.place(0))
    assert not np.array_equal(cropped[same].seen[0], cropped[0].seen[0])


def test_colours_change_no_more_than_asked_for(whole):
    plain = mixture_of(whole)
    for name in ("brightness", "contrast", "saturation", "hue"):
        changed = mixture_of(whole, training_view(0, 1.0, RecipeConfig(**{name: 0.1})))
        differences = [np.abs(changed[k].seen[0].astype(int) - plain[k].seen[0].astype(int)).mean() for k in range(4)]
        assert 0 < max(differences) < 40, name


def test_a_model_that_learnt_from_crops_sees_the_middle_by_itself():
    model, _ = nano(image_crop=0.81)
    whole, _ = nano()
    images = random_images(model, 2)
    pixels = images.flatten(0, 1).permute(0, 3, 1, 2).float()
    middle = centre_cropped(pixels, 0.81)
    assert middle.shape == pixels.shape
    assert not torch.equal(model.features(images), whole.features(images))
    rounded = middle.round().to(torch.uint8).permute(0, 2, 3, 1)[:, None]
    torch.testing.assert_close(model.features(images), whole.features(rounded), atol=0.05, rtol=0.05)
    assert torch.equal(model.features(images, cropped=True), whole.features(images))


def test_the_checkpoint_records_the_crop_and_goes_on_with_it(bridge, tmp_path):
    train(config(bridge, tmp_path / "one", model={"image_crop": 0.9}))
    held = load_checkpoint(tmp_path / "one/checkpoint")
    assert held.config.image_crop == held.training["model"]["image_crop"] == 0.9
    init = str(tmp_path / "one/checkpoint")
    train(config(bridge, tmp_path / "two", init=init))
    assert load_checkpoint(tmp_path / "two/checkpoint").config.image_crop == 0.9
    train(config(bridge, tmp_path / "three", init=init, model={"image_crop": 1.0}))
    assert load_checkpoint(tmp_path / "three/checkpoint").config.image_crop == 1.0
    with pytest.raises(TrainingError, match=r"crops of 0\.9 .*--model\.image-crop 1"):
        train(config(bridge, tmp_path / "four", init=init, cache=tmp_path / "features"))


def test_with_every_option_a_run_goes_on_and_workers_read_the_same_samples(bridge, tmp_path):
    told = {"recipe": ALL, "model": {"image_crop": 0.9}}
    train(config(bridge, tmp_path / "whole", 4, **told))
    train(config(bridge, tmp_path / "parts", 2, **told))
    train(config(bridge, tmp_path / "parts", 4, workers=1, **told))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert all(line["objective"] != line["loss"] for line in lines(tmp_path / "whole"))


def test_what_is_off_changes_no_bit_and_is_not_recorded(bridge, tmp_path):
    off = RecipeConfig(dimension_weights=())
    train(config(bridge, tmp_path / "off", recipe=off, model={"image_crop": 1.0}))
    train(config(bridge, tmp_path / "default"))
    assert losses(tmp_path / "off") == losses(tmp_path / "default")
    assert [line["objective"] for line in lines(tmp_path / "default")] == [None, None]
    weights = [(tmp_path / name / "checkpoint/model.safetensors").read_bytes() for name in ("off", "default")]
    assert weights[0] == weights[1]
    told = recorded(config(bridge, tmp_path / "default"))
    assert "recipe" not in told
    assert "image_crop" not in told["model"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis_floor": 1.5}, r"--recipe\.axis-floor is 1\.5; a number from 0 to 1"),
        ({"dropout": 1.0}, r"--recipe\.dropout is 1\.0; a number from 0 to 0\.99"),
        ({"soft_bins": float("nan")}, r"--recipe\.soft-bins is nan"),
        ({"dimension_weights": (1.0, 2.0)}, r"--recipe\.dimension-weights is \[1\.0, 2\.0\]; 7 numbers"),
    ],
)
def test_numbers_that_mean_nothing_are_refused_by_name(options, message):
    with pytest.raises(TrainingError, match=message):
        RecipeConfig(**options)


def test_stored_features_and_changed_colours_are_refused():
    with pytest.raises(TrainingError, match=r"--cache .*hue"):
        TrainConfig(data=(Path("d"),), loop=LoopConfig(out=Path("o")), cache=Path("c"), recipe=RecipeConfig(hue=0.1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "motion", "recipe": RecipeConfig(soft_bins=1.0)}, r"--recipe\.soft-bins would change nothing"),
        ({"stage": "action", "recipe": RecipeConfig(motion_weight=2.0)}, r"--recipe\.motion-weight would change"),
        ({"motion": "none", "recipe": RecipeConfig(action_weight=0.0)}, "Nothing is to be learnt"),
        ({"recipe": RecipeConfig(motion_weight=0.0, action_weight=0.0)}, "Nothing is to be learnt"),
    ],
)
def test_options_that_nothing_would_come_of_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        TrainConfig(data=(Path("d"),), loop=LoopConfig(out=Path("o")), **changes)


def test_changes_of_a_state_that_is_not_read_are_refused(bridge, tmp_path):
    with pytest.raises(TrainingError, match=r"this model reads none"):
        train(config(bridge, tmp_path, model={"proprio_dim": 0}, recipe=RecipeConfig(proprio_noise=0.1)))


def test_processes_share_the_samples_that_one_would_see(whole):
    _, prompts = nano(proprio_dim=7)
    mixture = mixture_of(whole, training_view(0, 0.9, ALL))
    collate = Collate(prompts, {whole.name: whole.statistics}, "action", recipe=ALL, seed=3, cropped=True)
    one = next(iter(MixtureLoader(mixture, collate, 4))).batch
    for rank in (0, 1):
        half = next(iter(MixtureLoader(mixture, collate, 2, shard=(rank, 2)))).batch
        rows = slice(2 * rank, 2 * rank + 2)
        assert torch.equal(half.images, one.images[rows])
        assert torch.equal(half.state, one.state[rows])
        assert torch.equal(half.dropout, one.dropout[rows, : half.dropout.shape[1]])


def test_a_configuration_from_before_crops_reads_as_whole_images():
    model, _ = nano(image_crop=0.9)
    told = model.config.to_json()
    assert ModelConfig.from_json(told, "here") == model.config
    del told["image_crop"]
    assert ModelConfig.from_json(told, "here").image_crop == 1.0
    with pytest.raises(CheckpointError, match=r"image_crop is 1\.5; a number above 0 and up to 1"):
        ModelConfig.from_json({**told, "image_crop": 1.5}, "here")

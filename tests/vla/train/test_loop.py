"""Training goes on after a kill, on one or two processes, with the losses it would have had."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vla.nano_models import nano, random_images
from vla.cli import main
from vla.data.mixture import Mixture, MixtureConfig, Source
from vla.errors import DivergedError, TrainingError
from vla.model.checkpoint import load_checkpoint
from vla.motion.labellers import AdaptiveLabeller
from vla.train.collate import Collate, Placed, padded
from vla.train.compact import basis_of
from vla.train.config import LoopConfig, ModelOptions, OptimConfig, TrainConfig
from vla.train.features import StoredFeatures, feature_files, stacked_features
from vla.train.loop import _check_finite, _save, make_accelerator, train
from vla.train.optim import learning_rate
from vla.train.prepare import TrainingRun
from vla.train.sources import Shifted, cameras_of, read_data, statistics_to_learn

NANO = ModelOptions(preset="nano")
SMALL = OptimConfig(lr=1e-3, batch_size=4, micro_batch=2)


@pytest.fixture(scope="module")
def bridge(shared):
    return shared / "data/bridge_dataset/1.0.0"


def arguments(data, out, steps, **options):
    told = {"data": data, "out": out, "steps": steps, "optim.lr": 1e-3, "optim.batch-size": 4, "model.preset": "nano"}
    told = {**told, "optim.micro-batch": 2, "save-every": 2, **options}
    return ["train", *(str(part) for name, value in told.items() for part in (f"--{name}", value))]


def config(data, out, steps=2, **changes):
    loop = LoopConfig(out=out, optim=changes.pop("optim", SMALL), steps=steps, save_every=2)
    return TrainConfig(data=(data,), loop=loop, **{"model": NANO, **changes})


def source(data, out):
    episodes = read_data(config(data, out))[0].episodes
    return Source(episodes, statistics_to_learn(episodes), cameras_of(episodes, 1, ()))


def metrics(out):
    path = out / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def losses(out):
    return [line["loss"] for line in metrics(out)]


def start(command):
    # Sums depend on the number of threads: the child has as many as this process, to which it is compared bit for bit.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen([sys.executable, *command], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.fixture(scope="module")
def uninterrupted(bridge, tmp_path_factory):
    """A run of six steps in this process."""
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert main(arguments(bridge, out, 6)) == 0
    return out


def test_a_killed_run_goes_on_with_the_losses_it_would_have_had(bridge, tmp_path, uninterrupted):
    command = ["-m", "vla.cli", *arguments(bridge, tmp_path / "killed", 6)]
    process = start(command)
    while len(losses(tmp_path / "killed")) < 3 and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()[-2000:]
    assert (tmp_path / "killed/state").is_dir()
    assert main(arguments(bridge, tmp_path / "killed", 6)) == 0
    assert losses(tmp_path / "killed") == losses(uninterrupted)
    assert [line["step"] for line in metrics(tmp_path / "killed")] == list(range(6))


def test_two_processes_have_the_losses_of_one(bridge, tmp_path, uninterrupted):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vla.cli"]
    process = start([*launch, *arguments(bridge, tmp_path / "two", 3, **{"optim.micro-batch": 1})])
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()[-2000:]
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(uninterrupted)[:3], rtol=1e-5)
    assert load_checkpoint(tmp_path / "two/checkpoint").training["processes"] == 2


def test_accumulation_changes_nothing_but_rounding(bridge, tmp_path, uninterrupted):
    train(config(bridge, tmp_path / "whole", 3, optim=dataclasses.replace(SMALL, micro_batch=4)))
    np.testing.assert_allclose(losses(tmp_path / "whole"), losses(uninterrupted)[:3], rtol=1e-5)


def test_both_stages_of_the_paper_run_in_a_row(bridge, tmp_path):
    train(config(bridge, tmp_path / "one", stage="motion"))
    pretrained = load_checkpoint(tmp_path / "one/checkpoint")
    assert (pretrained.stage, metrics(tmp_path / "one")[0]["action_accuracy"]) == ("motion", None)
    train(config(bridge, tmp_path / "two", init=str(tmp_path / "one/checkpoint"), motion="raw"))
    tuned = load_checkpoint(tmp_path / "two/checkpoint")
    assert (tuned.stage, tuned.config.motion, list(tuned.statistics)) == ("finetune", True, ["bridge_dataset"])
    assert tuned.training["motion"] == "raw"
    assert tuned.prompts.tokenizer.to_str() == pretrained.prompts.tokenizer.to_str()


def test_the_ablation_learns_actions_alone(bridge, tmp_path):
    train(config(bridge, tmp_path / "run", stage="action"))
    assert not load_checkpoint(tmp_path / "run/checkpoint").config.motion
    assert metrics(tmp_path / "run")[0]["motion_accuracy"] is None


@pytest.mark.parametrize("head", ["parallel", "l1"])
def test_actions_of_one_pass_are_trained_after_pretraining_on_motion(bridge, tmp_path, head):
    train(config(bridge, tmp_path / "one", stage="motion"))
    options = ModelOptions(action_head=head, action_horizon=3)
    train(config(bridge, tmp_path / "two", init=str(tmp_path / "one/checkpoint"), model=options))
    tuned = load_checkpoint(tmp_path / "two/checkpoint")
    assert (tuned.config.action_head, tuned.config.action_horizon) == (head, 3)
    assert all(np.isfinite(losses(tmp_path / "two")))


def test_two_demonstrations_are_learnt_by_heart(bridge, tmp_path):
    """Two real demonstrations, 100 % of the motion and action tokens."""
    whole = source(bridge, tmp_path)
    two = dataclasses.replace(whole, episodes=whole.episodes[:2])
    model, prompts = nano()
    mixture = Mixture([two], AdaptiveLabeller(), MixtureConfig(image_size=56))
    collate = Collate(prompts, {two.name: two.statistics}, "motion_action")
    batch = collate([mixture[position] for position in range(len(mixture))]).batch
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
    for _ in range(400):
        sums = model(batch)
        if (sums.correct == sums.tokens).all():
            break
        optimizer.zero_grad()
        (sums.loss / sums.tokens.sum()).backward()
        optimizer.step()
    assert sums.correct.tolist() == sums.tokens.tolist()
    assert sums.tokens[1] == 8 * len(mixture)


def test_the_labeller_of_that_name_writes_the_sentences_and_the_checkpoint_keeps_the_name(bridge, tmp_path):
    train(config(bridge, tmp_path / "run", motion="hmm"))
    assert load_checkpoint(tmp_path / "run/checkpoint").training["motion"] == "hmm"
    with pytest.raises(TrainingError, match=r"'him'.* Known: adaptive, hmm, raw, segments\. Or 'intent', .* or 'none'"):
        config(bridge, tmp_path / "other", motion="him")


def test_stored_features_train_as_images_do(bridge, tmp_path):
    model, _ = nano()
    whole = source(bridge, tmp_path)
    with pytest.raises(TrainingError, match="dino is trained"):
        feature_files(model, [whole], tmp_path)
    frozen, _ = nano(vision_encoders=(dataclasses.replace(model.config.vision_encoders[0], frozen=True),))
    valid_starts = [None, np.array([1, 4])]
    episodes = [dataclasses.replace(e, valid_starts=u) for e, u in zip(whole.episodes[:2], valid_starts, strict=True)]
    few = [dataclasses.replace(whole, episodes=episodes)]
    path = feature_files(frozen, few, tmp_path)[0]
    assert feature_files(frozen, few, tmp_path) == [path]
    seen = Mixture(few, None, MixtureConfig(image_size=56))
    stored = Mixture(few, None, view=StoredFeatures([path]))
    assert len(seen) == len(np.load(path)) == len(whole.episodes[0]) + 2
    for position in range(len(seen)):
        image = torch.from_numpy(np.stack(seen[position].seen))[None]
        with torch.no_grad():
            expected = frozen.features(image)
        torch.testing.assert_close(stacked_features([stored[position]]).float(), expected, rtol=1e-2, atol=1e-2)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = feature_files(frozen, few, tmp_path)[0]
    assert rounded != path, "rounded features are not taken for exact ones"
    np.testing.assert_allclose(np.load(rounded), np.load(path), rtol=0.1, atol=0.1)


def test_a_checkpoint_of_compact_features_is_saved_with_their_projection(bridge, tmp_path):
    options = config(bridge, tmp_path / "run", 1)
    train(options)
    checkpoint = load_checkpoint(tmp_path / "run/checkpoint")
    width = checkpoint.config.feature_width
    basis = basis_of(np.random.default_rng(0).normal(1, 1, (500, width)), width // 4)
    _save(checkpoint.model, TrainingRun(checkpoint, None, basis=basis), options.loop, make_accelerator(options.loop))
    weights = load_checkpoint(tmp_path / "run/checkpoint").model.state_dict()
    assert torch.linalg.matrix_rank(weights["projector.0.weight"]) == width // 4
    assert torch.linalg.matrix_rank(checkpoint.model.state_dict()["projector.0.weight"]) > width // 4
    with pytest.raises(TrainingError, match="name its folder with --cache"):
        config(bridge, tmp_path / "other", compact_cache=True)


def test_a_run_of_before_an_option_goes_on_without_it(bridge, tmp_path):
    train(config(bridge, tmp_path / "run", 1))
    path = tmp_path / "run/train.json"
    told = json.loads(path.read_text())
    assert told.pop("compact_cache") is False
    path.write_text(json.dumps(told))
    train(config(bridge, tmp_path / "run", 2))
    assert len(losses(tmp_path / "run")) == 2


def test_shifted_images_are_the_images_moved_by_no_more_than_asked_for(bridge, tmp_path):
    whole = source(bridge, tmp_path)
    plain = Mixture([whole], None, MixtureConfig(image_size=56))
    shifted = Mixture([whole], None, MixtureConfig(image_size=56), Shifted(4))
    assert shifted.fingerprint == plain.fingerprint
    for position in range(3):
        inner = shifted[position].seen[0][8:-8, 8:-8]
        image = plain[position].seen[0]
        offsets = [(y, x) for y in range(17) for x in range(17) if (image[y : y + 40, x : x + 40] == inner).all()]
        assert len(offsets) == 1
        assert max(abs(place - 8) for place in offsets[0]) <= 4
        np.testing.assert_array_equal(shifted[position].seen[0], shifted[position].seen[0])


def test_rounded_arithmetic_trains_alike(bridge, tmp_path, uninterrupted):
    # Accelerate has one precision a process.
    process = start(["-m", "vla.cli", *arguments(bridge, tmp_path / "rounded", 3, precision="bfloat16")])
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()[-2000:]
    assert losses(tmp_path / "rounded") != losses(uninterrupted)[:3]
    np.testing.assert_allclose(losses(tmp_path / "rounded"), losses(uninterrupted)[:3], rtol=0.02)


def test_a_loss_that_is_not_finite_stops_and_names_its_sample():
    model, prompts = nano()
    sequences = [prompts.sequence("lift", "move up", [prompts.actions.first_token_id] * 7)] * 2
    features = model.features(random_images(model, 2)).detach()
    features[1] = float("nan")
    batch = padded(sequences, features=features)
    with pytest.raises(DivergedError, match=r"nan on: bridge, episode 7, step 3\. "):
        _check_finite(model(batch), Placed(batch, ["bridge, episode 1, step 0", "bridge, episode 7, step 3"]))


def test_another_configuration_in_the_folder_is_refused_by_field(bridge, uninterrupted, capsys):
    assert main(arguments(bridge, uninterrupted, 6, seed=1)) == 2
    assert "seed: 0 there, 1 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "motion", "motion": "none"}, "nothing to learn"),
        ({"weights": (1.0, 2.0)}, "2 numbers for 1 folders"),
        ({"cache": Path("c"), "shift": 4}, "--shift"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        TrainConfig(data=(Path("d"),), loop=LoopConfig(out=Path("o")), **changes)


def test_a_batch_that_does_not_divide_is_refused(bridge, tmp_path):
    with pytest.raises(TrainingError, match="batch-size 4 does not divide"):
        train(config(bridge, tmp_path / "run", optim=dataclasses.replace(SMALL, micro_batch=3)))


def test_an_init_that_does_not_exist_is_refused(bridge, tmp_path):
    with pytest.raises(TrainingError, match="no such folder"):
        train(config(bridge, tmp_path / "run", init=str(tmp_path / "nothing")))


def test_the_learning_rate_rises_stays_or_falls():
    cosine = OptimConfig(lr=1.0, schedule="cosine", warmup=2)
    assert [round(learning_rate(step, 10, cosine), 3) for step in (0, 1, 2, 6, 10)] == [0.5, 1.0, 1.0, 0.5, 0.0]
    assert learning_rate(9, 10, OptimConfig(lr=1.0)) == 1.0

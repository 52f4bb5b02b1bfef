"""What is held out is never learnt from, is scored as what it is, and tells overfitting from learning."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from evals.demos.command import RecordConfig, record
from tests.vla.train.test_loop import arguments, config, losses, start
from vla.cli import main
from vla.data.demos import read_demos
from vla.errors import TrainingError
from vla.model.checkpoint import load_checkpoint
from vla.train.ema import MovingAverage
from vla.train.holdout import HoldoutOptions, is_held_out, joined, scene_of, split
from vla.train.loop import train
from vla.train.sources import read_data


@pytest.fixture(scope="module")
def bridge(shared):
    return shared / "data/bridge_dataset/1.0.0"


@pytest.fixture(scope="module")
def whole(bridge, tmp_path_factory):
    return read_data(config(bridge, tmp_path_factory.mktemp("unused")))


def lines(out):
    return [json.loads(line) for line in (out / "heldout.jsonl").read_text().splitlines()]


def names(data):
    return {scene_of(episode) for one in data for episode in one.episodes}


def test_the_split_is_disjoint_complete_and_depends_on_names_alone(whole):
    trained, held = split(whole, 0.3)
    assert names(trained) & names(held) == set()
    assert names(trained) | names(held) == names(whole)
    backwards = [replace(one, episodes=one.episodes[::-1]) for one in whole]
    assert names(split(backwards, 0.3)[1]) == names(held)
    assert names(held) < names(split(whole, 0.5)[1])


def test_a_share_of_many_scenes_is_about_that_share():
    held = sum(is_held_out(f"libero_spatial, task 0 state {state}", 0.1) for state in range(5000))
    assert held == pytest.approx(500, abs=70)


@pytest.mark.parametrize(("share", "said"), [(1e-6, "holds no episode out"), (0.999, "leaves no episode to learn")])
def test_a_share_that_leaves_nothing_is_refused_with_the_data_set(whole, share, said):
    with pytest.raises(TrainingError, match=f"--holdout .*{said}.* of data set 'bridge_dataset', which has"):
        split(whole, share)


def test_a_folder_with_scenes_that_are_trained_on_is_refused(whole):
    with pytest.raises(TrainingError, match=r"both hold \d+ scene\(s\) of 'bridge_dataset'"):
        joined((), whole, whole)


def test_a_recording_of_another_seed_has_other_scenes_and_one_of_the_same_seed_the_same(tmp_path):
    for name, seed, noise in (("one", 0, 0.0), ("again", 0, 0.01), ("other", 1, 0.0)):
        record(
            RecordConfig("reach", tmp_path / name, trials=1, seed=seed, noise=noise, workers=1, every=0, gates=False)
        )
    one, again, other = (
        {scene_of(episode) for episode in read_demos(tmp_path / name)} for name in ("one", "again", "other")
    )
    assert one == again
    assert len(one) == len(other) == 4
    assert one & other == set()


def test_a_folder_of_another_data_set_is_refused(whole):
    stranger = replace(whole[0], episodes=[replace(episode, dataset="other") for episode in whole[0].episodes])
    with pytest.raises(TrainingError, match="'other', and --data holds bridge_dataset"):
        joined((), [stranger], whole)


def test_options_without_held_out_data_or_out_of_range_are_refused():
    with pytest.raises(TrainingError, match="--stop-after needs held-out data"):
        HoldoutOptions(stop_after=2)
    with pytest.raises(TrainingError, match=r"--holdout is 1\.0"):
        HoldoutOptions(holdout=1.0)


@pytest.fixture(scope="module")
def held_run(bridge, tmp_path_factory):
    """A run of six steps that is evaluated every second one, with an average of the weights."""
    out = tmp_path_factory.mktemp("runs") / "held"
    assert main(arguments(bridge, out, 6, **{"holdout": 0.2, "eval-every": 2, "eval-samples": 16, "ema": 0.5})) == 0
    return out


def test_a_run_scores_what_is_held_out_and_keeps_the_best(held_run):
    told = lines(held_run)
    assert [line["step"] for line in told] == [2, 4, 6]
    [scores] = told[-1]["scores"]
    assert scores["samples"] == 16
    assert len(scores["action_nll_by_dimension"]) == len(scores["first_action_l1"]) == 7
    assert scores["action_nll"] == pytest.approx(np.mean(scores["action_nll_by_dimension"])) == told[-1]["value"]
    best = min(told, key=lambda line: line["value"])
    assert best["step"] == 6
    assert load_checkpoint(held_run / "checkpoint-best").training["held_out"]["bridge_dataset"]


def test_held_out_scenes_take_no_part_in_statistics(held_run, bridge, tmp_path):
    train(config(bridge, tmp_path / "all", 1))
    held, everything = (load_checkpoint(path / "checkpoint") for path in (held_run, tmp_path / "all"))
    count = [one.statistics["bridge_dataset"].num_transitions for one in (held, everything)]
    assert count[0] < count[1]


def test_the_command_gives_a_checkpoint_the_numbers_that_its_run_had(held_run, bridge, tmp_path, capsys):
    told = tmp_path / "scores.json"
    command = ["evaluate", str(held_run / "checkpoint"), "--data", str(bridge), "--samples", "16", "--held-out-only"]
    assert main([*command, "--json", str(told)]) == 0
    [scores] = json.loads(told.read_text())["scores"].values()
    [recorded] = lines(held_run)[-1]["scores"]
    assert scores["as it is"]["action_nll"] == pytest.approx(recorded["action_nll"], rel=1e-4)
    assert set(scores) > {"as it is", "mean image"}
    assert "mean image" in capsys.readouterr().out


def test_a_stopped_run_goes_on_to_the_same_numbers(held_run, bridge, tmp_path):
    out = tmp_path / "stopped"
    options = {"holdout": 0.2, "eval-every": 2, "eval-samples": 16, "ema": 0.5}
    assert main(arguments(bridge, out, 4, **options)) == 0
    # A line that a killed process wrote after its last saved state, and one that was cut.
    with (out / "heldout.jsonl").open("a") as file:
        file.write('{"step": 5, "value": 0.0, "judged_by": "action_nll", "scores": []}\n{"step": 6, "val')
    assert main(arguments(bridge, out, 6, **options)) == 0
    assert losses(out) == losses(held_run)
    assert lines(out) == lines(held_run)


def test_a_divided_model_is_scored_as_a_whole_one(bridge, tmp_path):
    options = {"holdout": 0.2, "eval-every": 2, "eval-samples": 16, "optim.micro-batch": 1, "device": "cpu"}
    assert main(arguments(bridge, tmp_path / "whole", 2, **options)) == 0
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vla.cli"]
    process = start([*two, *arguments(bridge, tmp_path / "divided", 2, **options), "--shard"])
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()[-2000:]
    [one], [other] = lines(tmp_path / "whole"), lines(tmp_path / "divided")
    assert other["value"] == pytest.approx(one["value"], rel=1e-5)


def test_training_stops_when_evaluations_bring_no_gain_and_says_so(bridge, tmp_path, capsys):
    out = tmp_path / "early"
    # A learning rate that throws the weights about: what is held out gets worse at once.
    options = {"holdout": 0.2, "eval-every": 1, "eval-samples": 8, "stop-after": 2, "optim.lr": 3.0}
    assert main(arguments(bridge, out, 40, **options)) == 0
    told = lines(out)
    assert len(told) < 40
    values = [line["value"] for line in told]
    assert values.index(min(values)) == len(values) - 3
    assert f"best at step {len(values) - 2}" in capsys.readouterr().err
    assert main(arguments(bridge, out, 40, **options)) == 0
    assert lines(out) == told


def test_the_average_of_weights_follows_them_and_steps_aside_again():
    model = torch.nn.Linear(2, 1)
    average = MovingAverage(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average.update()
    with average.in_place():
        inside = model.weight.detach().clone()
    assert (model.weight == 1).all()
    assert not (inside == 1).all()
    other = MovingAverage(torch.nn.Linear(2, 1), 0.9)
    other.load_state_dict(average.state_dict())
    with other.in_place():
        torch.testing.assert_close(other._trained["weight"].detach(), inside)

"""How long training runs can be said in epochs."""

import json
from pathlib import Path

import pytest

from vla.errors import TrainingError
from vla.train.config import LoopConfig, ModelOptions, OptimConfig, TrainConfig, recorded
from vla.train.loop import train
from vla.train.sources import read_data

SMALL = OptimConfig(lr=1e-3, batch_size=64, micro_batch=32)


@pytest.fixture(scope="module")
def bridge(shared):
    return shared / "data/bridge_dataset/1.0.0"


def config(data, out, **length):
    loop = LoopConfig(out=out, optim=SMALL, save_every=2, **length)
    return TrainConfig(data=(data,), loop=loop, model=ModelOptions(preset="nano"), stage="action")


def test_an_epoch_is_every_sample_once_rounded_up_to_whole_batches():
    loop = LoopConfig(out=Path("o"), optim=SMALL, epochs=1.5)
    assert [loop.steps_for(samples) for samples in (1, 64, 128, 129)] == [1, 2, 3, 4]
    assert LoopConfig(out=Path("o"), steps=7).steps_for(1000) == 7
    assert LoopConfig(out=Path("o")).steps_for(1000) == 10_000


def test_a_run_says_how_many_steps_its_epochs_are_and_goes_on_for_more(bridge, tmp_path, capsys):
    samples = sum(episode.num_starts for episode in read_data(config(bridge, tmp_path))[0].episodes)
    share = 2 * 64 / samples
    train(config(bridge, tmp_path / "run", epochs=share))
    assert f"--epochs {share:g}: 2 steps ({samples} samples in batches of 64)" in capsys.readouterr().err
    train(config(bridge, tmp_path / "run", epochs=share * 1.5))
    train(config(bridge, tmp_path / "steps", steps=3))
    runs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("run", "steps")]
    first, second = ([json.loads(line)["loss"] for line in lines] for lines in runs)
    assert first == second
    assert len(first) == 3
    with pytest.raises(TrainingError, match=r"has done 3 steps, and --epochs .* \(1 steps\) asks for fewer"):
        train(config(bridge, tmp_path / "run", epochs=share / 2))


def test_steps_and_epochs_at_once_are_refused():
    with pytest.raises(TrainingError, match="--steps 5 and --epochs 2 both"):
        LoopConfig(out=Path("o"), steps=5, epochs=2)
    with pytest.raises(TrainingError, match="--epochs is 0"):
        LoopConfig(out=Path("o"), epochs=0)


def test_a_run_without_epochs_is_recorded_as_before():
    assert recorded(config(Path("d"), Path("o")))["steps"] == 10_000
    assert "epochs" not in recorded(config(Path("d"), Path("o"), steps=3))

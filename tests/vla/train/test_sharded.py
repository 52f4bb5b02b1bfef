"""A model divided among processes computes in the precision that is written down, and trains as a whole one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vla.cli import main
from vla.errors import TrainingError
from vla.model.checkpoint import load_checkpoint
from vla.train.progress import METRICS
from vla.train.sharded import launcher_shards

EIGHT_GPUS = Path(__file__).parents[3] / "vla/configs/fsdp_8gpu.yaml"
"""The configuration that is documented; nothing of it but the number of processes is changed here."""


@pytest.fixture(scope="module")
def bridge(shared):
    return shared / "data/bridge_dataset/1.0.0"


def launched(*command):
    """Run what `accelerate launch` starts, twice side by side and on the CPU."""
    launch = ["-m", "accelerate.commands.launch", "--config_file", EIGHT_GPUS, "--num_processes", "2"]
    return python(*launch, "--main_process_port", "0", *command)


def python(*command):
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, *map(str, command)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def arguments(data, out, steps, micro, *more):
    told = {"data": data, "out": out, "steps": steps, "model.preset": "nano", "device": "cpu", "save-every": 2}
    told |= {"precision": "float32", "optim.lr": 1e-3, "optim.batch-size": 4, "optim.micro-batch": micro}
    return ["train", *(str(part) for name, value in told.items() for part in (f"--{name}", value)), *more]


def curve(out):
    lines = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    return [(line["loss"], line["gradient_norm"]) for line in lines]


@pytest.fixture(scope="module")
def alone(bridge, tmp_path_factory):
    """Four steps of one process."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    assert main(arguments(bridge, out, 4, 2)) == 0
    return curve(out)


@pytest.fixture(scope="module")
def divided(bridge, tmp_path_factory):
    """The folder of a run of two steps, divided between two processes."""
    out = tmp_path_factory.mktemp("runs") / "divided"
    launched("-m", "vla.cli", *arguments(bridge, out, 2, 1))
    return out


def same(one, other):
    return one == [pytest.approx(step, rel=2e-5) for step in other]


def test_only_matrix_products_are_rounded(tmp_path):
    launched(Path(__file__).with_name("divided.py"), tmp_path / "told.json")
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["sharded"], told["processes"]) == (True, 2)
    assert set(told["buffers"].values()) == {"torch.float32"}
    assert {"vision_encoders.dino.mean", "language.model.rotary_emb.inv_freq"} <= told["buffers"].keys()
    assert told["equal"], "buffers hold the values that they have in one process"
    assert told["weights"] == ["torch.float32"]
    assert told["of"] * 0.49 < told["here"] < told["of"] * 0.52
    assert told["finer_than_bfloat16"] > 0.1, "gradients are summed in float32"


def test_a_divided_model_has_the_losses_and_norms_of_a_whole_one(divided, alone):
    assert same(curve(divided), alone[:2])
    assert (divided / "state/shards/.metadata").is_file()
    assert load_checkpoint(divided / "checkpoint").training["processes"] == 2


def test_a_divided_run_goes_on_in_one_process_and_divided_again(bridge, divided, alone):
    assert main(arguments(bridge, divided, 3, 2)) == 0
    assert same(curve(divided), alone[:3])
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vla.cli"]
    refused = subprocess.run(
        [sys.executable, *two, *arguments(bridge, divided, 4, 1, "--shard")], capture_output=True, text=True
    )
    assert refused.returncode != 0
    assert "Go on without --shard" in refused.stderr


def test_a_changed_byte_of_a_state_is_seen(bridge, divided, tmp_path, capsys):
    out = tmp_path / "damaged"
    python("-c", f"import shutil; shutil.copytree({str(divided)!r}, {str(out)!r})")
    file = next(path for path in sorted((out / "state").rglob("*")) if path.is_file() and path.stat().st_size > 10_000)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert main(arguments(bridge, out, 4, 2)) == 2
    assert f"{file.relative_to(out / 'state')} is not as it was saved" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("FSDP_VERSION", "1", "RoPE"),
        ("FSDP_OFFLOAD_PARAMS", "true", "offload_params: false"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", "--gradient-checkpointing"),
    ],
)
def test_another_configuration_of_the_launcher_is_refused(monkeypatch, name, value, way_out):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=way_out):
        launcher_shards()

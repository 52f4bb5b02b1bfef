"""The folder of a training run: held by one process, whole at every moment, and its own wherever it lies."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.vla.nano_models import nano, random_images
from tests.vla.train.killed import killed
from vla.cli import main
from vla.errors import DivergedError, TrainingError
from vla.train.collate import Placed, padded
from vla.train.config import LoopConfig, ModelOptions, OptimConfig, TrainConfig
from vla.train.loop import _step, make_accelerator, train
from vla.train.progress import METRICS, Metrics, Progress

SMALL = OptimConfig(lr=1e-3, batch_size=4, micro_batch=4)


@pytest.fixture(scope="module")
def bridge(shared):
    return shared / "data/bridge_dataset/1.0.0"


def config(data, out, steps, **changes):
    loop = LoopConfig(out=out, optim=changes.pop("optim", SMALL), steps=steps, save_every=2)
    return TrainConfig(data=(data,), loop=loop, model=ModelOptions(preset="nano"), **changes)


def metrics(out):
    return [json.loads(line) for line in (out / METRICS).read_text().splitlines()]


def losses(out):
    return [line["loss"] for line in metrics(out)]


@pytest.fixture(scope="module")
def four_steps(bridge, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "four"
    train(config(bridge, out, 4))
    return out


@pytest.fixture
def two_steps(bridge, tmp_path):
    train(config(bridge, tmp_path / "run", 2))
    return tmp_path / "run"


def command(data, out, steps, *more):
    told = {"data": data, "out": out, "steps": steps, "optim.lr": 1e-3, "optim.batch-size": 4, "model.preset": "nano"}
    told = {**told, "optim.micro-batch": 4, "save-every": 1000}
    return ["train", *(str(part) for name, value in told.items() for part in (f"--{name}", value)), *more]


def begin(*arguments):
    # Sums depend on the number of threads: the child has as many as this process, to which it is compared bit for bit.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen([sys.executable, "-m", "vla.cli", *arguments], env=environment, stderr=subprocess.PIPE)


def wait_for_steps(out, count, process):
    while process.poll() is None and not ((out / METRICS).is_file() and len(metrics_lines(out)) >= count):
        time.sleep(0.02)


def metrics_lines(out):
    return (out / METRICS).read_text().splitlines()


def test_more_steps_at_a_constant_rate_go_on_as_if_they_had_been_asked_for_at_once(bridge, two_steps, four_steps):
    train(config(bridge, two_steps, 4))
    assert losses(two_steps) == losses(four_steps)


def test_fewer_steps_than_were_done_are_refused(bridge, two_steps):
    with pytest.raises(TrainingError, match="has done 2 steps, and --steps 1 asks for fewer"):
        train(config(bridge, two_steps, 1))


def test_more_steps_of_a_falling_rate_are_another_run(bridge, tmp_path):
    falling = dataclasses.replace(SMALL, schedule="cosine")
    train(config(bridge, tmp_path / "run", 2, optim=falling))
    with pytest.raises(TrainingError, match="steps: 2 there, 4 here"):
        train(config(bridge, tmp_path / "run", 4, optim=falling))


def test_another_micro_batch_goes_on(bridge, two_steps, four_steps):
    train(config(bridge, two_steps, 4, optim=dataclasses.replace(SMALL, micro_batch=2)))
    assert losses(two_steps) == pytest.approx(losses(four_steps), rel=1e-5)


def test_a_run_that_was_copied_moved_or_named_otherwise_goes_on(bridge, two_steps, four_steps, monkeypatch, tmp_path):
    shutil.copytree(two_steps, tmp_path / "copy")
    train(config(bridge, tmp_path / "copy", 4))
    two_steps.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(bridge)
    train(config(Path("link"), Path("moved"), 4))
    assert losses(tmp_path / "copy") == losses(tmp_path / "moved") == losses(four_steps)


def test_other_data_is_another_run(bridge, two_steps, tmp_path):
    shutil.copytree(bridge, tmp_path / "data")
    with pytest.raises(TrainingError, match=r"data: .* there, .* here\n.*may be linked"):
        train(config(tmp_path / "data", two_steps, 4))


def test_two_trainings_of_one_folder_do_not_mix(bridge, tmp_path):
    out = tmp_path / "run"
    first = begin(*command(bridge, out, 1000))
    wait_for_steps(out, 1, first)
    assert main(command(bridge, out, 1000)) == 2
    lines = metrics_lines(out)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert [json.loads(line)["step"] for line in lines] == list(range(len(lines)))
    train(config(bridge, out, 1))  # nobody holds the folder of a process that was killed


def test_sigterm_saves_and_the_same_command_goes_on(bridge, tmp_path, four_steps, capsys):
    out = tmp_path / "run"
    process = begin(*command(bridge, out, 1000))
    wait_for_steps(out, 2, process)
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()[-2000:]
    done = json.loads((out / "state/position.json").read_text())["step"]
    assert f"stopped and saved after step {done}" in said.decode()
    assert (out / "checkpoint/config.json").is_file()
    assert losses(out)[:4] == losses(four_steps)[: len(losses(out))]
    assert main(command(bridge, out, done + 1)) == 0
    assert [line["step"] for line in metrics(out)] == list(range(done + 1))


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_a_damaged_configuration_is_named_with_a_way_out(bridge, two_steps, content):
    (two_steps / "train.json").write_text(content)
    with pytest.raises(TrainingError, match=r"train\.json .*Remove it if this command is the one"):
        train(config(bridge, two_steps, 4))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("position.json", b"{"),
        ("position.json", b"[]"),
        ("position.json", b'{"step": "2", "loader": {}}'),
        ("position.json", b'{"step": 2, "loader": {}}'),
        ("position.json", None),
        ("optimizer.bin", b"\x80\x04N."),
        ("optimizer.bin", b""),
        ("optimizer.bin", None),
        ("pytorch_model.bin", b"PK\x03\x04"),
        ("pytorch_model.bin", None),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_damaged_state_is_named(bridge, two_steps, name, content):
    (two_steps / "state" / name).unlink()
    if content is not None:
        (two_steps / "state" / name).write_bytes(content)
    with pytest.raises(TrainingError, match=r"run/state"):
        train(config(bridge, two_steps, 4))
    assert len(losses(two_steps)) == 2


def test_lines_of_metrics_that_are_none_are_left_out(bridge, two_steps, four_steps):
    with (two_steps / METRICS).open("ab") as file:
        file.write(b'[]\n5\n{}\n\xff\xfe\n{"step": 2, "lo')
    train(config(bridge, two_steps, 4))
    assert losses(two_steps) == losses(four_steps)


def test_metrics_are_json_whatever_they_are(tmp_path):
    with Progress(tmp_path, 1, "none", True, {}) as progress:
        progress.say(0, Metrics(float("nan"), None, 0.5, None, float("inf")), 1e-3, 4)

    def refuse(constant):
        raise AssertionError(constant)

    [line] = (tmp_path / METRICS).read_text().splitlines()
    assert json.loads(line, parse_constant=refuse)["loss"] is None


def one_step(change):
    """Run an optimizer step of a `nano` model that `change` meddles with; return the model and its weights before."""
    model, prompts = nano()
    sequence = prompts.sequence("lift", "move up", [prompts.actions.first_token_id] * 7)
    batch = padded([sequence] * 2, images=random_images(model, 2))
    micro = [Placed(change(model, batch), ["bridge, episode 1, step 0", "bridge, episode 7, step 3"])]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    accelerator = make_accelerator(LoopConfig(out=Path("unused"), device="cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return lambda: _step(model, optimizer, micro, 1.0, accelerator), model, before


def test_a_gradient_that_is_not_finite_changes_no_weight():
    def spoil(model, batch):
        model.projector[0].bias.register_hook(lambda gradient: gradient * float("inf"))
        return batch

    step, model, before = one_step(spoil)
    with pytest.raises(DivergedError, match=r"gradient's norm is \w+ on: bridge, episode 1, step 0, bridge, episode 7"):
        step()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_step_without_anything_to_learn_is_named():
    step, _, _ = one_step(lambda model, batch: dataclasses.replace(batch, kinds=torch.zeros_like(batch.kinds)))
    with pytest.raises(TrainingError, match="no token carries loss in bridge, episode 1"):
        step()


@pytest.mark.parametrize("room", [400_000, 1_000_000])
def test_a_disk_that_fills_in_a_save_leaves_what_was_saved_before(bridge, tmp_path, four_steps, room):
    """The first size is too small for the weights of the checkpoint, the second for the optimizer's state."""
    out = tmp_path / "run"
    saved = [*command(bridge, out, 2), "--save-every", "2"]
    longer = [*command(bridge, out, 4), "--save-every", "2"]
    assert main(saved) == 0
    before = {path: path.read_bytes() for path in sorted((out / "state").rglob("*")) if path.is_file()}
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"
    run = f"{limit}; import sys; from vla.cli import main; sys.exit(main({longer!r}))"
    full = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert full.returncode == 2, full.stderr
    assert f"Saving in {out} failed" in full.stderr
    assert "Traceback" not in full.stderr
    assert {path: path.read_bytes() for path in before} == before
    assert not list(out.glob("*.partial"))
    assert main(longer) == 0
    assert [line["step"] for line in metrics(out)] == list(range(4))


def test_a_training_killed_at_random_moments_has_the_losses_of_one_that_was_not(bridge, tmp_path):
    """Three kills here; `python -m tests.vla.train.killed` does more of them."""
    assert killed(bridge, tmp_path, kills=3, steps=12, seed=0) == 3

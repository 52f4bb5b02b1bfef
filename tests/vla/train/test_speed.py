"""Faster steps with the same losses, and a machine that cannot compile says so."""

import numpy as np
import pytest
import torch

from tests.vla.nano_models import nano
from tests.vla.train.test_loop import arguments, start
from tests.vla.train.test_loop import losses as told
from vla.errors import TrainingError
from vla.motion.language import all_motions, describe
from vla.train.collate import padded, widest
from vla.train.config import LoopConfig, ModelOptions, OptimConfig, TrainConfig
from vla.train.loop import train
from vla.train.speed import speed_up


def losses(data, out, **options):
    loop = LoopConfig(out=out, optim=OptimConfig(lr=1e-3, batch_size=2, micro_batch=2), steps=3, **options)
    train(TrainConfig(data=(data,), loop=loop, model=ModelOptions(preset="nano")))
    return told(out)


@pytest.mark.slow
def test_compiled_blocks_have_the_losses_of_others(shared, tmp_path):
    data = shared / "data/bridge_dataset/1.0.0"
    plain = losses(data, tmp_path / "run")
    # In a process of its own: setuptools, which PyTorch compiles with, refuses one that has loaded Python's distutils.
    options = {"optim.batch-size": 2, "optim.micro-batch": 2, "save-every": 500}
    process = start(["-m", "vla.cli", *arguments(data, tmp_path / "compiled", 3, **options), "--compile"])
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()[-2000:]
    np.testing.assert_allclose(told(tmp_path / "compiled"), plain, atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, met while it compiles
def test_a_machine_without_a_compiler_says_what_is_missing_before_the_first_step(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setattr("torch._inductor.config.fx_graph_cache", False)
    torch._dynamo.reset()
    with pytest.raises(TrainingError, match=r"--compile: PyTorch cannot compile .*C\+\+ compiler.*leave --compile out"):
        losses(shared / "data/bridge_dataset/1.0.0", tmp_path / "run", compile=True)
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_on_a_cpu_attention_is_made_of_matrix_products_and_weights_keep_their_names():
    model, _ = nano()
    names = list(model.state_dict())
    speed_up(model, torch.device("cpu"), compiled=False)
    assert model.language.config._attn_implementation == "eager"
    assert list(model.state_dict()) == names
    speed_up(model, torch.device("cuda"), compiled=False)
    assert model.language.config._attn_implementation == "sdpa"


def test_no_sequence_is_longer_than_the_widest():
    _, prompts = nano(action_horizon=2)
    texts, actions = ["lift", "put the plate on the stove"], [prompts.actions.first_token_id] * 14
    width = widest(prompts, texts, "motion_action")
    lengths = [
        len(prompts.sequence(text, describe(motion), actions).token_ids) for text in texts for motion in all_motions()
    ]
    assert width == max(lengths)
    assert max(widest(prompts, texts, target) for target in ("action", "motion")) < width
    batch = padded([prompts.sequence("lift", "stop", actions)], width=width)
    assert batch.token_ids.shape == (1, width)

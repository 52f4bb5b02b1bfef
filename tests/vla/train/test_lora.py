"""Low-rank adaptation trains adapters, goes on, and leaves a checkpoint that knows nothing of peft."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vla.nano_models import nano, random_images
from vla.errors import TrainingError
from vla.model.checkpoint import load_checkpoint
from vla.train.config import LoopConfig, ModelOptions, OptimConfig, TrainConfig, recorded
from vla.train.loop import train
from vla.train.lora import add_lora, merged
from vla.train.recipe import LoraOptions


@pytest.fixture(scope="module")
def bridge(shared):
    return shared / "data/bridge_dataset/1.0.0"


def config(data, out, steps=2, lora=None, init="scratch"):
    loop = LoopConfig(out=out, optim=OptimConfig(lr=1e-2, batch_size=2, micro_batch=2), steps=steps, save_every=2)
    return TrainConfig(
        data=(data,), loop=loop, model=ModelOptions(preset="nano"), init=init, lora=lora or LoraOptions(rank=4)
    )


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def adapted(**options):
    pytest.importorskip("peft")
    model, prompts = nano()
    add_lora(model, LoraOptions(rank=4, **options), seed=0)
    return model, prompts


def test_adapters_change_nothing_at_first_and_train_in_place_of_the_language_model():
    plain, _ = nano()
    model, _ = adapted(embeddings=False)
    assert merged(model.state_dict(), 4.0).keys() == plain.state_dict().keys()
    assert all(torch.equal(merged(model.state_dict(), 4.0)[name], value) for name, value in plain.state_dict().items())
    trained = {name for name, parameter in model.language.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".lora_" in name for name in trained)
    assert all(parameter.requires_grad for parameter in model.projector.parameters())


def test_the_embedding_table_is_trained_unless_it_is_left_out():
    for embeddings in (True, False):
        model, _ = adapted(embeddings=embeddings)
        assert model.language.get_input_embeddings().weight.requires_grad is embeddings


def test_merged_weights_compute_what_the_adapters_compute():
    model, _ = adapted()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    plain, _ = nano()
    seen = model.observation(model.features(random_images(model, 1)))
    before = plain.decoder(inputs_embeds=seen).last_hidden_state
    plain.load_state_dict(merged(model.state_dict(), LoraOptions(rank=4).scale))
    expected = model.decoder(inputs_embeds=seen).last_hidden_state
    torch.testing.assert_close(plain.decoder(inputs_embeds=seen).last_hidden_state, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-2)


def test_a_run_goes_on_and_its_checkpoint_loads_without_peft(bridge, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    train(config(bridge, tmp_path / "whole", 4))
    train(config(bridge, tmp_path / "parts", 2))
    train(config(bridge, tmp_path / "parts", 4))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    monkeypatch.setitem(sys.modules, "peft", None)
    checkpoint = load_checkpoint(tmp_path / "whole/checkpoint")
    assert checkpoint.training["lora"] == {"rank": 4, "alpha": 16.0, "embeddings": True}
    first = load_checkpoint(tmp_path / "parts/checkpoint")
    np.testing.assert_array_equal(
        *(one.model.language.get_input_embeddings().weight.detach() for one in (first, checkpoint))
    )
    train(config(bridge, tmp_path / "next", 1, LoraOptions(), str(tmp_path / "whole/checkpoint")))


def test_without_peft_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match=r"--lora\.rank needs the package peft: pip install 'motion-vla\[lora\]'"):
        add_lora(nano()[0], LoraOptions(rank=4), seed=0)


def test_off_it_is_not_recorded_and_wrong_numbers_are_refused():
    assert "lora" not in recorded(config(Path("d"), Path("o"), lora=LoraOptions()))
    for numbers in ({"rank": -1}, {"rank": 2, "alpha": 0.0}, {"alpha": 8.0}, {"embeddings": False}):
        with pytest.raises(TrainingError, match=r"--lora\.rank"):
            LoraOptions(**numbers)

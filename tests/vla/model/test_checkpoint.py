"""A checkpoint is whole or refused, and what is wrong with it is named."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Dinov2Model

from tests.vla.nano_models import nano
from vla.errors import CheckpointError, TokenizerError, UnnormalizationError
from vla.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vla.model.network import vision_encoder_hf_config
from vla.model.presets import preset
from vla.statistics import statistics_of
from vla.weights.load import load_pretrained

STATISTICS = {"toy": statistics_of("toy", [[[0.1 * i, 0, 0, 0, 0, 0, i % 2] for i in range(10)]])}


@pytest.fixture
def saved(tmp_path):
    model, prompts = nano()
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, Checkpoint(model, prompts, STATISTICS, "finetune", {"steps": 3}))
    return folder, model


@pytest.fixture
def frozen(tmp_path):
    """A checkpoint whose vision encoder is frozen and lies in a folder of its own."""
    encoder = replace(
        preset("nano").vision_encoders[0], source=str(tmp_path / "encoder"), frozen=True, feature_layer=-1
    )
    Dinov2Model(vision_encoder_hf_config(encoder, 56)).save_pretrained(tmp_path / "encoder")
    model, prompts = nano(vision_encoders=(encoder,))
    load_pretrained(model)
    save_checkpoint(tmp_path / "checkpoint", Checkpoint(model, prompts, STATISTICS, "finetune"), dtype="float16")
    return tmp_path, model


def test_a_checkpoint_comes_back_as_it_was(saved):
    folder, model = saved
    loaded = load_checkpoint(folder)
    assert (loaded.stage, loaded.training, loaded.statistics) == ("finetune", {"steps": 3}, STATISTICS)
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], value, rtol=0, atol=0)


def test_transformers_reads_the_tokenizer(saved):
    folder, _ = saved
    assert AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<extra_7>") == load_checkpoint(
        folder
    ).prompts.tokenizer.token_to_id("<extra_7>")


def test_a_frozen_vision_encoder_is_named_by_hash_and_not_stored(frozen):
    folder, model = frozen
    assert not [
        name for name in load_file(folder / "checkpoint/model.safetensors") if name.startswith("vision_encoders.")
    ]
    loaded = load_checkpoint(folder / "checkpoint")
    for name, value in model.vision_encoders.state_dict().items():
        torch.testing.assert_close(loaded.model.vision_encoders.state_dict()[name], value, rtol=0, atol=0)


def test_a_frozen_vision_encoder_may_lie_in_the_checkpoint(frozen):
    folder, model = frozen
    (folder / "checkpoint/vision_encoders").mkdir()
    (folder / "encoder").rename(folder / "checkpoint/vision_encoders/dino")
    loaded = load_checkpoint(folder / "checkpoint")
    for name, value in model.vision_encoders.state_dict().items():
        torch.testing.assert_close(loaded.model.vision_encoders.state_dict()[name], value, rtol=0, atol=0)


def test_another_frozen_vision_encoder_is_refused(frozen):
    folder, model = frozen
    torch.manual_seed(1)
    Dinov2Model(vision_encoder_hf_config(model.config.vision_encoders[0], 56)).save_pretrained(folder / "encoder")
    with pytest.raises(CheckpointError, match=r"frozen vision encoder 'dino'.*is another one"):
        load_checkpoint(folder / "checkpoint")


def test_missing_and_unexpected_tensors_are_listed(saved):
    folder, _ = saved
    weights = load_file(folder / "model.safetensors")
    weights["projector.7.bias"] = weights.pop("projector.0.bias")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing \(1\): projector\.0\.bias\n.*unexpected \(1\): projector\.7\.bias"):
        load_checkpoint(folder)


def test_statistics_of_another_dataset_are_refused_with_the_known_keys(saved):
    with pytest.raises(UnnormalizationError, match=r"'bridge'.*trained on: toy"):
        load_checkpoint(saved[0]).action_statistics("bridge")


def test_a_tokenizer_without_action_tokens_is_refused(saved):
    folder, _ = saved
    data = json.loads((folder / "tokenizer.json").read_text())
    data["added_tokens"] = [token for token in data["added_tokens"] if not token["content"].startswith("<extra")]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(TokenizerError, match="lacks 256"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "statistics.json", "tokenizer.json"])
def test_a_damaged_or_missing_file_is_named(saved, name):
    folder, _ = saved
    (folder / name).write_text('{"')
    with pytest.raises(ValueError, match=name):
        load_checkpoint(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        load_checkpoint(folder)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_checkpoint(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(CheckpointError, match="not from vla-train"):
        load_checkpoint(tmp_path)


def test_a_checkpoint_is_replaced_only_when_the_new_one_is_complete(saved):
    folder, _ = saved
    weights = {"projector.0.bias": "no tensor"}
    with pytest.raises(AttributeError):
        save_checkpoint(folder, load_checkpoint(folder), weights)
    load_checkpoint(folder)

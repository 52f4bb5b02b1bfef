"""A checkpoint whose files were damaged, changed or not fetched ends in words that name file and field."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.vla.nano_models import nano
from vla.errors import CheckpointError, ModelError, TokenizerError
from vla.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vla.statistics import statistics_of, with_state

ACTIONS = [[0.1 * i, 0, 0, 0, 0, 0, i % 2] for i in range(10)]
STATISTICS = with_state(statistics_of("toy", [ACTIONS]), [[[0.1 * i, 1.0] for i in range(10)]])


@pytest.fixture
def saved(tmp_path):
    model, prompts = nano(proprio_dim=2)
    save_checkpoint(tmp_path / "checkpoint", Checkpoint(model, prompts, {"toy": STATISTICS}, "finetune"))
    return tmp_path / "checkpoint"


def rewrite(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def encoder(**changes):
    return lambda config: config["model"]["vision_encoders"][0].update(changes)


def language(**changes):
    return lambda config: config["model"]["language"]["model"].update(changes)


def model(**changes):
    return lambda config: config["model"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (encoder(std=[0, 0, 0]), r"vision_encoders\[0\]: std is .*3 positive numbers"),
        (encoder(mean=[0.5, float("nan"), 0.5]), "mean is .*3 finite numbers"),
        (encoder(kind="clip"), "kind is 'clip'"),
        (encoder(name="../x"), "name is '../x'"),
        (encoder(heads=5), "width is 32; a multiple of the 5 heads"),
        (encoder(layers=10**9), "layers is 1000000000"),
        (encoder(activation="os.system"), "cannot be built"),
        (encoder(colour="red"), r"vision_encoders\[0\] has the unknown colour"),
        (language(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
        (language(hidden_size=-64), "hidden_size is -64"),
        (language(hidden_size=0), "cannot be built"),
        (language(vocab_size=10**12), "vocab_size is 1000000000000"),
        (language(rms_norm_eps=float("inf")), "must be finite"),
        (language(model_type="evil"), "cannot be built"),
        (language(auto_map={"AutoModelForCausalLM": "evil--x.Y"}), "no setting auto_map"),
        (language(hidden_size=1 << 24), "cannot be built|does not fit"),
        (model(image_size=0), "image_size is 0"),
        (model(image_size="56"), "image_size is '56'"),
        (model(chunk=-1), "action_horizon is -1"),
        (model(action_horizon=9_999), "exceed the language model's context"),
        (model(image_position="nowhere"), "image_position is 'nowhere'"),
        (model(cameras="third_person"), "cameras is 'third_person'"),
        (model(proprio_dim=-1), "proprio_dim is -1"),
        (model(vision_encoders=[]), "At least one vision encoder"),
        (model(motion=1), "motion is 1; true or false"),
        (lambda config: config["model"].pop("motion"), "model has no motion"),
        (lambda config: config.update(stage="x"), "stage is 'x'"),
        (lambda config: config.update(frozen_vision_encoders=[]), "frozen_vision_encoders is a list"),
        (lambda config: config.update(model=None), "model is a NoneType"),
    ],
)
def test_a_wrong_field_of_the_configuration_is_named(saved, change, message):
    rewrite(saved / "config.json", change)
    with pytest.raises(CheckpointError, match=rf"(?s)config\.json.*{message}|safetensors.*{message}"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": [True]}, "mask is"),
        ({"mask": ["no"] * 7}, "mask is"),
        ({"mask": None}, "no statistics"),
        ({"q01": [1] * 7, "q99": [-1] * 7}, "q01 is above q99"),
        ({"q01": ["low"] * 7}, "no statistics"),
        ({"q01": [float("nan")] * 7}, "7 finite numbers"),
        ({"q01": [-1e308] * 7, "q99": [1e308] * 7}, "too far below"),
    ],
)
def test_wrong_statistics_are_refused(saved, change, message):
    rewrite(saved / "statistics.json", lambda data: data["toy"]["action"].update(change))
    with pytest.raises(CheckpointError, match=rf"statistics\.json: .*{message}"):
        load_checkpoint(saved)


def test_wrong_statistics_of_the_state_are_refused(saved):
    rewrite(saved / "statistics.json", lambda data: data["toy"].update(proprio={"q01": [1, 1], "q99": [0]}))
    with pytest.raises(CheckpointError, match="proprio"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", ["config.json", "statistics.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": nul'])
def test_a_file_that_is_no_json_object_is_named(saved, name, content):
    (saved / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"", "empty"),
        (b"\x00" * 100, "Copy the checkpoint again"),
    ],
)
def test_weights_that_were_not_fetched_are_told_apart(saved, content, message):
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"model\.safetensors cannot be read.*{message}"):
        load_checkpoint(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_weight_that_is_not_finite_is_found(saved, value):
    weights = load_file(saved / "model.safetensors")
    weights["projector.2.weight"][3, 5] = value
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"not finite \(1 of \d+ tensors\): projector\.2\.weight \({value}\)"):
        load_checkpoint(saved)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_weights_that_are_no_real_numbers_are_refused(saved, dtype):
    weights = load_file(saved / "model.safetensors")
    weights["projector.0.bias"] = weights["projector.0.bias"].to(dtype)
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not of real numbers \(1\): projector\.0\.bias"):
        load_checkpoint(saved)


def test_a_tokenizer_without_turns_is_refused(saved):
    def without_stop(data):
        data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] != "<|im_end|>"]
        data["model"]["vocab"]["other"] = data["model"]["vocab"].pop("<|im_end|>")

    rewrite(saved / "tokenizer.json", without_stop)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json has no <\|im_end\|>"):
        load_checkpoint(saved)


def test_weights_too_large_for_their_format_are_not_saved(tmp_path):
    network, prompts = nano()
    checkpoint = Checkpoint(network, prompts, {}, "motion")
    with torch.no_grad():
        network.projector[0].bias[0] = 1e5
    with pytest.raises(CheckpointError, match=r"projector\.0\.bias reaches 1e\+05, which float16 cannot hold"):
        save_checkpoint(tmp_path / "checkpoint", checkpoint, dtype="float16")
    assert not (tmp_path / "checkpoint").exists()
    save_checkpoint(tmp_path / "checkpoint", checkpoint, dtype="bfloat16")
    with torch.no_grad():
        network.projector[0].bias[0] = float("nan")
    with pytest.raises(CheckpointError, match="diverged"):
        save_checkpoint(tmp_path / "checkpoint", checkpoint)
    load_checkpoint(tmp_path / "checkpoint")


def test_loading_leaves_the_random_numbers_of_others_alone(saved):
    before = torch.get_rng_state()
    load_checkpoint(saved)
    assert torch.equal(torch.get_rng_state(), before)

"""Whatever is handed to `--init` or as a checkpoint ends in words with a way out, and no foreign code runs."""

import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from tests.vla.nano_models import nano
from vla.errors import CheckpointError, ModelError, TrainingError, WeightsError
from vla.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vla.train.config import ModelOptions
from vla.train.initialize import initial_checkpoint
from vla.weights.prismatic import load_prismatic

NANO = ModelOptions(preset="nano")
TEXTS = ["pick up the bowl"]


class Program:
    """Something that runs when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def parts():
    return {"projector": {"projector.0.weight": torch.zeros(4, 4)}, "llm_backbone": {"llm.x": torch.zeros(8, 4)}}


def start(init, options=NANO):
    return initial_checkpoint(str(init), options, TEXTS, "finetune", True, seed=0)


def write_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2500000000\n")


def write_cut(path):
    torch.save({"model": parts()}, path)
    path.write_bytes(path.read_bytes()[:-300])


def write_objects(path):
    torch.save({"model": parts(), "more": Program(path.parent / "ran")}, path)


def write_pickle(path):
    path.write_bytes(pickle.dumps(Program(path.parent / "ran")))


def write_old(path):
    torch.save({"model": parts()}, path, _use_new_zipfile_serialization=False)


def write_module(path):
    torch.save(torch.nn.Linear(2, 2), path)


def write_script(path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)


def write_safetensors(path):
    save_file({"projector.fc1.weight": torch.zeros(4, 4)}, path)


def write_list(path):
    torch.save({"model": {**parts(), "projector": [1, 2]}}, path)


def write_numbers(path):
    torch.save({"model": {**parts(), "projector": {"projector.0.weight": 3}}}, path)


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_pointer, "git lfs pull"),
        (write_cut, "cut off"),
        (write_objects, "not unpickled"),
        (write_pickle, "not unpickled|cannot be read"),
        (write_module, "not unpickled"),
        (write_script, "TorchScript"),
        (write_safetensors, "safetensors"),
        (write_old, "projector does not fit.*--model.preset"),
        (write_list, "in projector, itself is no tensor"),
        (write_numbers, r"projector\.0\.weight is no tensor"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("<!doctype html>"), "web page"),
        (lambda path: path.write_bytes(b"\x00" * 400), "no file of PyTorch's"),
    ],
)
def test_a_file_of_another_kind_is_told_apart_and_never_run(tmp_path, write, message):
    write(tmp_path / "file.pt")
    with pytest.raises(WeightsError, match=rf"(?s)file\.pt.*({message})"):
        start(tmp_path / "file.pt")
    assert not (tmp_path / "ran").exists()


def make_run(folder):
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint/config.json").write_text("{}")


def make_prismatic_run(folder):
    (folder / "checkpoints").mkdir()
    (folder / "config.json").write_text('{"model": {"model_id": "prism"}}')
    (folder / "checkpoints/latest-checkpoint.pt").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_run, "give the checkpoint in it, .*checkpoint"),
        (make_prismatic_run, r"run of Prismatic's: give .*latest-checkpoint\.pt"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "openvla"}'), "'openvla'"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "LoRA"),
        (lambda folder: (folder / "snapshots").mkdir(), "cache of the Hub"),
        (lambda folder: None, r"no config\.json"),
    ],
)
def test_a_folder_of_another_kind_is_told_apart(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        start(tmp_path)


def test_a_path_that_is_absent_or_a_file_is_no_checkpoint(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="nothing does not exist"):
        load_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="It is a file"):
        load_checkpoint(tmp_path / "file")
    with pytest.raises(TrainingError, match="no such folder or file"):
        start(tmp_path / "nothing.pt")


def test_a_vision_encoder_that_the_preset_lacks_is_not_left_out_silently(tmp_path):
    model, _ = nano()
    saved = {
        "vision_backbone": {"siglip_featurizer.norm.weight": torch.zeros(2)},
        "llm_backbone": {f"llm.{name}": value for name, value in model.language.state_dict().items()},
        "projector": {f"projector.{name}": value for name, value in model.projector.state_dict().items()},
    }
    torch.save({"model": saved}, tmp_path / "file.pt")
    with pytest.raises(
        WeightsError, match=r"no vision encoder of the preset 'nano', such as siglip_featurizer\.norm\.weight"
    ):
        load_prismatic(model, tmp_path / "file.pt")


@pytest.fixture
def saved(tmp_path):
    model, prompts = nano(action_horizon=4)
    save_checkpoint(tmp_path / "one", Checkpoint(model, prompts, {}, "motion", {"steps": 3}))
    return tmp_path / "one"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ModelOptions(preset="mini"), "--model.preset: 'mini' asked for, 'nano' in the checkpoint"),
        (ModelOptions(image_size=224), "--model.image-size: 224 asked for, 56"),
        (ModelOptions(tokenizer="other"), "--model.tokenizer"),
        (ModelOptions(freeze_vision_encoders=True), "--model.freeze-vision encoders: dino"),
        (ModelOptions(pretrained=False), "--model.no-pretrained"),
        (ModelOptions(action_horizon=0), "action_horizon is 0"),
    ],
)
def test_options_that_a_checkpoint_cannot_have_are_refused(saved, options, message):
    with pytest.raises(ModelError, match=message):
        start(saved, options)


def test_options_that_a_checkpoint_can_have_are_applied_and_what_is_built_is_recorded(saved):
    kept = start(saved, ModelOptions())
    assert kept.training["model"]["chunk"] == kept.config.action_horizon == 4
    changed = start(saved, ModelOptions(preset="nano", action_horizon=1, views=("a", "b"), proprio_dim=7))
    assert (changed.config.action_horizon, changed.config.cameras, changed.config.proprio_dim) == (1, ("a", "b"), 7)
    assert changed.model.proprio_projector.weight.shape == (64, 7)
    assert changed.training["model"] == {
        "preset": "nano",
        "pretrained": True,
        "tokenizer": changed.config.language.tokenizer,
        "image_size": 56,
        "views": ["a", "b"],
        "state_size": 7,
        "chunk": 1,
        "action_head": "autoregressive",
        "freeze_vision_encoders": False,
    }
    save_checkpoint(saved.with_name("two"), changed)
    with pytest.raises(TrainingError, match=r"--model\.state-size: 3 asked for, 7"):
        start(saved.with_name("two"), ModelOptions(proprio_dim=3))


def test_a_checkpoint_remembers_every_stage_that_it_came_from(saved):
    second = start(saved)
    save_checkpoint(saved.with_name("two"), second)
    third = start(saved.with_name("two"))
    parent = third.training["began_with"]
    assert (parent["init"], parent["stage"]) == (str(saved.with_name("two")), "finetune")
    first = parent["training"]["began_with"]
    assert (first["stage"], first["training"], len(first["sha256"])) == ("motion", {"steps": 3}, 64)
    assert first["sha256"] == second.training["began_with"]["sha256"]
    json.dumps(third.training)


def test_random_weights_follow_the_seed_and_leave_others_random_numbers_alone():
    before = torch.get_rng_state()
    one, other = start("scratch"), start("scratch")
    assert torch.equal(torch.get_rng_state(), before)
    different = initial_checkpoint("scratch", replace(NANO), TEXTS, "finetune", True, seed=1)
    weight = [checkpoint.model.projector[0].weight for checkpoint in (one, other, different)]
    assert torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], weight[2])

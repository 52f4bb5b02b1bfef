"""Models of openvla-mini act as they were trained: 255 bins whose ids count down."""

import json

import numpy as np
import pytest
import torch

from envs.reach import suite as reach
from evals.types import Episode, Observation
from tests.vla.nano_models import nano
from vla.actions import OpenVLAActionTokenizer
from vla.cli import main
from vla.errors import WeightsError
from vla.model.checkpoint import load_checkpoint
from vla.policy import vla
from vla.statistics import statistics_of, write_statistics
from vla.train.config import ModelOptions
from vla.train.initialize import initial_checkpoint

RNG = np.random.default_rng(0)
ACTIONS = np.concatenate([RNG.uniform(-0.8, 0.8, (50, 6)), RNG.integers(0, 2, (50, 1))], axis=1)


@pytest.fixture
def run(tmp_path):
    """The folder of a run: a model of the preset `nano` that acts."""
    model, _ = nano(sharpness=8.0)
    parts = {
        "llm_backbone": {f"llm.{name}": value for name, value in model.language.state_dict().items()},
        "projector": {f"projector.{name}": value for name, value in model.projector.state_dict().items()},
    }
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    torch.save({"model": parts}, tmp_path / "run/checkpoints/step-1.pt")
    write_statistics(tmp_path / "run/dataset_statistics.json", [statistics_of("reach", [ACTIONS])])
    (tmp_path / "run/config.json").write_text(json.dumps({"vla": {"action_tokenizer": "extra_action_tokenizer"}}))
    return tmp_path / "run"


def begun(run, **options):
    file = str(run / "checkpoints/step-1.pt")
    return initial_checkpoint(file, ModelOptions(preset="nano", **options), ["lift"], "finetune", True, seed=0)


def convert(run, out):
    return main(["convert", "--file", str(run / "checkpoints/step-1.pt"), "--out", str(out), "--model.preset", "nano"])


def test_a_converted_model_acts_by_the_bins_that_it_was_trained_with(run, tmp_path):
    assert convert(run, tmp_path / "out") == 0
    loaded = load_checkpoint(tmp_path / "out")
    assert (loaded.stage, loaded.config.motion, list(loaded.statistics)) == ("action", False, ["reach"])
    policy = vla(reach(), checkpoint=tmp_path / "out", unnorm_key="reach")
    image = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    episode = Episode("reach", 0, 0, 0, reach().protocol.hash)
    seen = Observation(episode, 0, "reach the ball on the left side", {"agentview": image}, np.zeros(8))
    [answer], [chunk] = policy._decode([seen]), policy.act([seen])
    ids, first = np.array(answer.action_ids), loaded.prompts.tokenizer.token_to_id("<extra_0>")
    centres = (np.linspace(-1, 1, 256)[:-1] + np.linspace(-1, 1, 256)[1:]) / 2
    expected = centres[np.minimum(first + 256 - ids - 1, 254)]
    low, high = np.quantile(ACTIONS[:, :6], (0.01, 0.99), axis=0)
    np.testing.assert_allclose(chunk.actions[0, :6], (expected[:6] + 1) / 2 * (high - low) + low)


def test_further_training_keeps_the_bins_and_the_layout(run):
    checkpoint = begun(run)
    prompts = checkpoint.prompts
    first = prompts.tokenizer.token_to_id("<extra_0>")
    assert prompts.action_ids([[-1.0, 0.999, 0, 0, 0, 0, 0]])[:2] == [first + 255, first + 1]
    assert prompts.actions == OpenVLAActionTokenizer(first + 256)
    assert checkpoint.config.image_position == "after_first_token"
    assert checkpoint.training["began_with"]["action_tokenizer"] == "openvla_extra"


def test_the_statistics_alone_say_that_a_model_acts_as_the_published_ones_do(run):
    (run / "config.json").unlink()
    assert begun(run).config.action_tokenizer == "openvla_extra"


def test_action_tokens_may_replace_the_last_words(run):
    (run / "config.json").write_text(json.dumps({"vla": {"action_tokenizer": "action_tokenizer"}}))
    prompts = begun(run).prompts
    assert prompts.actions.first_token_id + 256 == prompts.tokenizer.get_vocab_size(with_added_tokens=False)


def test_a_vision_language_model_learns_our_tokens(run):
    (run / "dataset_statistics.json").unlink()
    config = begun(run).config
    assert (config.action_tokenizer, config.image_position) == ("centres", "after_first_token")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", '{"vla": {"action_tokenizer": "libero_vq_extra_action_tokenizer"}}', "libero_vq.*can be read"),
        ("config.json", '{"model": {}}', "does not say which action tokenizer"),
        ("config.json", "{", "does not say which action tokenizer"),
        ("dataset_statistics.json", "{", "how the actions of step-1.pt are meant"),
        ("dataset_statistics.json", '{"toy": {}}', "how the actions of step-1.pt are meant"),
        ("dataset_statistics.json", "[]", "how the actions of step-1.pt are meant"),
    ],
)
def test_a_model_whose_actions_nothing_explains_is_refused(run, name, text, message):
    (run / name).write_text(text)
    with pytest.raises(WeightsError, match=rf"{name}.*{message}"):
        begun(run)


def test_what_cannot_be_converted_says_why(run, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert convert(run, tmp_path / "out") == 2
    assert "is there already" in capsys.readouterr().err
    (run / "dataset_statistics.json").unlink()
    assert convert(run, tmp_path / "other") == 2
    assert "does not act" in capsys.readouterr().err

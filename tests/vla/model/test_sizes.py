"""The published sizes, counted without allocating them."""

import re
from pathlib import Path

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from vla.errors import ModelError
from vla.model.network import MotionVLA
from vla.model.presets import PRESETS, _paper, _qwen, preset

ACTION_TOKENS = 256
QWEN_TOKENS, SMOLLM2_TOKENS = 151_665, 49_152
VOCABULARY = {"0.5b": QWEN_TOKENS, "1.5b": QWEN_TOKENS, "3b": QWEN_TOKENS, "mini": SMOLLM2_TOKENS}

# The language models' parameters are those that their cards state (0.49B, 1.54B, 3.09B; 135M and 256 action tokens);
# vision encoders lack the last block, which Prismatic does not run.
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "model.md"
_NUMBERS = r"\| `(\S+)` \|.*\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|"


def documented():
    """Return preset -> parameters of vision encoders, projector, language model and all, and image tokens."""
    rows = re.findall(_NUMBERS, DOCUMENT.read_text(encoding="utf-8"))
    return {name: tuple(int(number.replace(",", "")) for number in numbers) for name, *numbers in rows}


def meta_model(name):
    with torch.device("meta"):
        return MotionVLA(PRESETS[name], VOCABULARY.get(name, 0) + ACTION_TOKENS)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_document_has_a_row_for_every_preset():
    assert list(documented()) == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_parameters_and_image_tokens_that_the_document_says(name):
    model = meta_model(name)
    parts = (count(model.vision_encoders), count(model.projector), count(model.language))
    assert documented()[name] == (*parts, sum(parts), model.config.image_tokens)
    assert sum(parts) == count(model)


@pytest.mark.parametrize("name", ["0.5b", "1.5b", "3b"])
def test_action_tokens_fit_the_padded_embedding_of_qwen(name):
    assert meta_model(name).embed_tokens(torch.zeros(1, dtype=torch.long, device="meta")).shape[-1] > 0
    assert meta_model(name).language.get_input_embeddings().num_embeddings == 151_936 >= QWEN_TOKENS + ACTION_TOKENS


def test_the_next_size_of_qwen_is_one_line_away():
    """Four key-value heads and two tables of more rows; the card says 7.61B."""
    others = {"num_key_value_heads": 4, "tie_word_embeddings": False, "vocab_size": 152_064}
    config = _paper("7b", _qwen("Qwen/Qwen2.5-7B", 3584, 28, 28, 18944, **others))
    with torch.device("meta"):
        model = MotionVLA(config, QWEN_TOKENS + ACTION_TOKENS)
    assert count(model.language) == 7_615_616_512
    table, head = model.language.get_input_embeddings().weight, model.language.get_output_embeddings().weight
    assert table is not head


def test_an_embedding_without_room_grows_by_the_action_tokens():
    assert meta_model("mini").language.get_input_embeddings().num_embeddings == SMOLLM2_TOKENS + ACTION_TOKENS


def test_what_a_divided_model_gathers_at_a_time_is_a_block_of_the_papers_model():
    modules = list(meta_model("0.5b").modules())
    blocks = {type(module.layers[0]) for module in modules if hasattr(module, "layers")}
    blocks |= {type(module.layer[0]) for module in modules if hasattr(module, "layer")}
    assert {type(module) for module in modules if isinstance(module, GradientCheckpointingLayer)} == blocks


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ModelError, match=r"'7b'. Known: 0.5b, 1.5b, 3b, mini, tiny, nano"):
        preset("7b")

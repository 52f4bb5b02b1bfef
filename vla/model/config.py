"""The model as data: what a checkpoint's `config.json` holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any, Literal, TypeVar, get_args

from vla.errors import CheckpointError, ModelError, listed
from vla.model.field_rules import (
    NAME,
    SWITCH,
    TEXT,
    Rule,
    check_fields,
    check_settings,
    numbers,
    one_of,
    optional,
    texts,
    whole,
)
from vla.model.former import renamed
from vla.statistics import DIMENSIONS

ImagePosition = Literal["after_first_token", "before_question", "after_question"]
ActionHead = Literal["autoregressive", "parallel", "l1"]
ActionTokens = Literal["centres", "openvla_extra", "openvla"]
EncoderKind = Literal["siglip", "dinov2", "dinov2_with_registers"]

SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

# Far above every published model of this kind: what lies beyond is damage, and would be built until memory ends.
_WIDTH, _LAYERS, _PIXELS, _TOKENS = whole(1, 65_536), whole(1, 1_000), whole(1, 16_384), whole(1, 1 << 24)

_ENCODER_RULES: Mapping[str, Rule] = {
    "name": NAME,
    "kind": one_of(*get_args(EncoderKind)),
    "source": TEXT,
    "width": _WIDTH,
    "layers": _LAYERS,
    "heads": _WIDTH,
    "mlp": _WIDTH,
    "mean": numbers(3),
    "std": numbers(3, positive=True),
    "patch": _PIXELS,
    "registers": whole(0, 1_000),
    "activation": TEXT,
    "feature_layer": whole(-1_000, -1),
    "frozen": SWITCH,
}
_LANGUAGE_RULES: Mapping[str, Rule] = {
    "source": TEXT,
    "tokenizer": TEXT,
    "model": Rule("an object of settings", lambda value: isinstance(value, Mapping)),
}
_LANGUAGE_MODEL_RULES: Mapping[str, Rule] = {
    "model_type": TEXT,
    "vocab_size": _TOKENS,
    "max_position_embeddings": _TOKENS,
}
_MODEL_RULES: Mapping[str, Rule] = {
    "name": TEXT,
    "image_size": _PIXELS,
    "cameras": texts(),
    "pool": _WIDTH,
    "projector_width": optional(_WIDTH),
    "proprio_dim": whole(0, 65_536),
    "action_horizon": whole(1, 10_000),
    "system": TEXT,
    "image_position": one_of(*get_args(ImagePosition)),
    "motion": SWITCH,
    "action_head": one_of(*get_args(ActionHead)),
    "action_tokenizer": one_of(*get_args(ActionTokens)),
    "image_crop": Rule("a number above 0 and up to 1", lambda value: type(value) in (int, float) and 0 < value <= 1),
}


@dataclass(frozen=True)
class VisionEncoderConfig:
    """One vision transformer whose patch features the language model sees.

    Attributes:
        name: its name inside the model; state-dict keys begin with `vision_encoders.<name>.`.
        kind: class of `transformers` that it is.
        source: where its pretrained weights are: a hub id, a folder, `package:<distribution>`, or "" for random
            weights.
        width: channels of a patch feature.
        layers: blocks of the published network.
        heads: attention heads.
        mlp: hidden width of a block's MLP.
        mean: RGB mean that images in [0, 1] are shifted by.
        std: RGB deviation that they are divided by.
        patch: side of a patch, pixels.
        registers: register tokens (DINOv2 with registers).
        activation: of the MLP. Prismatic runs SigLIP through timm, with the exact GELU.
        feature_layer: which hidden state is read, counted from the end; the blocks after it are neither built nor run.
            Prismatic reads the last block but one, without the final norm, so the last block's weights never matter.
        frozen: whether it stays as published. A frozen one is not stored in checkpoints but named by source and hash.
    """

    name: str
    kind: EncoderKind
    source: str
    width: int
    layers: int
    heads: int
    mlp: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch: int = 14
    registers: int = 0
    activation: str = "gelu"
    feature_layer: int = -2
    frozen: bool = False

    def __post_init__(self) -> None:
        """Refuse fields that no vision encoder can have."""
        check_fields(vars(self), _ENCODER_RULES)
        if self.width % self.heads:
            raise ModelError(f"width is {self.width}; a multiple of the {self.heads} heads is expected.")
        if self.layers_run < 1:
            raise ModelError(f"feature_layer is {self.feature_layer}; at least {-self.layers} is expected.")

    @property
    def layers_run(self) -> int:
        """Blocks that are built and run."""
        return self.layers + 1 + self.feature_layer


@dataclass(frozen=True)
class LanguageConfig:
    """The language model, any causal one of `transformers`.

    Attributes:
        source: hub id, folder, `package:<distribution>`, or "" for random weights.
        tokenizer: the same for its tokenizer; `small:<size>` trains one of that size on the instructions.
        model: keyword arguments of its `transformers` configuration, `model_type` among them.
    """

    source: str
    tokenizer: str
    model: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built; `transformers` judges the other settings."""
        check_fields(vars(self), _LANGUAGE_RULES)
        missing = _LANGUAGE_MODEL_RULES.keys() - self.model.keys()
        if missing:
            raise ModelError(f"model lacks {listed(missing)}.")
        check_fields(self.model, _LANGUAGE_MODEL_RULES)
        check_settings(self.model)

    @property
    def context(self) -> int:
        """Longest sequence in tokens."""
        return int(self.model["max_position_embeddings"])


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides what the network computes from an observation, but for weights and statistics.

    Attributes:
        name: of the preset it came from.
        vision_encoders: their patch features are concatenated by channel; grids must agree.
        language: the language model.
        image_size: side that images are resized to, pixels (`vla.data.frames.resize`).
        cameras: what the views show, in the order in which their tokens stand; datasets and suites name their own
            cameras. The paper uses one third-person view.
        pool: patches merged per side before projection, channels stacked (1 = none, as the paper).
        projector_width: hidden width of the projector; None is four times the feature width, as Prismatic's fused one.
        proprio_dim: numbers of proprioceptive state that become one more token; 0 = none, as the paper.
        action_horizon: actions predicted at once; 1 in the paper.
        system: system text of the prompt.
        image_position: where the observation stands: behind the first token of all, as Prismatic trains its models
            (`PrismaticVLM.forward`, for every architecture), or in the user's turn. The paper does not say.
        motion: whether the model says a motion sentence before it acts (False: table 2 without the motion turn).
        action_head: how actions are predicted: one token after another, as in the paper; or all in one pass
            (`vla.model.action_head`), as tokens ("parallel") or as numbers learnt with an L1 loss ("l1").
        action_tokenizer: what action tokens mean: "centres", 256 bins counted up (`vla.actions.ActionTokenizer`); or
            openvla-mini's 255 bins counted down (`vla.actions.OpenVLAActionTokenizer`), from the end of the added
            tokens ("openvla_extra") or of the words ("openvla").
        image_crop: share of the area of an image that the model sees: random crops in training, the middle when it
            acts; 1 for the whole image, as in the paper.
    """

    name: str
    vision_encoders: tuple[VisionEncoderConfig, ...]
    language: LanguageConfig
    image_size: int = 224
    cameras: tuple[str, ...] = ("third_person",)
    pool: int = 1
    projector_width: int | None = None
    proprio_dim: int = 0
    action_horizon: int = 1
    system: str = SYSTEM
    image_position: ImagePosition = "before_question"
    motion: bool = True
    action_head: ActionHead = "autoregressive"
    action_tokenizer: ActionTokens = "centres"
    image_crop: float = 1.0

    def __post_init__(self) -> None:
        """Refuse fields that no model can have, and vision encoders whose grids cannot be laid on each other."""
        check_fields(vars(self), _MODEL_RULES)
        for encoder in self.vision_encoders:
            if self.image_size % (encoder.patch * self.pool):
                raise ModelError(
                    f"Vision encoder {encoder.name!r}: an image of {self.image_size} px does not divide into patches "
                    f"of {encoder.patch} px merged {self.pool} by {self.pool}."
                )
        if not self.vision_encoders or len({encoder.patch for encoder in self.vision_encoders}) != 1:
            raise ModelError(
                "At least one vision encoder is needed, and all vision encoders must have the same patch size."
            )
        names = [encoder.name for encoder in self.vision_encoders]
        if len(set(names)) < len(names):
            raise ModelError(f"Vision encoders are named {', '.join(names)}; every name may stand once.")
        if self.observation_tokens + self.action_horizon > self.language.context:
            raise ModelError(
                f"An observation of {self.observation_tokens} tokens and {self.action_horizon} actions "
                f"(action_horizon) exceed the language model's context of {self.language.context} tokens."
            )

    @property
    def image_tokens(self) -> int:
        """Tokens that the images of one observation become."""
        side = self.image_size // self.vision_encoders[0].patch // self.pool
        return side * side * len(self.cameras)

    @property
    def observation_tokens(self) -> int:
        """Image tokens, and one for the state where there is one."""
        return self.image_tokens + bool(self.proprio_dim)

    @property
    def action_positions(self) -> int:
        """Positions of a sequence at which actions are predicted: one a token, or one an action of an L1 head."""
        return self.action_horizon * (1 if self.action_head == "l1" else len(DIMENSIONS))

    @property
    def feature_width(self) -> int:
        """Channels that enter the projector."""
        return sum(encoder.width for encoder in self.vision_encoders) * self.pool**2

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> ModelConfig:
        """Build a configuration from `to_json` data.

        Args:
            data: parsed JSON.
            where: file that error messages name.

        Raises:
            CheckpointError: fields are missing, unknown or of another type or size; the message names file and field.
        """
        data = renamed(data)
        encoders = [renamed(one) for one in _objects(data, "vision_encoders", where)]
        language = data.get("language")
        if not isinstance(language, Mapping):
            raise CheckpointError(f"{where}: model.language is {type(language).__name__}; an object is expected.")
        read = {
            "vision_encoders": tuple(
                _made(VisionEncoderConfig, one, f"{where}: model.vision_encoders[{i}]")
                for i, one in enumerate(encoders)
            ),
            "language": _made(LanguageConfig, language, f"{where}: model.language"),
        }
        return _made(cls, {**data, **read}, f"{where}: model")


_ADDED_LATER: frozenset[str] = frozenset({"action_head", "action_tokenizer", "image_crop"})
"""Fields that older files of the same format lack; there their default is what the model was built with."""

Config = TypeVar("Config", VisionEncoderConfig, LanguageConfig, ModelConfig)


def _objects(data: Mapping[str, Any], name: str, where: str) -> Sequence[Mapping[str, Any]]:
    found = data.get(name)
    if not isinstance(found, list | tuple) or not all(isinstance(one, Mapping) for one in found):
        raise CheckpointError(f"{where}: model.{name} is no list of objects.")
    return found


def _made(kind: Callable[..., Config], data: Mapping[str, Any], where: str) -> Config:
    """Make a configuration of JSON data, lists as tuples; every field must be there."""
    known = signature(kind).parameters.keys()
    missing, unknown = known - _ADDED_LATER - data.keys(), data.keys() - known
    if missing or unknown:
        lines = [f"no {listed(missing)}"] if missing else []
        lines += [f"the unknown {listed(map(str, unknown))}"] if unknown else []
        raise CheckpointError(f"{where} has {' and '.join(lines)}: it is not what this version of vla-train writes.")
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})
    except ModelError as error:
        raise CheckpointError(f"{where}: {error} Restore the file that vla-train wrote.") from error

"""The model as data: what a checkpoint's `config.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vla.errors import CheckpointError, ModelError

ImagePosition = Literal["before_question", "after_question"]

SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


@dataclass(frozen=True)
class TowerConfig:
    """One vision transformer whose patch features the language model sees.

    Attributes:
        name: its name inside the model; state-dict keys begin with `towers.<name>.`.
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
        skipped_layers: blocks at the end that are neither built nor run. Prismatic reads the last block but one,
            without the final norm, so the last block's weights never matter.
        frozen: whether it stays as published. A frozen tower is not stored in checkpoints but named by source and hash.
    """

    name: str
    kind: Literal["siglip", "dinov2", "dinov2_with_registers"]
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
    skipped_layers: int = 1
    frozen: bool = False


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

    @property
    def context(self) -> int:
        """Longest sequence in tokens."""
        return int(self.model["max_position_embeddings"])


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides what the network computes from an observation, but for weights and statistics.

    Attributes:
        name: of the preset it came from.
        towers: their patch features are concatenated by channel; grids must agree.
        language: the language model.
        image_size: side that images are resized to, pixels (`vla.data.frames.resize`).
        cameras: what the views show, in the order in which their tokens stand; datasets and suites name their own
            cameras. The paper uses one third-person view.
        pool: patches merged per side before projection, channels stacked (1 = none, as the paper).
        projector_width: hidden width of the projector; None is four times the feature width, as Prismatic's fused one.
        state_size: numbers of proprioceptive state that become one more token; 0 = none, as the paper.
        chunk: actions predicted at once; 1 in the paper.
        system: system text of the prompt.
        image_position: where the image stands in the user's turn. The paper does not say; Prismatic puts it first.
        motion: whether the model says a motion sentence before it acts (False: table 2 without the motion turn).
    """

    name: str
    towers: tuple[TowerConfig, ...]
    language: LanguageConfig
    image_size: int = 224
    cameras: tuple[str, ...] = ("third_person",)
    pool: int = 1
    projector_width: int | None = None
    state_size: int = 0
    chunk: int = 1
    system: str = SYSTEM
    image_position: ImagePosition = "before_question"
    motion: bool = True

    def __post_init__(self) -> None:
        """Refuse towers whose grids cannot be laid on each other."""
        for tower in self.towers:
            if self.image_size % (tower.patch * self.pool):
                raise ModelError(
                    f"Tower {tower.name!r}: an image of {self.image_size} px does not divide into patches of "
                    f"{tower.patch} px merged {self.pool} by {self.pool}."
                )
        if not self.towers or len({tower.patch for tower in self.towers}) != 1:
            raise ModelError("At least one tower is needed, and all towers must have the same patch size.")

    @property
    def image_tokens(self) -> int:
        """Tokens that the images of one observation become."""
        side = self.image_size // self.towers[0].patch // self.pool
        return side * side * len(self.cameras)

    @property
    def observation_tokens(self) -> int:
        """Image tokens, and one for the state where there is one."""
        return self.image_tokens + bool(self.state_size)

    @property
    def feature_width(self) -> int:
        """Channels that enter the projector."""
        return sum(tower.width for tower in self.towers) * self.pool**2

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
            CheckpointError: fields are missing, unknown or of another type.
        """
        try:
            fields = dict(data)
            fields["towers"] = tuple(_tower(tower) for tower in fields["towers"])
            fields["language"] = LanguageConfig(**fields["language"])
            fields["cameras"] = tuple(fields["cameras"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{where} is no configuration of this model: {error}.") from error


def _tower(data: Mapping[str, Any]) -> TowerConfig:
    return TowerConfig(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})

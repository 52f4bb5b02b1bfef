"""The network: vision encoders, projector, language model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    PretrainedConfig,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from vla.errors import ActionDataError, ImageError, ModelError, listed
from vla.model.action_head import one_pass_head
from vla.model.config import LanguageConfig, ModelConfig, VisionEncoderConfig
from vla.model.crop import centre_cropped
from vla.model.losses import Objective
from vla.model.prompt import ACTION, MOTION, TEXT


@dataclass(frozen=True)
class Batch:
    """Sequences to learn from, padded on the right.

    Attributes:
        token_ids: `[B, T]` int64; anything at observation and padding positions.
        kinds: `[B, T]` int8; `MOTION`, `ACTION` or `TEXT` (`vla.model.prompt`) at tokens to be predicted, 0 elsewhere.
        observation: `[B, T]` bool; where the observation's embeddings stand, `config.observation_tokens` a row.
        lengths: `[B]` int64; tokens of each row.
        images: `[I, C, H, W, 3]` uint8 for the I rows that have an observation, in order; None where `features` are
            given.
        features: `[I, N, D]` what `MotionVLA.features` makes of the images, or None.
        state: `[B, S]` float32, normalised (`vla.actions.normalize_state`), or None for a model that reads no state.
        actions: `[B, action_horizon, 7]` float32, normalised (`vla.actions.normalize_affine`); None where no action is
            to be learnt.
        cropped: whether the images are crops already, and not whole images that the model is to crop.
        dropout: `[B, T, L]` factors of the input embeddings, or None.
    """

    token_ids: Tensor
    kinds: Tensor
    observation: Tensor
    lengths: Tensor
    images: Tensor | None = None
    features: Tensor | None = None
    state: Tensor | None = None
    actions: Tensor | None = None
    cropped: bool = False
    dropout: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor to a device; pinned ones while the device computes."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Copy every tensor to page-locked memory; torch's data loader calls this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **changed)


class LossSums(NamedTuple):
    """Sums over the positions of a batch that carry loss; their quotients can be formed over several batches.

    Attributes:
        loss: summed cross-entropy in nats, with gradient; of an L1 head's actions, the sum of their 7 absolute errors.
        tokens: `[3]` positions of motion, of action and of other text: tokens, or whole actions of an L1 head.
        correct: `[3]` of these, those that the model ranks first; of an action of an L1 head, the share of its 7 values
            that lie within `L1_TOLERANCE`.
        row_loss: `[B]` summed loss of every row, without gradient.
        objective: what is minimised instead, with gradient, where the model has an objective; else None.
    """

    loss: Tensor
    tokens: Tensor
    correct: Tensor
    row_loss: Tensor
    objective: Tensor | None = None

    @property
    def optimised(self) -> Tensor:
        """What is minimised, summed over tokens."""
        return self.loss if self.objective is None else self.objective

    def plus(self, other: LossSums) -> LossSums:
        """Return the sums over the positions of both; both have an objective, or none has."""
        objective = None
        if self.objective is not None and other.objective is not None:
            objective = self.objective + other.objective
        loss, tokens, correct, row_loss = (one + more for one, more in zip(self[:4], other[:4], strict=True))
        return LossSums(loss, tokens, correct, row_loss, objective)


L1_TOLERANCE = 0.05
"""Error of a normalised value, of a range of 2, up to which the accuracy of an L1 head counts it as right."""


class VisionEncoder(nn.Module):  # type: ignore[misc] # PyTorch is not type-checked here
    """A vision transformer as a map from images to patch features, read before its last block and final norm.

    Attributes:
        prefix_tokens: tokens in front of the patches, which are left out.
        published_hash: hash of the published tensors that it holds (`vla.weights.load`), "" before they came.
    """

    def __init__(self, config: VisionEncoderConfig, image_size: int) -> None:
        super().__init__()
        self.prefix_tokens = 0 if config.kind == "siglip" else 1 + config.registers
        self.published_hash = ""
        self.network = _encoder_network(config, image_size)
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map `[B, 3, H, W]` RGB in [0, 1] to `[B, N, D]` features, patches in reading order."""
        dtype = self.network.dtype
        pixels = ((images - self.mean) / self.std).to(dtype)
        features: Tensor = self.network(pixel_values=pixels).last_hidden_state
        return features[:, self.prefix_tokens :]


class Projector(nn.Sequential):  # type: ignore[misc]
    """Prismatic's fused projector: three linear maps with GELUs between them, keys `0`, `2` and `4`."""

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__(
            nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, width), nn.GELU(), nn.Linear(width, width)
        )


class MotionVLA(nn.Module):  # type: ignore[misc]
    """A vision-language-action model that says its motion before it acts.

    Weights are random until they are loaded (`vla.weights.load`, `vla.model.checkpoint`).

    Args:
        config: what to build.
        vocabulary: tokens of the tokenizer, action tokens included. The embedding table grows if they do not fit it.

    Attributes:
        objective: what training minimises; None for the cross-entropy.
    """

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.objective: Objective | None = None
        self.vision_encoders = nn.ModuleDict(
            {encoder.name: VisionEncoder(encoder, config.image_size) for encoder in config.vision_encoders}
        )
        self.language = language_network(config.language, vocabulary)
        width = self.language.config.hidden_size
        self.projector = Projector(config.feature_width, config.projector_width or 4 * config.feature_width, width)
        self.proprio_projector = nn.Linear(config.proprio_dim, width) if config.proprio_dim else None
        self.action_head = one_pass_head(config, width)
        for encoder in config.vision_encoders:
            if encoder.frozen:
                self.vision_encoders[encoder.name].requires_grad_(False)

    @property
    def decoder(self) -> PreTrainedModel:
        """The language model without its output layer."""
        decoder: PreTrainedModel = self.language.get_decoder()
        return decoder

    def embed_tokens(self, token_ids: Tensor) -> Tensor:
        """Embed `[..., T]` token ids as `[..., T, D]`."""
        embedded: Tensor = self.language.get_input_embeddings()(token_ids)
        return embedded

    def logits(self, hidden: Tensor) -> Tensor:
        """Map `[..., D]` hidden states to `[..., V]` logits."""
        scores: Tensor = self.language.get_output_embeddings()(hidden)
        return scores

    def features(self, images: Tensor, cropped: bool = False) -> Tensor:
        """Run the vision encoders.

        Args:
            images: `[B, C, H, W, 3]` uint8 RGB, `C` cameras in the order of the configuration.
            cropped: whether they are crops already; of others a model that learnt from crops sees the middle.

        Returns:
            `[B, N, D]` patch features of all cameras, concatenated over encoders by channel, merged `pool` by `pool`.

        Raises:
            ImageError: wrong dtype or shape.
        """
        self._check_images(images)
        pixels = images.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        if not cropped:
            pixels = centre_cropped(pixels, self.config.image_crop)
        patches = torch.cat(
            [self.vision_encoders[encoder.name](pixels) for encoder in self.config.vision_encoders], dim=-1
        )
        merged = _merge_patches(patches, self.config.pool)
        return merged.reshape(images.shape[0], -1, merged.shape[-1])

    def observation(self, features: Tensor, state: Tensor | None = None) -> Tensor:
        """Project `[B, N, D]` features, and `[B, S]` state if the model reads it, to `[B, observation_tokens, L]`."""
        embedded: Tensor = self.projector(features.to(self.projector[0].weight.dtype))
        if self.proprio_projector is None:
            return embedded
        if state is None:
            raise ImageError("This model reads proprioceptive state, and none was given.")
        extra = self.proprio_projector(state.to(embedded.dtype))
        return torch.cat([embedded, extra[:, None]], dim=1)

    def forward(self, batch: Batch) -> LossSums:
        """Compute the losses of a batch: of its next tokens, and of an L1 head's actions."""
        hidden = self.hidden(batch)[:, :-1]
        losses = self._loss(hidden, batch)
        if self.action_head is None or self.action_head.values is None:
            return losses
        return losses.plus(self._regression(hidden, batch, self.action_head.values))

    def hidden(self, batch: Batch) -> Tensor:
        """Compute last hidden states, after the final norm: `[B, T, L]`, anything at padding."""
        features = batch.features
        if features is None:
            features = self.features(_required_images(batch), batch.cropped)
        embedded = self.embed_tokens(batch.token_ids)
        observed = self.observation(features, batch.state).to(embedded.dtype)
        embedded = embedded.masked_scatter(batch.observation[..., None], observed)
        if self.action_head is not None:
            embedded = self.action_head.placed(embedded, batch.kinds == ACTION)
        if batch.dropout is not None:
            embedded = embedded * batch.dropout.to(embedded.dtype)
        # No mask: padding stands on the right, where no token looks. With a mask, GPUs could not use FlashAttention.
        hidden: Tensor = self.decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
        return hidden

    def _loss(self, hidden: Tensor, batch: Batch) -> LossSums:
        """Score only the positions that predict a token with loss: the vocabulary is the widest layer by far."""
        kinds, targets = batch.kinds[:, 1:], batch.token_ids[:, 1:]
        chosen = (kinds > 0) & (kinds != ACTION) if self.config.action_head == "l1" else kinds > 0
        scores = self.logits(hidden[chosen]).float()
        wanted = targets[chosen]
        losses = cross_entropy(scores, wanted, reduction="none")
        right = scores.argmax(dim=-1) == wanted
        objective = None
        if self.objective is not None:
            dimension = self.objective.dimensions_of(targets, kinds)[chosen]
            objective = self.objective.loss(scores, wanted, losses, kinds[chosen], dimension)
        by_kind = [kinds[chosen] == kind for kind in (MOTION, ACTION, TEXT)]
        rows = torch.zeros(len(kinds), device=losses.device, dtype=losses.dtype)
        return LossSums(
            losses.sum(),
            torch.stack([part.sum() for part in by_kind]),
            torch.stack([(right & part).sum() for part in by_kind]),
            rows.index_add(0, chosen.nonzero()[:, 0], losses.detach()),
            objective,
        )

    def _regression(self, hidden: Tensor, batch: Batch, values: nn.Module) -> LossSums:
        """Score the values that an L1 head reads at the positions of actions."""
        chosen = batch.kinds[:, 1:] == ACTION
        predicted = values(hidden[chosen]).float()
        wanted = _required_actions(batch).flatten(0, 1) if len(predicted) else predicted.detach()
        errors = (predicted - wanted).abs()
        near = (errors.detach() <= L1_TOLERANCE).float().mean(dim=1).sum()
        none = torch.zeros_like(near)
        rows = torch.zeros(len(chosen), device=errors.device)
        return LossSums(
            errors.sum(),
            torch.stack([none, chosen.sum(), none]),
            torch.stack([none, near, none]),
            rows.index_add(0, chosen.nonzero()[:, 0], errors.detach().sum(dim=1)),
            None if self.objective is None else self.objective.regression(errors),
        )

    def _check_images(self, images: Tensor) -> None:
        size, cameras = self.config.image_size, len(self.config.cameras)
        expected = (cameras, size, size, 3)
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != expected:
            raise ImageError(
                f"Images are {str(images.dtype).removeprefix('torch.')} {list(images.shape)}; expected uint8 "
                f"[B, {cameras}, {size}, {size}, 3]: RGB of the cameras {list(self.config.cameras)} at {size} px."
            )


def language_network(config: LanguageConfig, vocabulary: int) -> PreTrainedModel:
    """Build the language model with random weights and room for `vocabulary` tokens.

    Raises:
        ModelError: a setting that this kind of model does not have.
    """
    arguments = dict(config.model)
    arguments["vocab_size"] = max(arguments["vocab_size"], vocabulary)
    hf_config = AutoConfig.for_model(arguments.pop("model_type"), **arguments)
    unknown = arguments.keys() - type(hf_config)().to_dict().keys() - hf_config.attribute_map.keys()
    if unknown:
        raise ModelError(f"A language model of type {config.model['model_type']!r} has no setting {listed(unknown)}.")
    return AutoModelForCausalLM.from_config(hf_config, attn_implementation="sdpa")


def vision_encoder_hf_config(config: VisionEncoderConfig, image_size: int) -> PretrainedConfig:
    """Return the `transformers` configuration of a vision encoder, without the blocks that are not run."""
    common = {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers_run,
        "num_attention_heads": config.heads,
        "image_size": image_size,
        "patch_size": config.patch,
        "hidden_act": config.activation,
        "layer_norm_eps": 1e-6,
    }
    if config.kind == "siglip":
        return SiglipVisionConfig(**common, intermediate_size=config.mlp, vision_use_head=False)
    common["mlp_ratio"] = config.mlp // config.width
    if config.kind == "dinov2":
        return Dinov2Config(**common)
    return Dinov2WithRegistersConfig(**common, num_register_tokens=config.registers)


def _encoder_network(config: VisionEncoderConfig, image_size: int) -> PreTrainedModel:
    hf_config = vision_encoder_hf_config(config, image_size)
    if config.kind == "siglip":
        network = SiglipVisionModel(hf_config)
        network.post_layernorm = nn.Identity()
        return network
    network = Dinov2Model(hf_config) if config.kind == "dinov2" else Dinov2WithRegistersModel(hf_config)
    network.layernorm = nn.Identity()
    # Only masked-image pretraining uses it.
    network.embeddings.mask_token = None
    return network


def _merge_patches(patches: Tensor, pool: int) -> Tensor:
    """Stack the channels of `pool` by `pool` neighbours: `[B, N, D]` to `[B, N / pool^2, D * pool^2]`."""
    if pool == 1:
        return patches
    batch, count, width = patches.shape
    side = int(count**0.5)
    grid = patches.view(batch, side // pool, pool, side // pool, pool, width)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, pool * pool * width)


def _required_actions(batch: Batch) -> Tensor:
    if batch.actions is None:
        raise ActionDataError("A batch that teaches actions to an L1 head holds no actions (Batch.actions).")
    return batch.actions


def _required_images(batch: Batch) -> Tensor:
    if batch.images is None:
        raise ImageError("A batch holds neither images nor features.")
    return batch.images

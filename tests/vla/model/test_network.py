"""The network: losses at the marked tokens, rows that do not see each other, inputs that are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vla.nano_models import nano, random_images
from vla.errors import CheckpointError, ImageError, ModelError
from vla.model.config import ModelConfig
from vla.model.network import VisionEncoder
from vla.model.presets import preset
from vla.model.prompt import ACTION, MOTION
from vla.train.collate import padded


def sequences(prompts):
    actions = list(range(prompts.actions.first_token_id, prompts.actions.first_token_id + 7))
    return [
        prompts.sequence("pick up the bowl", "move forward left", actions),
        prompts.sequence("open the very large drawer", "stop", actions),
    ]


def test_losses_are_those_of_the_full_logits_at_the_marked_tokens():
    model, prompts = nano()
    batch = padded(sequences(prompts), images=random_images(model, 2))
    sums = model(batch)
    expected = []
    for row in range(2):
        length = int(batch.lengths[row])
        embedded = model.embed_tokens(batch.token_ids[row : row + 1, :length]).clone()
        seen = model.observation(model.features(batch.images[row : row + 1]))
        embedded[0, batch.observation[row, :length]] = seen[0]
        logits = model.language(inputs_embeds=embedded).logits[0]
        log_probabilities = logits.log_softmax(-1)
        expected.append(
            sum(
                -log_probabilities[t - 1, batch.token_ids[row, t]] for t in range(1, length) if batch.kinds[row, t] > 0
            ).item()
        )
    np.testing.assert_allclose(sums.row_loss.numpy(), expected, rtol=1e-5)
    assert sums.loss.item() == pytest.approx(sum(expected), rel=1e-5)


def test_token_counts_are_kept_apart_by_kind():
    model, prompts = nano()
    batch = padded(sequences(prompts), images=random_images(model, 2))
    sums = model(batch)
    kinds = batch.kinds.numpy()
    assert sums.tokens.tolist() == [(kinds == MOTION).sum(), (kinds == ACTION).sum(), 0]
    assert sums.tokens[1] == 2 * 8


def test_padding_and_neighbours_do_not_change_a_row():
    model, prompts = nano()
    both = sequences(prompts)
    images = random_images(model, 2)
    together = model(padded(both, images=images)).row_loss
    alone = [model(padded([both[i]], images=images[i : i + 1])).row_loss[0] for i in range(2)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-5, atol=1e-5)


def test_gradients_reach_vision_encoders_projector_and_language_model():
    model, prompts = nano()
    model.train()
    model(padded(sequences(prompts), images=random_images(model, 2))).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_frozen_vision_encoder_asks_for_no_gradient():
    vision_encoders = (replace(preset("nano").vision_encoders[0], frozen=True),)
    model, _ = nano(vision_encoders=vision_encoders)
    assert not any(parameter.requires_grad for parameter in model.vision_encoders.parameters())


def test_features_given_equal_features_computed():
    model, prompts = nano()
    images = random_images(model, 2)
    direct = model(padded(sequences(prompts), images=images)).loss
    given = model(padded(sequences(prompts), features=model.features(images))).loss
    torch.testing.assert_close(given, direct)


def test_merged_patches_keep_every_channel_of_every_neighbour():
    plain, _ = nano()
    merged, _ = nano(pool=2)
    merged.vision_encoders.load_state_dict(plain.vision_encoders.state_dict())
    images = random_images(plain, 1)
    fine, coarse = plain.features(images)[0].view(4, 4, 32), merged.features(images)[0].view(2, 2, 2, 2, 32)
    for row in range(4):
        for column in range(4):
            torch.testing.assert_close(coarse[row // 2, column // 2, row % 2, column % 2], fine[row, column])


def test_views_and_state_add_tokens():
    model, _ = nano(cameras=("third_person", "wrist"), proprio_dim=8)
    observed = model.observation(model.features(random_images(model, 3)), torch.zeros(3, 8))
    assert observed.shape[:2] == (3, 16 + 16 + 1)
    assert observed.shape[1] == model.config.observation_tokens


def test_vision_encoders_read_the_last_block_but_one():
    config = preset("nano").vision_encoders[0]
    assert len(VisionEncoder(config, 56).network.encoder.layer) == config.layers - 1


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 1, 56, 56, 3),
        torch.zeros(1, 1, 64, 56, 3, dtype=torch.uint8),
        torch.zeros(1, 2, 56, 56, 3, dtype=torch.uint8),
        torch.zeros(1, 1, 3, 56, 56, dtype=torch.uint8),
    ],
)
def test_images_of_another_shape_or_dtype_are_refused(images):
    model, _ = nano()
    with pytest.raises(ImageError, match=r"expected uint8 \[B, 1, 56, 56, 3\]"):
        model.features(images)


def test_a_model_that_reads_state_says_that_it_is_missing():
    model, _ = nano(proprio_dim=8)
    with pytest.raises(ImageError, match="state"):
        model.observation(model.features(random_images(model, 1)))


def test_patches_must_tile_the_image():
    with pytest.raises(ModelError, match="56 px does not divide"):
        nano(pool=3)


def test_a_configuration_survives_json():
    config = preset("0.5b")
    assert ModelConfig.from_json(config.to_json(), "config.json") == config


def test_an_unknown_field_of_a_configuration_is_named():
    data = {**preset("nano").to_json(), "colour": "red"}
    with pytest.raises(CheckpointError, match=r"config.json.*colour"):
        ModelConfig.from_json(data, "config.json")

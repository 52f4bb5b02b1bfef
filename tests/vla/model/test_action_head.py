"""Heads that predict all actions in one pass: what they learn, what is counted, and how they are stored."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.vla.nano_models import INSTRUCTIONS, nano, nano_decoder, random_images
from vla.errors import ActionDataError
from vla.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vla.model.network import L1_TOLERANCE
from vla.model.predictions import predict_actions
from vla.model.prompt import ACTION, MOTION
from vla.train.collate import padded
from vla.train.config import ModelOptions
from vla.train.initialize import initial_checkpoint

HEADS = ("autoregressive", "parallel", "l1")
ONE_PASS = HEADS[1:]
HORIZON = 4


def normalized(rows, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (rows, HORIZON, 7))


def batch_of(model, prompts, rows=2, motion="move up", seed=0):
    values = normalized(rows, seed)
    said = [motion] * rows if isinstance(motion, str) else motion
    sequences = [
        prompts.sequence(text, one, prompts.action_ids(value))
        for text, one, value in zip(INSTRUCTIONS[:rows], said, values, strict=True)
    ]
    actions = torch.from_numpy(values.astype(np.float32))
    return padded(sequences, images=random_images(model, rows, seed), actions=actions)


def learnt(head):
    """A model that knows two demonstrations by heart."""
    model, prompts = nano(action_head=head, action_horizon=HORIZON)
    batch = batch_of(model, prompts)
    model.vision_encoders.requires_grad_(False)
    given = replace(batch, images=None, features=model.features(batch.images))
    optimizer = torch.optim.AdamW([one for one in model.train().parameters() if one.requires_grad], lr=4e-3)
    for _ in range(300):
        sums = model(given)
        if sums.correct.allclose(sums.tokens.to(sums.correct)):
            break
        optimizer.zero_grad()
        (sums.loss / sums.tokens.sum()).backward()
        optimizer.step()
    return model.eval(), prompts, batch


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_what_was_learnt_by_heart_is_what_the_decoder_answers(head):
    model, prompts, batch = learnt(head)
    sums, predicted = model(batch), predict_actions(model, prompts, batch)
    assert sums.correct.tolist() == pytest.approx(sums.tokens.tolist())
    with torch.inference_mode():
        seen = model.observation(model.features(batch.images))
    answers = nano_decoder(model, prompts).decode(seen, INSTRUCTIONS[:2])
    for row, answer in enumerate(answers):
        values = answer.values or prompts.actions.decode(np.array(answer.action_ids))
        actions = np.reshape(values, (HORIZON, 7))
        np.testing.assert_allclose(actions, batch.actions[row], atol=L1_TOLERANCE)
        np.testing.assert_allclose(actions, predicted.actions[row], atol=1e-4)
        assert answer.motion == "move up"
    assert predicted.motion.exact.all()


@pytest.mark.parametrize("head", HEADS)
def test_losses_of_a_batch_are_those_of_its_rows(head):
    model, prompts = nano(action_head=head, action_horizon=HORIZON)
    both = batch_of(model, prompts, motion=["move forward left", "stop"])
    together, rows = model(both), []
    for row in range(2):
        alone = batch_of(model, prompts, motion=["move forward left", "stop"])
        length = alone.lengths[row]
        cut = {name: getattr(alone, name)[row : row + 1, :length] for name in ("token_ids", "kinds", "observation")}
        kept = {name: getattr(alone, name)[row : row + 1] for name in ("lengths", "images", "actions")}
        rows.append(model(replace(alone, **cut, **kept)))
    torch.testing.assert_close(together.row_loss, torch.cat([one.row_loss for one in rows]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.loss, rows[0].loss + rows[1].loss, rtol=1e-4, atol=1e-4)
    assert together.tokens.tolist() == (rows[0].tokens + rows[1].tokens).tolist()


@pytest.mark.parametrize("head", HEADS)
def test_every_position_with_loss_is_counted_once(head):
    model, prompts = nano(action_head=head, action_horizon=HORIZON)
    batch = batch_of(model, prompts)
    expected = {"autoregressive": 7 * HORIZON + 1, "parallel": 7 * HORIZON, "l1": HORIZON}[head]
    assert model(batch).tokens.tolist() == [int((batch.kinds == MOTION).sum()), 2 * expected, 0]
    assert int((batch.kinds == ACTION).sum()) == 2 * expected


def test_the_loss_of_an_l1_head_is_the_sum_of_absolute_errors_and_does_not_hang_on_ids():
    model, prompts = nano(action_head="l1", action_horizon=HORIZON)
    batch = batch_of(model, prompts)
    errors = (predict_actions(model, prompts, batch).actions - batch.actions).abs().sum()
    sums = model(batch)
    motion = model(replace(batch, kinds=torch.where(batch.kinds == ACTION, 0, batch.kinds)))
    assert sums.loss.item() - motion.loss.item() == pytest.approx(errors.item(), rel=1e-4)
    other = replace(batch, token_ids=torch.where(batch.kinds == ACTION, 7, batch.token_ids))
    torch.testing.assert_close(model(other).loss, sums.loss)


@pytest.mark.parametrize("head", ONE_PASS)
def test_a_query_is_told_nothing_of_the_demonstrated_actions(head):
    model, prompts = nano(action_head=head, action_horizon=HORIZON)
    one, other = (batch_of(model, prompts, seed=0), batch_of(model, prompts, seed=1))
    other = replace(other, images=one.images)
    torch.testing.assert_close(
        predict_actions(model, prompts, one).actions, predict_actions(model, prompts, other).actions
    )


@pytest.mark.parametrize("head", HEADS)
def test_likelihoods_are_those_of_the_loss(head):
    model, prompts = nano(action_head=head, action_horizon=HORIZON)
    batch = batch_of(model, prompts, motion=[None, None])
    predicted, sums = predict_actions(model, prompts, batch), model(batch)
    if head == "l1":
        assert predicted.nll is None
    elif head == "parallel":
        torch.testing.assert_close(predicted.nll.sum(dim=(1, 2)), sums.row_loss)
    else:
        assert (predicted.nll.sum(dim=(1, 2)) < sums.row_loss).all()  # which counts the stop too
    assert predicted.actions.shape == (2, HORIZON, 7)
    assert predicted.actions.abs().max() <= 1


def test_rows_without_actions_cannot_be_compared():
    model, prompts = nano(action_head="parallel", action_horizon=HORIZON)
    batch = padded([prompts.sequence("lift", "move up", None)], images=random_images(model, 1))
    with pytest.raises(ActionDataError, match=r"rows \[0\] .* 28 positions"):
        predict_actions(model, prompts, batch)


def test_an_l1_head_says_that_actions_are_missing():
    model, prompts = nano(action_head="l1", action_horizon=HORIZON)
    with pytest.raises(ActionDataError, match=r"Batch\.actions"):
        model(replace(batch_of(model, prompts), actions=None))


@pytest.mark.parametrize("head", ONE_PASS)
def test_in_pretraining_on_motion_every_weight_has_a_gradient_for_other_processes(head):
    model, prompts = nano(action_head=head, action_horizon=HORIZON)
    batch = padded([prompts.sequence("lift", "move up", None)], images=random_images(model, 1))
    model.train()(batch).loss.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_survives_its_checkpoint(tmp_path, head):
    model, prompts = nano(action_head=head, action_horizon=HORIZON)
    save_checkpoint(tmp_path / "checkpoint", Checkpoint(model, prompts, {}, "finetune"))
    loaded = load_checkpoint(tmp_path / "checkpoint")
    assert loaded.config == model.config
    batch = batch_of(model, prompts)
    torch.testing.assert_close(loaded.model(batch).row_loss, model(batch).row_loss)


def test_a_checkpoint_from_before_there_were_heads_says_one_token_after_another(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", Checkpoint(*nano(), {}, "finetune"))
    path = tmp_path / "checkpoint/config.json"
    described = json.loads(path.read_text())
    for name in ("action_head", "action_tokenizer"):
        del described["model"][name]
    path.write_text(json.dumps(described))
    config = load_checkpoint(tmp_path / "checkpoint").config
    assert (config.action_head, config.action_tokenizer) == ("autoregressive", "centres")


def test_a_model_pretrained_on_motion_gets_the_head_that_fine_tuning_asks_for(tmp_path):
    model, prompts = nano()
    save_checkpoint(tmp_path / "checkpoint", Checkpoint(model, prompts, {}, "motion"))
    options = ModelOptions(action_head="l1", action_horizon=HORIZON)
    begun = initial_checkpoint(str(tmp_path / "checkpoint"), options, ["lift"], "finetune", True, seed=0)
    assert begun.config.action_head == begun.training["model"]["action_head"] == "l1"
    assert begun.model(batch_of(begun.model, begun.prompts)).tokens[1] == 2 * HORIZON
    kept = initial_checkpoint(str(tmp_path / "checkpoint"), ModelOptions(), ["lift"], "finetune", True, seed=0)
    assert (kept.config.action_head, kept.model.action_head) == ("autoregressive", None)

"""All actions in one pass: what the plain loop without a cache says, for both heads, alone and in a batch."""

from itertools import product

import numpy as np
import pytest
import torch

from tests.vla.nano_models import INSTRUCTIONS, nano, nano_decoder, random_images
from vla.decode.grammar import grammar
from vla.decode.one_pass import ActionReader, Actions
from vla.decode.plain import plain_actions, plain_decode
from vla.errors import ModelError, NotFiniteError

HEADS = ("parallel", "l1")
CASES = [
    *({"action_head": head, "action_horizon": horizon} for head, horizon in product(HEADS, (1, 2, 3, 5, 8))),
    *({"action_head": head, "motion": False, "action_horizon": 4, "proprio_dim": 8} for head in HEADS),
    *({"action_head": head, "image_position": "after_first_token", "proprio_dim": 3} for head in HEADS),
]


def observed(model, rows, seed=0):
    state = None
    if model.config.proprio_dim:
        state = torch.randn(rows, model.config.proprio_dim, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return model.observation(model.features(random_images(model, rows, seed)), state)


def assert_same(answer, actions):
    assert answer.action_ids == actions.ids
    np.testing.assert_allclose(answer.values, actions.values, atol=1e-4)


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_batched_cached_drafted_answers_are_those_of_the_plain_loop(changes):
    model, prompts = nano(sharpness=8.0, **changes)
    decoder, spoken = nano_decoder(model, prompts), grammar(prompts, prompts.config.motion, action=True)
    instructions = INSTRUCTIONS[:3]
    seen = observed(model, len(instructions))
    first = decoder.decode(seen, instructions)
    # Right, another row's, and cut drafts.
    drafts = [first[0].tokens, first[0].tokens, first[2].tokens[:2]]
    for answers in (first, decoder.decode(seen, instructions, drafts)):
        for row, instruction in enumerate(instructions):
            alone = seen[row : row + 1]
            said = plain_decode(model, prompts, spoken, alone, instruction)
            assert answers[row].tokens == said
            assert_same(answers[row], plain_actions(model, prompts, alone, instruction, said))


@pytest.mark.parametrize("head", HEADS)
def test_all_actions_take_one_pass_after_the_motion_and_a_motion_that_holds_takes_none(head):
    model, prompts = nano(sharpness=8.0, action_head=head, action_horizon=8)
    decoder, spoken = nano_decoder(model, prompts), grammar(prompts, motion=True, action=True)
    seen = observed(model, 4)
    first = decoder.decode(seen, INSTRUCTIONS)
    for answer in first:
        states = [spoken.after(answer.tokens[:count], 0) for count in range(len(answer.tokens))]
        assert answer.passes == 1 + sum(spoken.forced(state) is None for state in states)
    again = decoder.decode(seen, INSTRUCTIONS, [answer.tokens for answer in first])
    assert [answer.passes for answer in again] == [1] * 4


@pytest.mark.parametrize("head", HEADS)
def test_without_a_motion_an_answer_takes_one_pass(head):
    model, prompts = nano(motion=False, action_head=head, action_horizon=3)
    answer = nano_decoder(model, prompts).decode(observed(model, 1), INSTRUCTIONS[:1])[0]
    assert (answer.motion, answer.passes, answer.tokens) == (None, 1, ())
    assert len(answer.action_ids or answer.values) == 21


@pytest.mark.parametrize("head", HEADS)
def test_running_every_forced_token_in_a_pass_of_its_own_changes_nothing(head):
    model, prompts = nano(sharpness=8.0, action_head=head, action_horizon=2)
    seen = observed(model, 2)
    skipping = nano_decoder(model, prompts).decode(seen, INSTRUCTIONS[:2])
    plain = nano_decoder(model, prompts, skip_forced=False).decode(seen, INSTRUCTIONS[:2])
    for ours, theirs in zip(skipping, plain, strict=True):
        assert ours.tokens == theirs.tokens
        assert_same(ours, Actions(theirs.action_ids, theirs.values))
        assert theirs.passes == len(theirs.tokens) + 1


@pytest.mark.parametrize("head", HEADS)
def test_the_first_actions_are_the_same_for_every_horizon(head):
    answers = []
    for horizon in (2, 8):
        model, prompts = nano(sharpness=8.0, action_head=head, action_horizon=horizon)
        answers.append(nano_decoder(model, prompts).decode(observed(model, 1), INSTRUCTIONS[:1])[0])
    short, long = answers
    assert short.action_ids == long.action_ids[: len(short.action_ids)]
    np.testing.assert_allclose(short.values, long.values[: len(short.values)], atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_values_that_are_not_finite_are_no_answer(head):
    model, prompts = nano(action_head=head)
    seen = observed(model, 1)
    with torch.no_grad():
        model.action_head.queries[:] = float("nan")
        if head == "l1":
            model.action_head.values[2].bias[:] = float("nan")
    with pytest.raises(NotFiniteError, match="has no answer"):
        nano_decoder(model, prompts).decode(seen, INSTRUCTIONS[:1])


def test_a_model_that_says_its_actions_one_by_one_has_no_queries():
    with pytest.raises(ModelError, match="'autoregressive'"):
        ActionReader(*nano())

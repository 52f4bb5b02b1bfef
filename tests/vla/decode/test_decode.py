"""Cached, batched, speculative decoding says what the plain loop says, and nothing outside the grammar."""

import numpy as np
import pytest
import torch

from tests.vla.nano_models import INSTRUCTIONS, nano, nano_decoder, random_images
from vla.decode.grammar import grammar
from vla.decode.plain import plain_actions, plain_decode
from vla.errors import NotFiniteError
from vla.motion.language import all_motions, describe, parse

CONFIGURATIONS = [
    {},
    {"image_position": "after_question"},
    {"image_position": "after_first_token"},
    {"motion": False, "action_horizon": 2, "cameras": ("third_person", "wrist"), "pool": 2},
]


def observed(model, rows, seed):
    with torch.inference_mode():
        return model.observation(model.features(random_images(model, rows, seed)))


def nudged(seen, seed):
    return seen + 0.02 * torch.randn(seen.shape, generator=torch.Generator().manual_seed(seed))


def choices(answers, spoken):
    """Tokens of an answer that the grammar did not force."""
    state, chosen = spoken.start, 0
    for token in answers:
        chosen += spoken.forced(state) is None
        state = spoken.edges[state][token]
    return chosen


@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=str)
def test_batched_cached_speculative_decoding_says_what_the_plain_loop_says(changes):
    model, prompts = nano(sharpness=8.0, **changes)
    decoder, spoken = nano_decoder(model, prompts), grammar(prompts, prompts.config.motion, action=True)
    drafts = None
    instructions = INSTRUCTIONS[:3]
    for step in range(2):
        seen = observed(model, len(instructions), seed=0)
        seen = nudged(seen, step) if step else seen
        answers = decoder.decode(seen, instructions, drafts)
        for row, instruction in enumerate(instructions):
            assert answers[row].tokens == plain_decode(model, prompts, spoken, seen[row : row + 1], instruction)
        drafts = [answer.tokens for answer in answers]


@pytest.mark.parametrize("head", ["autoregressive", "parallel", "l1"])
def test_a_model_that_is_made_to_say_a_sentence_acts_on_it_as_the_plain_loop_does(head):
    model, prompts = nano(sharpness=8.0, action_head=head, action_horizon=2)
    decoder, spoken = nano_decoder(model, prompts), grammar(prompts, motion=True, action=True)
    instructions = INSTRUCTIONS[:3]
    seen = observed(model, 3, seed=0)
    own = decoder.decode(seen, instructions)
    told = ["move up", None, "stop"]
    for drafts in (None, [answer.tokens for answer in own]):
        answers = decoder.decode(seen, instructions, drafts, told)
        assert [answer.motion for answer in answers] == ["move up", own[1].motion, "stop"]
        for row, (answer, instruction) in enumerate(zip(answers, instructions, strict=True)):
            alone = seen[row : row + 1]
            said = plain_decode(model, prompts, spoken, alone, instruction, told[row])
            assert answer.tokens == said
            if head != "autoregressive":
                actions = plain_actions(model, prompts, alone, instruction, said)
                assert answer.action_ids == actions.ids
                np.testing.assert_allclose(answer.values, actions.values, atol=1e-4)
    assert any(answer != decoder.decode(seen, instructions)[row] for row, answer in enumerate(answers) if told[row])


def test_an_accepted_token_saves_a_pass():
    model, prompts = nano(sharpness=8.0)
    decoder, spoken = nano_decoder(model, prompts), grammar(prompts, motion=True, action=True)
    seen = observed(model, 4, seed=0)
    alone = decoder.decode(seen, INSTRUCTIONS)
    again = decoder.decode(nudged(seen, 1), INSTRUCTIONS, [answer.tokens for answer in alone])
    assert all(answer.passes == choices(answer.tokens, spoken) for answer in alone)
    assert all(answer.passes + answer.accepted == choices(answer.tokens, spoken) for answer in again)
    assert any(answer.accepted for answer in again)


def test_an_unchanged_answer_takes_one_pass():
    model, prompts = nano(sharpness=8.0)
    decoder = nano_decoder(model, prompts)
    seen = observed(model, 4, seed=0)
    first = decoder.decode(seen, INSTRUCTIONS)
    second = decoder.decode(seen, INSTRUCTIONS, [answer.tokens for answer in first])
    assert [answer.tokens for answer in second] == [answer.tokens for answer in first]
    assert all(answer.passes == 1 for answer in second)


def test_a_draft_of_another_grammar_or_of_nonsense_changes_nothing():
    model, prompts = nano(sharpness=8.0)
    decoder = nano_decoder(model, prompts)
    seen = observed(model, 2, seed=0)
    plain = decoder.decode(seen, INSTRUCTIONS[:2])
    odd = decoder.decode(seen, INSTRUCTIONS[:2], [(1, 2, 3), plain[1].tokens[:3]])
    assert [answer.tokens for answer in odd] == [answer.tokens for answer in plain]


def test_forced_tokens_cost_no_pass():
    model, prompts = nano(sharpness=8.0)
    seen = observed(model, 1, seed=0)
    skipping = nano_decoder(model, prompts).decode(seen, INSTRUCTIONS[:1])[0]
    plain = nano_decoder(model, prompts, skip_forced=False).decode(seen, INSTRUCTIONS[:1])[0]
    assert plain.tokens == skipping.tokens
    assert plain.passes == len(plain.tokens)
    assert skipping.passes == choices(plain.tokens, grammar(prompts, motion=True, action=True))


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_weights_say_the_sentence_parses(seed):
    model, prompts = nano(seed=seed, sharpness=30.0)
    for answer in nano_decoder(model, prompts).decode(observed(model, 4, seed), INSTRUCTIONS):
        parse(answer.motion)
        assert prompts.actions.decode(answer.action_ids).shape == (7,)


def test_the_grammar_says_every_sentence_and_nothing_else():
    _, prompts = nano()
    spoken = grammar(prompts, motion=True, action=False)
    for motion in all_motions():
        tokens = [*prompts.motion_ids(describe(motion)), prompts.stop_id]
        assert spoken.walk(tokens) == tokens
    wrong = prompts.motion_ids("move up up")
    assert len(spoken.walk(wrong)) < len(wrong)


def test_every_answer_of_the_grammar_ends():
    _, prompts = nano()
    spoken = grammar(prompts, motion=True, action=True)
    assert [state for state, following in enumerate(spoken.edges) if not following] == [spoken.done]
    assert all(after > state for state, following in enumerate(spoken.edges) for after in following.values())


def test_an_answer_without_motion_has_seven_choices():
    model, prompts = nano(motion=False)
    answer = nano_decoder(model, prompts).decode(observed(model, 1, 0), INSTRUCTIONS[:1])[0]
    assert (answer.motion, len(answer.action_ids), answer.passes) == (None, 7, 7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_no_answer(value):
    model, prompts = nano()
    seen = observed(model, 2, 0).clone()
    seen[1, 3] = value
    decoder = nano_decoder(model, prompts)
    with pytest.raises(NotFiniteError, match="has no answer"):
        decoder.decode(seen, INSTRUCTIONS[:2])
    assert decoder.decode(seen[:1], INSTRUCTIONS[:1])[0].action_ids

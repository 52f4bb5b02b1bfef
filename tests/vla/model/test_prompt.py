"""Prompts are the paper's, token by token; loss falls where it should."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from tests.vla.nano_models import nano
from vla.errors import PromptError, TokenizerError
from vla.model.config import SYSTEM
from vla.model.presets import preset
from vla.model.prompt import ACTION, MOTION, TEXT, PromptBuilder, canonical_instruction
from vla.model.tokenizer import (
    END_OF_TEXT,
    START,
    STOP,
    action_tokenizer,
    encode,
    make_tokenizer,
    read_tokenizer,
    write_tokenizer,
)
from vla.motion.language import all_motions, describe

FIRST_ACTION = 151_665
# The real Qwen2.5 tokenizer; 151644 is <|im_start|>, 151645 <|im_end|>, 198 a line end.
SYSTEM_TURN = [
    151644,
    8948,
    198,
    2610,
    525,
    1207,
    16948,
    11,
    3465,
    553,
    54364,
    14817,
    13,
    1446,
    525,
    264,
    10950,
    17847,
    13,
]
QUESTION = [3838, 1917, 1265, 279, 12305, 1896, 311, 3735, 705, 279, 3691, 19212, 30]


@pytest.fixture(scope="module")
def qwen(shared):
    return PromptBuilder(make_tokenizer(str(shared / "data/qwen2.5-tokenizer")), preset("0.5b"))


def text_of(prompts, token_ids):
    return prompts.tokenizer.decode([int(token) for token in token_ids], skip_special_tokens=False)


def test_golden_token_ids_of_qwen(qwen):
    got = qwen.sequence(
        "Pick up the black bowl.", "move forward left, close gripper", range(FIRST_ACTION, FIRST_ACTION + 7)
    )
    ids = got.token_ids.tolist()
    assert ids[0] == SYSTEM_TURN[0]
    assert got.observation[1:257].all()  # where Prismatic puts the patches
    assert got.observation.sum() == 256
    assert ids[257:] == [
        *[*SYSTEM_TURN[1:], 151645, 198, 151644, 872, 198],
        *[*QUESTION, 151645, 198, 151644, 48875, 198],
        *[3397, 4637, 2115, 11, 3265, 22993, 6922, 151645],
        *[198, 151644, 77091, 198, *range(FIRST_ACTION, FIRST_ACTION + 7), 151645],
    ]


def test_pieces_encode_as_the_whole_text_does(qwen):
    got = qwen.sequence("put the bowl on the plate", "tilt up, rotate clockwise", None)
    whole = (
        f"{START}system\n{SYSTEM}{STOP}\n{START}user\nWhat action should the robot take to put the bowl on the "
        f"plate?{STOP}\n"
        f"{START}motion\ntilt up, rotate clockwise{STOP}"
    )
    assert got.token_ids[~got.observation].tolist() == encode(qwen.tokenizer, whole)


def test_loss_falls_on_the_motion_sentence_and_its_stop_alone_in_pretraining(qwen):
    got = qwen.sequence("lift the lid", "move up", None)
    assert text_of(qwen, got.token_ids[got.kinds > 0]) == f"move up{STOP}"
    assert set(got.kinds[got.kinds > 0]) == {MOTION}


def test_loss_falls_on_motion_actions_and_their_stops_in_fine_tuning(qwen):
    actions = list(range(FIRST_ACTION + 10, FIRST_ACTION + 17))
    got = qwen.sequence("lift the lid", "move up", actions)
    assert text_of(qwen, got.token_ids[got.kinds == MOTION]) == f"move up{STOP}"
    assert got.token_ids[got.kinds == ACTION].tolist() == [*actions, qwen.stop_id]


def test_without_a_motion_turn_the_assistant_answers_at_once(qwen):
    got = qwen.sequence("lift the lid", None, [FIRST_ACTION] * 7)
    assert text_of(qwen, got.token_ids[got.kinds == 0]).endswith(f"the lid?{STOP}\n{START}assistant\n")
    assert not (got.kinds == MOTION).any()


def test_the_image_may_stand_behind_the_question():
    _, prompts = nano(image_position="after_question")
    got = prompts.sequence("lift the lid", "move up", None)
    first = int(got.observation.argmax())
    assert text_of(prompts, got.token_ids[:first]).endswith("lift the lid?")


@pytest.mark.parametrize("position", ["after_first_token", "before_question", "after_question"])
def test_the_words_are_the_same_wherever_the_image_stands(position):
    _, prompts = nano(image_position=position)
    _, usual = nano()
    words = [one.token_ids[~one.observation] for one in (p.sequence("lift", "move up", None) for p in (prompts, usual))]
    np.testing.assert_array_equal(*words)
    turns = [("what is it?", "a cup"), ("what colour?", "red")]
    shown, blind = (prompts.conversation(turns, image=image, longest=500) for image in (True, False))
    np.testing.assert_array_equal(shown.token_ids[~shown.observation], blind.token_ids)
    begins = int(shown.observation.argmax())
    assert shown.observation[begins : begins + prompts.config.observation_tokens].all()
    before = {"after_first_token": START, "before_question": f"{START}user\n", "after_question": "what is it?"}
    assert text_of(prompts, shown.token_ids[:begins]).endswith(before[position])


@pytest.mark.parametrize("name", ["0.5b", "1.5b", "3b"])
def test_the_papers_presets_have_the_layout_of_the_checkpoints_that_they_begin_with(name):
    assert preset(name).image_position == "after_first_token"


@pytest.mark.parametrize("motion", [True, False])
def test_a_prompt_is_the_beginning_of_its_training_sequence(motion):
    _, prompts = nano(motion=motion)
    prompt = prompts.prompt("lift the lid", motion)
    got = prompts.sequence("lift the lid", "move up" if motion else None, [prompts.actions.first_token_id] * 7)
    begun = [*prompt.before, *[0] * prompts.config.observation_tokens, *prompt.after]
    assert got.token_ids[: len(begun)].tolist() == begun
    assert got.kinds[len(begun)] > 0


def test_a_conversation_learns_what_the_assistant_says():
    _, prompts = nano()
    got = prompts.conversation([("what is it?", "a cup"), ("what colour?", "red")], image=True, longest=500)
    assert text_of(prompts, got.token_ids[got.kinds == TEXT]) == f"a cup{STOP}red{STOP}\n{END_OF_TEXT}"
    assert got.observation.sum() == prompts.config.observation_tokens


@pytest.mark.parametrize(("position", "first"), [("after_first_token", 1), ("before_question", 0)])
def test_a_caption_stands_alone_with_its_end(position, first):
    _, prompts = nano(image_position=position)
    got = prompts.caption("a cup on a table", image=True, longest=500)
    assert text_of(prompts, got.token_ids[~got.observation]) == f"a cup on a table{END_OF_TEXT}"
    seen = prompts.config.observation_tokens
    assert got.observation[first : first + seen].all()
    assert got.observation.sum() == seen
    assert (got.kinds[first + seen :] == TEXT).all()
    assert not got.kinds[: first + seen].any()
    blind = prompts.caption("a cup on a table", image=False, longest=500)
    assert blind.kinds.tolist() == [0, *[TEXT] * (len(blind.token_ids) - 1)]


def test_instructions_are_lower_cased_and_lose_their_full_stop():
    assert canonical_instruction(" Put the Bowl  on it. ") == "put the bowl on it"


@pytest.mark.parametrize("instruction", ["", " . "])
def test_an_empty_instruction_is_refused(instruction):
    with pytest.raises(PromptError, match="empty"):
        canonical_instruction(instruction)


def test_an_instruction_longer_than_the_context_is_refused_with_both_lengths():
    _, prompts = nano()
    with pytest.raises(PromptError, match=r"'bowl bowl.*needs \d+ tokens.*context is 1024"):
        prompts.prompt("bowl " * 1200, motion=True)


def test_a_small_tokenizer_is_a_function_of_the_instructions_and_encodes_any_text():
    first, second = (
        make_tokenizer("small:1024", order) for order in (["pick it up", "go left"], ["go left", "pick it up"])
    )
    assert first.to_str() == second.to_str()
    assert first.decode(encode(first, "Größe 東 \u0000")) == "Größe 東 \u0000"
    assert first.get_vocab_size() <= 1024 + 256


def test_every_motion_survives_a_small_tokenizer():
    _, prompts = nano()
    for motion in all_motions():
        assert prompts.tokenizer.decode(list(prompts.motion_ids(describe(motion)))) == describe(motion)


def test_a_tokenizer_without_action_tokens_is_refused(tmp_path, shared):
    plain = read_tokenizer(shared / "data/qwen2.5-tokenizer")
    write_tokenizer(plain, tmp_path)
    with pytest.raises(TokenizerError, match=r"lacks 256 of 256 action tokens, <extra_0> first"):
        action_tokenizer(read_tokenizer(tmp_path))


def test_a_damaged_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="cannot be read"):
        read_tokenizer(tmp_path)


def test_a_tokenizer_without_turns_is_refused(tmp_path):
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match=r"no <\|im_start\|> and no <\|im_end\|>"):
        make_tokenizer(str(tmp_path))


def test_action_tokens_stand_at_the_tail_in_order(qwen):
    ids = [qwen.tokenizer.token_to_id(f"<extra_{index}>") for index in range(256)]
    assert ids == list(range(FIRST_ACTION, FIRST_ACTION + 256))
    np.testing.assert_array_equal(qwen.actions.encode([-1.0, 1.0]), [ids[0], ids[-1]])

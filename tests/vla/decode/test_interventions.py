"""What a policy is made to say: read, refused with what was expected, and turned round."""

import numpy as np
import pytest

from vla.decode.interventions import InterventionError, intervention, opposite, shuffled
from vla.motion.language import all_motions, describe


def test_a_sentence_is_given_for_every_step():
    assert {intervention("move up").given(step) for step in (0, 7, 500)} == {"move up"}


def test_a_file_gives_sentences_for_its_steps_and_later_lines_win(tmp_path):
    path = tmp_path / "words"
    path.write_text("# reach\n0-19 move forward up\n\n5  stop   # a pause\n30-31 close gripper\n")
    told = intervention(f"file:{path}")
    assert [told.given(step) for step in (0, 5, 19, 20, 31)] == [
        "move forward up",
        "stop",
        "move forward up",
        None,
        "close gripper",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0-5 move upp", r"words, line 1: .*'move upp'. At position 7"),
        ("5-0 stop", r"words, line 1: steps 5-0 end before they begin"),
        ("stop", r"words, line 1: 'stop' is no span"),
        ("-1 stop", r"words, line 1: '-1 stop' is no span"),
        ("# nothing", r"words gives no sentence"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "words").write_text(text)
    with pytest.raises(InterventionError, match=said):
        intervention(f"file:{tmp_path / 'words'}")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InterventionError, match=r"say=file:.*none cannot be read"):
        intervention(f"file:{tmp_path / 'none'}")


def test_what_is_no_sentence_is_refused_with_position_and_what_else_there_is():
    with pytest.raises(InterventionError, match=r"say: .*At position 8 .*say= also takes own, opposite, shuffled"):
        intervention("move up,")


def test_the_opposite_of_the_opposite_is_the_sentence():
    sentences = [describe(motion) for motion in all_motions()]
    assert [opposite(opposite(one)) for one in sentences] == sentences
    assert opposite("move forward up, open gripper") == "move backward down, close gripper"
    assert [one for one in sentences if opposite(one) == one] == ["stop"]


def test_a_shuffled_sentence_is_one_of_an_earlier_moment():
    said = []
    first = shuffled("move up", said, np.random.default_rng(0))
    assert (first, said) == ("move up", ["move up"])
    drawn = {shuffled("stop", ["move up", "move down"], np.random.default_rng(seed)) for seed in range(20)}
    assert drawn == {"move up", "move down"}

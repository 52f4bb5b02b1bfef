"""The motion language: 729 sentences, parsed and described exactly."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.motion.language import (
    Motion,
    MotionSyntaxError,
    all_motions,
    describe,
    motion_index,
    motion_towards,
    motions_from_slots,
    parse,
    slots_from_motions,
)


def test_the_language_has_729_sentences_and_parsing_is_the_exact_inverse_of_describing():
    sentences = [describe(motion) for motion in all_motions()]
    assert len(set(sentences)) == 729
    assert [parse(sentence) for sentence in sentences] == list(all_motions())


@pytest.mark.parametrize(
    ("motion", "sentence"),
    [
        (Motion(), "stop"),
        (Motion(x=1), "move forward"),
        (Motion(x=-1, y=-1, z=-1), "move backward right down"),
        (Motion(tilt=-1), "tilt down"),
        (Motion(gripper=-1), "close gripper"),
        (Motion(1, 1, 1, 1, 1, 1), "move forward left up, tilt up, rotate counterclockwise, open gripper"),
        (Motion(0, 1, 0, 0, -1, 0), "move left, rotate clockwise"),
    ],
)
def test_sentences_read_as_the_paper_writes_them(motion, sentence):
    assert describe(motion) == sentence


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0),
        ("Move forward", 0),
        ("stop ", 4),
        ("move up left", 7),
        ("move left forward", 10),
        ("move forward,", 13),
        ("open gripper, tilt up", 12),
        ("move forward left, tilt sideways", 24),
    ],
)
def test_anything_else_is_a_syntax_error_that_knows_its_position(text, position):
    with pytest.raises(MotionSyntaxError) as caught:
        parse(text)
    assert (caught.value.text, caught.value.position) == (text, position)


def test_a_syntax_error_says_what_the_grammar_allows():
    with pytest.raises(MotionSyntaxError, match=r"At position 24 got 'sideways', expected 'down' or 'up'"):
        parse("move forward left, tilt sideways")


@given(st.text(alphabet="abcdefgilmnoprtuw ,", max_size=60))
def test_no_text_outside_the_language_is_read(text):
    if text in {describe(motion) for motion in all_motions()}:
        return
    with pytest.raises(MotionSyntaxError) as caught:
        parse(text)
    assert 0 <= caught.value.position <= len(text)


def test_motions_and_slots_hold_the_same():
    motions = list(all_motions())
    slots = slots_from_motions(motions)
    assert motions_from_slots(slots) == motions
    assert motion_index(slots).tolist() == list(range(729))
    assert motions_from_slots(slots[:0]) == []


def test_values_without_a_word_are_refused():
    with pytest.raises(ValueError, match=r"Motion\.tilt is 2"):
        Motion(tilt=2)


@pytest.mark.parametrize("gripper", ["open", "close", None])
def test_an_intent_has_the_signs_of_what_is_left_and_roll_is_the_tilt_before_pitch(gripper):
    event = {"open": 1, "close": -1, None: 0}[gripper]
    for signs in itertools.product((-1, 0, 1), repeat=6):
        x, y, z, roll, pitch, yaw = signs
        motion = Motion(x, y, z, roll if roll else pitch, yaw, event)
        left = np.array(signs) * 0.02
        assert motion_towards(left[:3], 0.01, left[3:], 0.01, gripper) == motion


def test_only_what_is_further_than_the_tolerance_has_a_sign():
    assert motion_towards([0.02, -0.02, 0.01], 0.01) == Motion(x=1, y=-1)
    assert motion_towards([0, 0, 0], 0.01, [0.2, 0.1, -0.1001], 0.1) == Motion(tilt=1, rotate=-1)


def test_motion_language_needs_numpy_only():
    """Data pipelines without torch use it; each module is imported in a fresh interpreter."""
    program = (
        "import sys, vla.motion.language, vla.motion.labellers, vla.motion.hmm, vla.actions\n"
        "print(sorted({'torch', 'scipy', 'pandas', 'transformers', 'evals', 'envs', 'analysis'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

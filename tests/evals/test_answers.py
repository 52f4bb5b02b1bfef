"""The first answers of a policy are looked at: what is odd about them is said once, with a way out."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from envs.reach import suite
from evals.config import RunConfig
from evals.conformance import check_policy
from evals.errors import ConventionWarning
from evals.gates.answers import Answers, remarks
from evals.policies.simple import noop, random
from evals.record import HEADER
from evals.registry import load_suite
from evals.runner import run
from evals.setup import prepare
from evals.spaces import ActionSpace
from evals.types import ActionChunk

LIBERO = load_suite("libero_spatial").action_space
BRIDGE = load_suite("simpler_bridge").action_space


def acting(gripper=-1.0, move=0.4, turn=0.1, steps=120):
    actions = np.zeros((steps, 7))
    actions[:, 0], actions[:, 5] = move, turn
    actions[:, 6] = np.resize(gripper, steps)
    return actions


ODD = {
    "rlds gripper": (LIBERO, acting([1.0, 0.0]), "gripper", r"0 to 1; .* -1 \(open\) and 1 \(closed\), and 0 is"),
    "gripper in metres": (BRIDGE, acting([0.0, 0.08], move=0.02), "gripper", "0 to 0.08"),
    "signed gripper for a level": (
        replace(LIBERO, gripper_open=1.0, gripper_closed=0.0), acting([-1.0, 1.0]), "gripper", "-1 to 1, outside",
    ),
    "undecoded bins": (LIBERO, acting(move=140.0), "range", r"reach 140 and 100% are out of range: .* clips at -1"),
    "clipped often": (LIBERO, acting(move=1.3), "range", "reach 1.3"),
    "metres for units": (LIBERO, acting(move=0.005), "units", r"no step is longer than 0\.25 mm .*one unit is 0\.05 m"),
    "units for metres": (BRIDGE, acting([1.0, -1.0], move=0.7, turn=0), "units", r"a step is 0\.7 m long"),
    "degrees": (replace(BRIDGE, high=360.0, low=-360.0), acting(move=0.02, turn=10.0), "rotation", "turns by 10 rad"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_what_is_odd_is_named_with_a_way_out(case):
    space, actions, kind, text = ODD[case]
    found = remarks(actions, space)
    assert kind in found
    assert re.search(text, found[kind]), found[kind]


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (LIBERO, acting()),
        (LIBERO, acting([1.0])),
        (LIBERO, acting([-1.0, 1.0], move=1.0)),
        (LIBERO, acting(np.linspace(-1, 1, 7))),
        (BRIDGE, acting([1.0, -1.0], move=0.02, turn=0.05)),
        (ActionSpace(gripper_open=1.0, gripper_closed=0.0, metres_per_unit=0.05), acting([1.0, 0.0])),
        (LIBERO, np.tile(LIBERO.idle(), (120, 1))),
    ],
)
def test_sound_actions_cause_no_word(space, actions):
    assert remarks(actions, space) == {}


def test_each_thing_is_said_once_and_when_there_is_enough_to_say_it():
    first = Answers(LIBERO)
    slow = acting(move=0.005, steps=1)
    said = [text for _ in range(300) for text in first.see(ActionChunk(slow), 1)]
    assert len(said) == 1
    assert not Answers(LIBERO).see(ActionChunk(slow), 1)


@pytest.mark.parametrize("chunk", [np.zeros((1, 6)), np.full((1, 7), np.nan), np.zeros(7), None, [[0.0] * 7]])
def test_what_is_no_chunk_is_left_to_whoever_runs_it(chunk):
    assert Answers(LIBERO).see(ActionChunk(chunk), 1) == []


def test_the_conformance_test_warns_of_what_is_only_likely():
    reach = suite()
    policy = noop(reach)
    policy.act = lambda seen: [ActionChunk(np.array([[0.5, 0, 0, 0, 0, 0, 0.0]])) for _ in seen]
    with pytest.warns(ConventionWarning, match="'noop': gripper values are 0 to 0; .* neither"):
        check_policy(policy, reach)
    check_policy(random(reach), reach)


class Told:
    def __init__(self):
        self.lines = []

    def start(self, suite, episodes, done):
        pass

    def say(self, text):
        self.lines.append(text)

    def finished(self, result):
        pass


def test_a_run_says_it_and_records_it(tmp_path):
    config = RunConfig("reach", "noop", tasks=("0",), trials=1, workers=1, gates=False, out=tmp_path / "run")
    setup = prepare(config)
    setup.policy.act = lambda seen: [ActionChunk(np.array([[0.5, 0, 0, 0, 0, 0, 0.0]])) for _ in seen]
    setup.policy.remarks = ("trained at another rate",)
    told = Told()
    run(setup, told)
    words = [line for line in told.lines if line.startswith("warning: policy noop: ")]
    assert [word for word in words if "trained at another rate" in word]
    assert [word for word in words if "gripper values are 0 to 0" in word]
    [session] = json.loads((tmp_path / "run" / HEADER).read_text())["sessions"]
    assert "gripper" in session["remarks"][0]

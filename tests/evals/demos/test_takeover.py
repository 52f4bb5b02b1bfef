"""A policy acts first, then the expert takes over and finishes; only the expert's steps are to be imitated."""

import json

import numpy as np
import pytest

from evals.demos.command import RecordConfig, record
from evals.errors import UnknownNameError, UsageError
from evals.policies.demonstrator import demonstrator
from evals.registry import load_suite
from vla.data.demos import read_demos
from vla.data.export import card

REACH = load_suite("reach")


def recorded(folder, **changes):
    options = {"trials": 4, "workers": 2, "gates": False, "takeover": "random", "takeover_steps": 6, **changes}
    record(RecordConfig("reach", folder, **options))
    return json.loads((folder / "demos.json").read_text())


def test_the_policys_steps_come_first_and_are_not_to_be_imitated(tmp_path):
    recorded(tmp_path)
    taken = []
    for episode in read_demos(tmp_path):
        steps = int(np.argmax(episode.is_expert))
        assert episode.is_expert[steps:].all()
        assert episode.valid_starts.tolist() == list(range(steps, len(episode)))
        taken.append(steps)
    assert set(taken) <= set(range(1, 7))
    assert len(set(taken)) > 2, "each episode draws its own number"


def test_the_same_command_records_the_same_with_any_number_of_workers(tmp_path):
    one, two = recorded(tmp_path / "one", workers=1), recorded(tmp_path / "two")
    assert one == two
    assert one["perturbation"]["takeover"] == "random"
    assert "The policy random acts for up to 6 steps first" in card(one)


def test_a_recording_without_takeover_is_what_it_was(tmp_path):
    plain = recorded(tmp_path, takeover="", takeover_steps=0)
    assert "takeover" not in plain["perturbation"]
    told = json.loads((tmp_path / "run/run.json").read_text())["config"]["policy_args"]
    assert "takeover" not in told


def test_options_of_the_policy_stand_behind_its_name():
    expert = demonstrator(REACH, takeover="expert:noise=0.5,speed=0.7", takeover_steps=3)
    assert expert.cameras == ()
    with pytest.raises(UnknownNameError, match="No option of policy 'expert' named 'nose'"):
        demonstrator(REACH, takeover="expert:nose=1", takeover_steps=3)
    with pytest.raises(UnknownNameError, match="Did you mean 'random'"):
        demonstrator(REACH, takeover="randum", takeover_steps=3)


def test_a_takeover_needs_its_policy_and_its_length():
    for options in ({"takeover": "random"}, {"takeover_steps": 3}):
        with pytest.raises(UsageError, match="A takeover needs --takeover, the policy, and --takeover-steps"):
            demonstrator(REACH, **options)
    with pytest.raises(UsageError, match="at least 0 is expected"):
        demonstrator(REACH, takeover="random", takeover_steps=-1)

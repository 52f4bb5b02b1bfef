"""A checkpoint runs in the suites whose units and views it was trained on, and nowhere else without being told to."""

from pathlib import Path

import numpy as np
import pytest
import torch

from envs.reach import suite as reach
from evals.errors import SpaceMismatchError
from evals.registry import load_suite
from tests.vla.nano_models import nano
from vla.data.convention import Convention
from vla.data.oxe import layout_named
from vla.fit import convention_of
from vla.model.checkpoint import Checkpoint, save_checkpoint
from vla.policy import RELEASED_FOR, vla
from vla.statistics import statistics_of

RNG = np.random.default_rng(0)


def statistics(key, largest):
    return statistics_of(
        key, [np.concatenate([RNG.uniform(-largest, largest, (50, 6)), RNG.integers(0, 2, (50, 1))], axis=1)]
    )


def trained(folder, key, largest, convention=None, cameras=("image",), **changes):
    """A checkpoint trained on one data set; without a convention, as older versions saved it."""
    model, prompts = nano(sharpness=8.0, **changes)
    told = {"sources": {key: list(cameras)}}
    if convention is not None:
        told["conventions"] = {key: Convention(**{**vars(convention), "cameras": cameras}).to_json()}
    save_checkpoint(folder, Checkpoint(model, prompts, {key: statistics(key, largest)}, "finetune", told))
    return folder


LIBERO = layout_named("libero", Path()).convention
BRIDGE = layout_named("bridge_orig", Path()).convention
UNSAID = layout_named("standard", Path()).convention
GOAL = Convention("demos", "libero_goal", 20.0, "axis_angle")


@pytest.mark.parametrize(
    ("convention", "largest", "suite"),
    [(LIBERO, 0.9, "libero_spatial"), (BRIDGE, 0.04, "simpler_bridge"), (UNSAID, 0.9, "libero_goal"),
     (UNSAID, 0.04, "simpler_bridge"), (GOAL, 0.9, "libero_spatial")],
)  # fmt: skip
def test_units_of_the_suite_are_accepted(tmp_path, convention, largest, suite):
    policy = vla(load_suite(suite), checkpoint=trained(tmp_path, "k", largest, convention), unnorm_key="k")
    assert not [remark for remark in policy.remarks if "units" in remark]


@pytest.mark.parametrize(
    ("convention", "largest", "suite", "complaint"),
    [
        (LIBERO, 0.9, "simpler_bridge", r"metres_per_unit is 0\.05 in training \(layout 'libero'\), 1 in the suite"),
        (BRIDGE, 0.04, "libero_spatial", r"metres_per_unit is 1 in training \(layout 'bridge_orig'\), 0\.05"),
        (GOAL, 0.9, "simpler_bridge", r"metres_per_unit is 0\.05 in training \(suite 'libero_goal'\), 1"),
        (UNSAID, 0.04, "libero_spatial", r"reach 0\.03\d+, which here is 1\.\d+ mm a step"),
        (UNSAID, 0.9, "simpler_bridge", r"reach 0\.8\d+, which here is 8\d+ mm a step"),
    ],
)
def test_units_of_another_suite_are_refused_unless_somebody_insists(tmp_path, convention, largest, suite, complaint):
    folder = trained(tmp_path, "k", largest, convention)
    with pytest.raises(SpaceMismatchError, match=rf"(?s){complaint}.*mismatch=warn"):
        vla(load_suite(suite), checkpoint=folder, unnorm_key="k")
    insisted = vla(load_suite(suite), checkpoint=folder, unnorm_key="k", mismatch="warn")
    assert any("units" in remark for remark in insisted.remarks)


def test_a_model_of_the_wrist_camera_is_not_shown_the_agents_view(tmp_path):
    folder = trained(tmp_path, "k", 0.9, LIBERO, cameras=("wrist_image",))
    suite = load_suite("libero_spatial")
    with pytest.raises(SpaceMismatchError, match=r"camera 'wrist_image' \(wrist\), would be shown 'agentview'"):
        vla(suite, checkpoint=folder, unnorm_key="k")
    assert vla(suite, checkpoint=folder, unnorm_key="k", cameras="wrist").cameras == ("wrist",)


def test_another_control_rate_is_worth_a_word(tmp_path):
    slower = Convention(**{**vars(LIBERO), "control_hz": 10.0})
    policy = vla(load_suite("libero_spatial"), checkpoint=trained(tmp_path, "k", 0.9, slower), unnorm_key="k")
    assert policy.remarks == ("control rate: trained at 10 Hz, the suite runs at 20 Hz",)


def test_euler_angles_of_training_are_turned_without_being_asked(tmp_path):
    bridge = load_suite("simpler_bridge")
    folder = trained(tmp_path, "k", 0.04, BRIDGE)
    assert vla(bridge, checkpoint=folder, unnorm_key="k")._options.rotation == "euler_xyz"
    assert vla(bridge, checkpoint=folder, unnorm_key="k", rotation="axis_angle")._options.rotation == "axis_angle"


@pytest.mark.parametrize(
    ("key", "suite", "metres"),
    [(RELEASED_FOR, RELEASED_FOR, None), ("bridge_orig", "", 1.0), ("drawers", "drawers", None)],
)
def test_an_older_checkpoint_is_known_by_its_key(key, suite, metres):
    model, prompts = nano()
    said = convention_of(Checkpoint(model, prompts, {}, "finetune", {"sources": {key: ["agentview"]}}), key)
    assert (said.suite, said.metres_per_unit, said.cameras) == (suite, metres, ("agentview",))


def test_an_older_checkpoint_of_another_suite_is_refused(tmp_path):
    folder = trained(tmp_path, "libero_goal", 0.9)
    vla(load_suite("libero_spatial"), checkpoint=folder, unnorm_key="libero_goal")
    with pytest.raises(SpaceMismatchError, match="suite 'libero_goal'"):
        vla(load_suite("simpler_bridge"), checkpoint=folder, unnorm_key="libero_goal")


def test_an_exact_policy_leaves_the_threads_of_the_process_as_they_were(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        vla(reach(), checkpoint=trained(tmp_path, "reach", 0.8), unnorm_key="reach", exact=True).act([])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

"""A checkpoint in the harness: it keeps the contract and refuses numbers that it cannot speak."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from envs.reach import suite as reach
from evals.cli import main
from evals.conformance import check_policy
from evals.errors import SpaceMismatchError, UsageError
from evals.record import read_run
from evals.types import Episode, Observation, Status
from tests.vla.nano_models import nano
from vla.decode.decoder import Decoded
from vla.decode.interventions import opposite
from vla.errors import ImageError
from vla.model.checkpoint import Checkpoint, save_checkpoint
from vla.motion.language import parse
from vla.policy import axis_angle_from_euler_xyz, vla
from vla.statistics import statistics_of, with_state

RNG = np.random.default_rng(0)
ACTIONS = [np.concatenate([RNG.uniform(-0.8, 0.8, (50, 6)), RNG.integers(0, 2, (50, 1))], axis=1)]
STATISTICS = {"reach": statistics_of("reach", ACTIONS)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("policy") / "checkpoint")


def saved(folder, stage="finetune", statistics=STATISTICS, **changes):
    model, prompts = nano(sharpness=8.0, **changes)
    save_checkpoint(folder, Checkpoint(model, prompts, statistics, stage))
    return folder


def observation(state, image, step=0):
    suite = reach()
    episode = Episode("reach", 0, state, 0, suite.protocol.hash)
    return Observation(episode, step, "reach the ball on the left side", {"agentview": image}, np.zeros(8))


def images(count):
    return [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(count)]


@pytest.mark.parametrize("exact", [False, True])
def test_the_policy_keeps_the_contract(checkpoint, exact):
    check_policy(vla(reach(), checkpoint=checkpoint, unnorm_key="reach", exact=exact), reach())


@pytest.mark.parametrize("head", ["parallel", "l1"])
def test_a_policy_whose_actions_come_in_one_pass_keeps_the_contract(tmp_path, head):
    folder = saved(tmp_path / "checkpoint", action_head=head, action_horizon=3)
    policy = vla(reach(), checkpoint=folder, unnorm_key="reach")
    check_policy(policy, reach())
    chunk = policy.act([observation(0, images(1)[0])])[0]
    assert chunk.actions.shape == (3, 7)
    assert set(chunk.actions[:, 6]) <= {policy.action_space.gripper_open, policy.action_space.gripper_closed}


def test_actions_lie_within_the_statistics_and_the_gripper_is_open_or_closed(checkpoint):
    policy = vla(reach(), checkpoint=checkpoint, unnorm_key="reach")
    space, bounds = reach().action_space, STATISTICS["reach"]
    for chunk in policy.act([observation(i, image) for i, image in enumerate(images(4))]):
        assert (chunk.actions[:, :6] >= np.array(bounds.q01[:6])).all()
        assert (chunk.actions[:, :6] <= np.array(bounds.q99[:6])).all()
        assert set(chunk.actions[:, 6]) <= {space.gripper_open, space.gripper_closed}
        parse(chunk.motion)


@pytest.mark.parametrize(("level", "name"), [(1.0, "gripper_open"), (0.0, "gripper_closed")])
def test_an_open_gripper_of_the_dataset_is_an_open_gripper_of_the_suite(tmp_path, level, name):
    """With statistics in which nothing but the gripper varies, the sign of the suite decides."""
    policy = vla(reach(), checkpoint=saved(tmp_path / "c"), unnorm_key="reach")
    token = policy._prompts.actions.first_token_id + (255 if level else 0)
    chunk = policy._chunk(Decoded((), "stop", (token,) * 7, 1, 0))
    assert chunk.actions[0, 6] == getattr(reach().action_space, name)


def test_speculation_over_steps_changes_no_answer(checkpoint):
    drafting = vla(reach(), checkpoint=checkpoint, unnorm_key="reach")
    exact = vla(reach(), checkpoint=checkpoint, unnorm_key="reach", exact=True)
    for step, image in enumerate(images(3)):
        seen = [observation(0, image, step), observation(1, np.flipud(image).copy(), step)]
        for ours, theirs in zip(drafting.act(seen), exact.act(seen), strict=True):
            np.testing.assert_array_equal(ours.actions, theirs.actions)
            assert ours.motion == theirs.motion


@pytest.mark.parametrize("say", ["opposite", "shuffled", "move up"])
def test_a_policy_that_is_told_what_to_say_keeps_the_contract_and_says_it(checkpoint, say):
    policy = vla(reach(), checkpoint=checkpoint, unnorm_key="reach", say=say)
    check_policy(policy, reach())
    seen = observation(0, images(1)[0])
    own = vla(reach(), checkpoint=checkpoint, unnorm_key="reach").act([seen])[0].motion
    said = policy.act([seen])[0].motion
    assert said == {"opposite": opposite(own), "shuffled": own, "move up": "move up"}[say]


def test_what_cannot_be_said_is_refused(checkpoint, tmp_path):
    with pytest.raises(UsageError, match=r"say: Not a motion sentence: 'move upp'"):
        vla(reach(), checkpoint=checkpoint, unnorm_key="reach", say="move upp")
    silent = saved(tmp_path / "c", motion=False)
    with pytest.raises(UsageError, match=r"say=opposite: .* says no motion sentence"):
        vla(reach(), checkpoint=silent, unnorm_key="reach", say="opposite")


@pytest.mark.slow
def test_the_suites_expert_may_speak_in_the_policys_place(checkpoint, tmp_path):
    def run(name, **options):
        arguments = ["--policy-args", f"checkpoint={checkpoint}", "unnorm_key=reach", "replan_every=1"]
        arguments += [f"{option}={value}" for option, value in options.items()]
        places = ["--suite", "reach", "--policy", "vla", "--tasks", "0", "--trials", "1", "--out", str(tmp_path / name)]
        with pytest.raises(SystemExit) as end:
            main([*places, "--traces", "--workers", "1", *arguments])
        assert end.value.code == 0
        [trace] = (tmp_path / name / "traces").glob("*.npz")
        with np.load(trace) as stored:
            return stored["motion"].tolist()

    told, own = run("told", say="expert"), run("own")
    assert told != own
    assert all(parse(sentence) for sentence in told)


def test_an_episode_that_ended_is_forgotten(checkpoint):
    policy = vla(reach(), checkpoint=checkpoint, unnorm_key="reach")
    seen = observation(0, images(1)[0])
    policy.begin(seen.episode)
    policy.act([seen])
    policy.end(seen.episode)
    assert not policy._last


def test_an_unknown_unnormalisation_key_is_refused_with_the_known_ones(checkpoint):
    with pytest.raises(UsageError, match=r"'bridge'.*trained on: reach"):
        vla(reach(), checkpoint=checkpoint, unnorm_key="bridge")


def test_a_model_pretrained_on_motion_cannot_act(tmp_path):
    with pytest.raises(UsageError, match="never learnt to act"):
        vla(reach(), checkpoint=saved(tmp_path / "c", stage="motion"), unnorm_key="reach")


def test_units_that_the_controller_cannot_take_are_refused(tmp_path):
    far = {"mm": statistics_of("mm", [ACTIONS[0] * [30, 30, 30, 1, 1, 1, 1]])}
    with pytest.raises(SpaceMismatchError, match="units: actions of 'mm' reach"):
        vla(reach(), checkpoint=saved(tmp_path / "c", statistics=far), unnorm_key="mm")


def test_a_suite_with_absolute_actions_is_refused(checkpoint):
    suite = replace(reach(), action_space=replace(reach().action_space, translation="absolute"))
    with pytest.raises(SpaceMismatchError, match="translation: policy 'delta', suite 'absolute'"):
        vla(suite, checkpoint=checkpoint, unnorm_key="reach")


def test_a_state_of_another_size_is_refused(tmp_path):
    five = {"reach": with_state(STATISTICS["reach"], [RNG.uniform(-1, 1, (9, 5))])}
    with pytest.raises(SpaceMismatchError, match="policy reads 5 numbers, suite has 8"):
        vla(reach(), checkpoint=saved(tmp_path / "c", statistics=five, proprio_dim=5), unnorm_key="reach")
    with pytest.raises(UsageError, match=r"state has 8 numbers, .* 'reach' hold quantiles .* of 0"):
        vla(reach(), checkpoint=saved(tmp_path / "d", proprio_dim=8), unnorm_key="reach")


def test_state_is_read_in_the_units_of_the_statistics(tmp_path):
    answers = []
    for scale in (1.0, 1000.0):
        states = np.linspace(-scale, scale, 80).reshape(10, 8)
        told = {"reach": with_state(STATISTICS["reach"], [states])}
        policy = vla(
            reach(), checkpoint=saved(tmp_path / str(scale), statistics=told, proprio_dim=8), unnorm_key="reach"
        )
        seen = [replace(observation(row, image), state=states[row]) for row, image in enumerate(images(4))]
        answers.append([chunk.actions for chunk in policy.act(seen)])
    np.testing.assert_array_equal(*answers)
    other = [replace(one, state=-one.state) for one in seen]
    assert not np.array_equal([chunk.actions for chunk in policy.act(other)], answers[1])


def test_views_without_cameras_are_refused(tmp_path):
    two = saved(tmp_path / "c", cameras=("third_person", "wrist"))
    with pytest.raises(UsageError, match=r"views \['third_person', 'wrist'\]; suite 'reach' has the cameras"):
        vla(reach(), checkpoint=two, unnorm_key="reach")


def test_a_device_that_is_not_there_is_refused(checkpoint):
    with pytest.raises(UsageError, match="device='cud'"):
        vla(reach(), checkpoint=checkpoint, unnorm_key="reach", device="cud")


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64, 3)), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8)]
)
def test_an_image_of_another_shape_or_dtype_is_refused(checkpoint, image):
    policy = vla(reach(), checkpoint=checkpoint, unnorm_key="reach")
    with pytest.raises(ImageError, match=r"'agentview'.*expected uint8 \[height, width, 3\]"):
        policy.act([observation(0, image)])


def test_euler_angles_become_axis_angle():
    quarter = np.pi / 2
    got = axis_angle_from_euler_xyz(np.array([[quarter, 0, 0], [0, 0, -0.3], [0, 0, 0], [quarter, quarter, 0]]))
    np.testing.assert_allclose(got[:3], [[quarter, 0, 0], [0, 0, -0.3], [0, 0, 0]], atol=1e-12)
    # Rz Ry Rx with two quarter turns is a third of a turn about (1, 1, -1).
    np.testing.assert_allclose(got[3], 2 * np.pi / 3 / np.sqrt(3) * np.array([1, 1, -1]), atol=1e-12)


def test_the_policy_names_its_weights_for_the_record(checkpoint):
    assert vla(reach(), checkpoint=checkpoint, unnorm_key="reach").checkpoint == checkpoint


def test_a_model_without_an_answer_is_an_error_of_the_policy_and_no_failure(tmp_path):
    """Finite weights whose scores overflow would otherwise act as if they had been trained so."""
    model, prompts = nano()
    with torch.no_grad():
        for weight in model.projector.parameters():
            weight.mul_(1e30)
    save_checkpoint(tmp_path / "checkpoint", Checkpoint(model, prompts, STATISTICS, "finetune"))
    told = {"suite": "reach", "policy": "vla", "checkpoint": tmp_path / "checkpoint", "policy-args": "unnorm_key=reach"}
    told |= {"tasks": 0, "trials": 1, "workers": 1, "out": tmp_path / "run"}
    with pytest.raises(SystemExit):
        main([*(str(part) for name, value in told.items() for part in (f"--{name}", value)), "--no-gates"])
    [result] = read_run(tmp_path / "run").results
    assert (result.status, result.status.scored) == (Status.POLICY_ERROR, False)
    assert "it has no answer" in result.error

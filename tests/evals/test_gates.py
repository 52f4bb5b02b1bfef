"""Each gate passes the toy suite as it is and fails it with the one fault that the gate is there for."""

import pickle
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from envs.reach import ReachEnv, suite
from evals.errors import ContractError, GateError, UnknownNameError
from evals.gates import GATES, check, golden, require, run_gates
from evals.gates.rotations import declared_matrix
from evals.policies.simple import noop
from evals.rotations import matrix_to_axis_angle

SUITE = suite()


class Faulty(ReachEnv):
    """Reach with functions put in front of its actions and behind its steps."""

    def __init__(self, suite, task, cameras, on_action, on_step):
        super().__init__(suite, task, cameras)
        self.on_action, self.on_step = on_action, on_step

    def step(self, action, render):
        return super().step(self.on_action(action), render)

    def _result(self, render):
        return self.on_step(super()._result(render))


def failed(gate, on_action=lambda action: action, on_step=lambda step: step, suite=SUITE):
    def make_env(suite, task, cameras):
        return Faulty(suite, task, cameras, on_action, on_step)

    return [finding for finding in check(suite, make_env=make_env, probes=[gate]) if finding.passed is False]


def edit(**changes):
    """Return a step function that changes the observation's fields by functions of their old value."""

    def on_step(step):
        if step.observation is None:
            return step
        seen = step.observation
        return replace(
            step, observation=replace(seen, **{name: how(getattr(seen, name)) for name, how in changes.items()})
        )

    return on_step


def images(how):
    return edit(images=lambda views: {name: how(image) for name, image in views.items()})


def scaled(*factors):
    return lambda action: action * np.array(factors)


def rearranged(*places):
    return lambda action: action[list(places)]


@pytest.mark.parametrize("gate", GATES)
def test_every_gate_passes_the_suite_as_it_is(gate):
    assert [finding.passed for finding in check(SUITE, probes=[gate])] == [True]


FAULTS = {
    "images are cropped": ("outputs", {"on_step": images(lambda image: image[:60])}),
    "success is not a bool": ("outputs", {"on_step": lambda step: replace(step, success=np.bool_(False))}),
    "gripper closes on open": ("gripper", {"on_action": scaled(1, 1, 1, 1, 1, 1, -1)}),
    "gripper is stuck": ("gripper", {"on_action": scaled(1, 1, 1, 1, 1, 1, 0)}),
    "x is mirrored": ("translation", {"on_action": scaled(-1, 1, 1, 1, 1, 1, 1)}),
    "x and y are swapped": ("translation", {"on_action": rearranged(1, 0, 2, 3, 4, 5, 6)}),
    "centimetres are sent as metres": ("translation", {"on_action": scaled(0.01, 0.01, 0.01, 1, 1, 1, 1)}),
    "rotation z is mirrored": ("rotation", {"on_action": scaled(1, 1, 1, 1, 1, -1, 1)}),
    "degrees are sent as radians": ("rotation", {"on_action": scaled(1, 1, 1, 0.0175, 0.0175, 0.0175, 1)}),
    "the state's orientation stands still": (
        "rotation",
        {"on_step": edit(state=lambda s: s * [1, 1, 1, 0, 0, 0, 1, 1])},
    ),
    "images are upside down": ("frame", {"on_step": images(lambda image: image[::-1, ::-1])}),
    "images are dark": ("frame", {"on_step": images(lambda image: image // 2)}),
    "images show something else": ("frame", {"on_step": images(lambda image: image.T.reshape(image.shape))}),
    "the state comes from elsewhere": (
        "state",
        {"on_step": edit(state=lambda s: s + np.pi / 2 * np.eye(8)[3])},
    ),
    "the settle steps are missing": (
        "settle",
        {"suite": replace(SUITE, protocol=replace(SUITE.protocol, settle_steps=0))},
    ),
    "the rule holds at reset": ("success_at_reset", {"on_step": lambda step: replace(step, success=True)}),
    "the rule always holds": ("noop", {"on_step": lambda step: replace(step, success=True)}),
    "the task cannot be solved": ("expert", {"on_step": lambda step: replace(step, success=False)}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_gate(fault):
    gate, how = FAULTS[fault]
    assert len(failed(gate, **how)) == 1


def test_a_turned_image_is_named_as_such():
    (finding,) = failed("frame", on_step=images(lambda image: image[::-1, ::-1]))
    assert "turned by 180 degrees" in finding.observed


def test_rotations_in_the_wrong_frame_are_found():
    assert failed("rotation", suite=replace(SUITE, action_space=replace(SUITE.action_space, frame="end_effector")))


def test_a_quaternion_in_the_wrong_order_is_found():
    quat_names = tuple(f"quat_{letter}" for letter in "wxyz")
    space = replace(SUITE.state_space, names=("x", "y", "z", *quat_names, "finger_left", "finger_right"))

    def state(order):
        def to_quat(s):
            angle = np.linalg.norm(s[3:6])
            quat = np.append(np.cos(angle / 2), s[3:6] / angle * np.sin(angle / 2))
            return np.concatenate([s[:3], np.roll(quat, order), s[6:]])

        return edit(state=to_quat)

    declared = replace(SUITE, state_space=replace(space, rotation="quat_wxyz"))
    assert not failed("rotation", on_step=state(0), suite=declared)
    assert failed("rotation", on_step=state(-1), suite=declared)


def test_euler_angles_read_as_axis_angle_are_named_where_one_step_turns_far():
    far = replace(SUITE, action_space=replace(SUITE.action_space, radians_per_unit=0.1, high=10.0))

    class Unclipped(ReachEnv):
        def step(self, action, render):
            tenth = action * [1, 1, 1, 0.1, 0.1, 0.1, 1]
            for _ in range(9):
                super().step(tenth * [0, 0, 0, 1, 1, 1, 1], render=False)
            return super().step(tenth, render)

    class Euler(Unclipped):
        def step(self, action, render):
            per_radian = far.action_space.radians_per_unit
            meant = matrix_to_axis_angle(declared_matrix(action[3:6] * per_radian, "euler_xyz")) / per_radian
            return super().step(np.concatenate([action[:3], meant, action[6:]]), render)

    assert check(far, make_env=Unclipped, probes=["rotation"])[0].passed
    (finding,) = check(far, make_env=Euler, probes=["rotation"])
    assert finding.passed is False
    assert "reads axis_angle as Euler angles about fixed axes" in finding.observed


def test_spaces_that_disagree_are_listed_one_by_one():
    policy = noop(SUITE)
    policy.action_space = replace(SUITE.action_space, gripper_open=1.0, frame="base")
    policy.cameras = ("wrist",)
    (finding,) = check(SUITE, policy, probes=[])
    assert finding.passed is False
    assert [word in finding.observed for word in ("gripper_open", "frame", "'wrist'")] == [True] * 3


def test_what_cannot_be_probed_is_neither_passed_nor_failed():
    without = replace(SUITE, reference="", expert="")
    assert {finding.passed for finding in check(without, probes=["frame", "settle", "state", "expert"])} == {None}
    require(check(without, probes=["frame"]))


def test_a_failure_says_what_was_commanded_what_happened_and_what_to_do():
    findings = failed("gripper", on_action=scaled(1, 1, 1, 1, 1, 1, -1))
    with pytest.raises(GateError) as raised:
        require(findings)
    assert "10 steps of -1 (open)" in str(raised.value)
    assert "finger width 0.0000, then 0.0800" in str(raised.value)
    assert "what to do: swap" in str(raised.value)


def test_an_unknown_gate_is_refused_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'gripper'"):
        check(SUITE, probes=["griper"])


def test_gates_run_by_name_and_their_findings_can_be_pickled():
    findings = run_gates("reach", "noop", {}, ["gripper"])
    assert [finding.gate for finding in pickle.loads(pickle.dumps(findings))] == ["spaces", "gripper"]


def placed(state_of):
    """Reach that takes another initial state than it is asked for."""

    class Env(ReachEnv):
        def reset(self, episode, render):
            super().reset(replace(episode, initial_state=state_of(episode.initial_state)), render)
            self._episode = episode
            return self._result(render)

    return Env


@pytest.mark.parametrize("state_of", [lambda state: 0, lambda state: state // 2, lambda state: min(state, 2)])
def test_a_suite_that_has_fewer_scenes_than_initial_states_is_found(state_of):
    [finding] = check(SUITE, make_env=placed(state_of), probes=["initial_states"])
    assert finding.passed is False
    assert "the same scene" in finding.observed


def test_different_initial_states_pass_and_a_single_one_cannot_be_compared():
    one = replace(SUITE, protocol=replace(SUITE.protocol, initial_states=1))
    assert [check(suite, probes=["initial_states"])[0].passed for suite in (SUITE, one)] == [True, None]


def test_a_reference_may_lie_in_a_package_at_a_path_or_beside_a_single_module(tmp_path, monkeypatch):
    (tmp_path / "onemodule.py").write_text("from envs.reach import ReachEnv\n")
    stored = files("envs") / "data/reach_reference.json"
    (tmp_path / "moments.json").write_text(stored.read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    for reference in ("envs:data/reach_reference.json", tmp_path / "moments.json", "moments.json"):
        suite = replace(SUITE, env="onemodule:ReachEnv", reference=reference)
        assert [finding.passed for finding in check(suite, probes=["state", "settle", "frame"])] == [True] * 3
    for reference in ("absent:moments.json", "absent.json"):
        with pytest.raises(ContractError, match="reference 'absent"):
            golden.load(replace(SUITE, env="onemodule:ReachEnv", reference=reference), 0)

"""The wire of PyPI's `vla-eval`, against its own server and against servers that declare or answer something else."""

import numpy as np
import pytest

import evals
from envs.reach import suite
from evals.errors import ServerError, UsageError
from evals.policies.remote import plugins
from evals.registry import load_suite
from evals.serving.motion_vla_serve import decode, encode
from evals.types import Episode, Observation
from tests.evals.policies.remote.runs import attempts, hashes, in_process, kept, run

REACH, LIBERO, BRIDGE = suite(), load_suite("libero_spatial"), load_suite("simpler_bridge")
ACTION_SPEC = {
    "position": {"name": "position", "dims": 3, "format": "delta_xyz"},
    "rotation": {"name": "rotation", "dims": 3, "format": "axis_angle"},
    "gripper": {"name": "gripper", "dims": 1, "format": "binary_close_positive"},
}


def speaking(declared, answer, received=None):
    """Return a handler that greets with what is declared, and answers every observation alike."""

    def handle(connection):
        for frame in connection:
            message = decode(frame)
            if received is not None:
                received.append(message)
            if message["type"] == "hello":
                payload = {"harness_version": "0.8.0", "protocol_version": 1, "model_server": "Toy", **declared}
                connection.send(encode({**message, "payload": payload}, markers="vla-server"))
            elif message["type"] == "observation":
                kind, payload = answer
                connection.send(encode({**message, "type": kind, "payload": payload}, markers="vla-server"))

    return handle


def acting(values=(0, 0, 0, 0, 0, 0, 1)):
    return "action", {"actions": np.array(values, np.float32)}


def seen(of, state=None):
    rng = np.random.default_rng(0)
    pictures = {c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in of.protocol.cameras}
    numbers = np.linspace(-0.4, 0.3, 8) if state is None else np.asarray(state, float)
    return Observation(Episode(of.name, 0, 4, 0, of.protocol.hash), 0, of.tasks[0].instruction, pictures, numbers)


def the(received, kind):
    [message] = [message for message in received if message["type"] == kind]
    return message


def asked_once(of, url, profile, state=None):
    policy = plugins.vla_server(of, url=url, profile=profile)
    observation = seen(of, state)
    policy.begin(observation.episode)
    try:
        return policy.act([observation])[0].actions
    finally:
        policy.end(observation.episode)
        policy.close()


@pytest.mark.slow
def test_a_run_over_its_own_server_equals_the_run_in_process(server, tmp_path):
    toy = in_process()
    expected = hashes(run(toy, tmp_path / "here", replan_every=2))  # the server keeps chunks of two
    asking = {"policy_args": {"url": f"ws://127.0.0.1:{server('vla_server')}", "profile": "motion-vla"}}
    record = run("vla_server", tmp_path / "there", **asking)
    assert len(expected) == 4
    assert hashes(record) == expected
    assert kept(record)["server"]["model_server"] == "Toy"
    assert hashes(run("vla_server", tmp_path / "alone", workers=1, **asking)) == expected


@pytest.mark.slow
def test_an_error_in_mid_episode_begins_the_episode_and_its_chunk_again(server, tmp_path):
    expected = hashes(run(in_process(), tmp_path / "here", replan_every=2))
    asking = {"policy_args": {"url": f"ws://127.0.0.1:{server('vla_server', 4, 11)}", "profile": "motion-vla"}}
    assert hashes(run("vla_server", tmp_path / "there", workers=1, **asking)) == expected
    failed = [line["error"] for line in attempts(tmp_path / "there") if line["status"] == "policy_error"]
    assert len(failed) == 2
    assert all("observation_failed: RuntimeError: CUDA out of memory" in error for error in failed)


def test_what_a_server_asks_for_is_sent_and_the_rest_is_said(websocket_server):
    received = []
    asks = {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True, "success_mode": "accumulate"}
    url = websocket_server(speaking({"observation_params": asks}, acting(), received))
    policy = plugins.vla_server(LIBERO, url=url, profile="libero")
    assert policy.cameras == ("agentview", "wrist")
    assert [remark for remark in policy.remarks if "success_mode='accumulate'" in remark]
    turned = [0.1, 0.2, 0.3, 0.0, 3.3, 0.0, 0.04, -0.04]  # more than half a turn
    asked_once(LIBERO, url, "libero", turned)
    assert the(received, "episode_start")["payload"]["task"]["episode_idx"] == 4
    observed = the(received, "observation")
    assert list(observed["payload"]["images"]) == ["agentview", "wrist"]
    np.testing.assert_allclose(observed["payload"]["states"], turned, rtol=1e-6)


def test_a_server_that_does_not_ask_gets_the_shorter_way_round(websocket_server):
    received = []
    url = websocket_server(speaking({"observation_params": {"send_state": True}}, acting(), received))
    asked_once(LIBERO, url, "libero", [0.1, 0.2, 0.3, 0.0, 3.3, 0.0, 0.04, -0.04])
    states = the(received, "observation")["payload"]["states"]
    np.testing.assert_allclose(states[3:6], [0.0, 3.3 - 2 * np.pi, 0.0], atol=1e-6)
    assert "wrist" not in the(received, "observation")["payload"]["images"]


@pytest.mark.parametrize(
    ("gripper", "answered", "sent"),
    [
        ("binary_close_positive", 0.2, 1.0),
        ("binary_close_positive", -0.2, -1.0),
        ("binary_close_negative", 0.2, -1.0),
        ("binary_close_01", 0.9, 1.0),
        ("binary_close_01", 0.1, -1.0),
    ],
)
def test_a_gripper_is_read_as_it_is_declared(websocket_server, gripper, answered, sent):
    spec = ACTION_SPEC | {"gripper": {"name": "gripper", "dims": 1, "format": gripper}}
    url = websocket_server(speaking({"action_spec": spec}, acting((0, 0, 0, 0, 0, 0, answered))))
    assert asked_once(LIBERO, url, "libero")[0, 6] == sent


def test_a_declared_rotation_is_converted(websocket_server):
    spec = ACTION_SPEC | {"rotation": {"name": "rotation", "dims": 3, "format": "euler_xyz"}}
    url = websocket_server(speaking({"action_spec": spec}, acting((0, 0, 0, 0.3, 0.4, 0.5, 1))))
    turned = evals.rotations.matrix_to_axis_angle(evals.rotations.euler_xyz_to_matrix(np.array([0.3, 0.4, 0.5])))
    np.testing.assert_allclose(asked_once(LIBERO, url, "libero")[0, 3:6], turned, atol=1e-6)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (
            {"action_spec": {"position": {"format": "absolute_xyz", "dims": 3}}},
            "action 'position': the server declares 'absolute_xyz', the profile accepts delta_xyz",
        ),
        ({"action_spec": {"rotation": {"format": "rot6d_interleaved", "dims": 6}}}, "declares 'rot6d_interleaved'"),
        ({"action_spec": {"base_motion": {"format": "base_velocity3_torso1"}}}, "knows no such part"),
        (
            {"observation_spec": {"state": {"format": "joint_positions"}}},
            "observation 'state': the server expects 'joint_positions', the profile sends 'eef_pos3_axisangle3",
        ),
        ({"observation_spec": {"depth": {"format": "depth_mm"}}}, "observation 'depth'.*the profile sends none"),
        ({"observation_params": {"absolute_action": True}}, "asks for absolute_action=True"),
    ],
)
def test_what_the_server_declares_is_refused_where_it_disagrees(websocket_server, declared, said):
    with pytest.raises(UsageError, match=said):
        plugins.vla_server(LIBERO, url=websocket_server(speaking(declared, acting())), profile="libero")


def test_bridge_gets_the_real_part_of_the_quaternion_first(websocket_server):
    received = []
    asks = {"observation_params": {"send_state": True}}
    url = websocket_server(speaking(asks, acting((0, 0, 0, 0, 0, 0, 0.7)), received))
    actions = asked_once(BRIDGE, url, "bridge", [0.3, 0, 0.1, 0, 0, 0, 0.037, -0.037])
    np.testing.assert_allclose(
        the(received, "observation")["payload"]["states"], [0.3, 0, 0.1, 1, 0, 0, 0, 1], rtol=1e-6
    )
    assert actions[0, 6] == BRIDGE.action_space.gripper_open


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            ("error", {"error": "observation_failed: KeyError: 'states'"}),
            "reports an error: observation_failed: KeyError",
        ),
        (("hello", {}), "sent 'hello' number 3, expected 'action' number 3"),
        (acting((1, 2, 3)), r"actions \[1, 3\], expected \[K, 7\]"),
        (("action", {"done": True}), "lacks 'actions'; it holds 'done'"),
    ],
)
def test_an_answer_that_is_none_is_refused_in_words(websocket_server, answer, said):
    with pytest.raises(ServerError, match=said):
        asked_once(LIBERO, websocket_server(speaking({}, answer)), "libero")


def test_a_message_that_is_no_map_is_refused_in_words(websocket_server):
    def handle(connection):
        connection.recv()
        connection.send(encode(["hello"]))

    with pytest.raises(ServerError, match="no message of this wire"):
        plugins.vla_server(REACH, url=websocket_server(handle), profile="motion-vla")

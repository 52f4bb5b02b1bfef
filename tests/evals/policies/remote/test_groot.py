"""The wire of GR00T: messages as its servers write them, and servers that misbehave."""

import contextlib
import threading

import msgpack
import numpy as np
import pytest
import zmq

from envs.reach import suite
from evals.errors import ServerError
from evals.policies.remote import plugins
from evals.policies.remote.groot import pack, unpack
from evals.registry import load_suite
from evals.types import Episode, Observation
from tests.evals.policies.remote.runs import hashes, in_process, kept, run

REACH, BRIDGE = suite(), load_suite("simpler_bridge")
PROFILE = """
wire = "groot"
source = "a test"
[[image]]
key = ["video", "image"]
camera = "agentview"
axes = 2
[[state]]
key = ["state", "x"]
values = ["x"]
dtype = "float64"
axes = 2
[[state]]
key = ["state", "y"]
values = ["y"]
dtype = "float64"
axes = 2
[[state]]
key = ["state", "z"]
values = ["z"]
dtype = "float64"
axes = 2
[instruction]
key = ["language", "task"]
axes = 2
[actions]
keys = ["move", "turn", "gripper"]
"""


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "reach.toml"
    path.write_text(PROFILE)
    return str(path)


@pytest.fixture
def answering():
    """Answer `ping`, `reset` and the configuration, and every get_action with the bytes given; None: never."""
    with contextlib.ExitStack() as stack:

        def start(answer):
            context = stack.enter_context(zmq.Context())
            socket = stack.enter_context(context.socket(zmq.REP))
            port, asked, over = socket.bind_to_random_port("tcp://127.0.0.1"), [], threading.Event()

            def serve():
                while not over.is_set():
                    if socket.poll(20):
                        request = unpack(socket.recv())
                        asked.append(request)
                        if request["endpoint"] != "get_action":
                            socket.send(msgpack.packb({"status": "ok"}))
                        elif answer is not None:
                            socket.send(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(thread.join)
            stack.callback(over.set)
            return f"tcp://127.0.0.1:{port}", asked

        yield start


def asked_once(of, url, profile, **options):
    camera = of.protocol.cameras[0]
    picture = np.zeros((camera.height, camera.width, 3), np.uint8)
    episode = Episode(of.name, 0, 0, 0, of.protocol.hash)
    seen = Observation(episode, 0, of.tasks[0].instruction, {"agentview": picture}, np.linspace(-0.4, 0.3, 8))
    policy = plugins.groot(of, url=url, profile=profile, **options)
    policy.begin(episode)
    try:
        return policy.act([seen])[0].actions
    finally:
        policy.end(episode)
        policy.close()


@pytest.mark.slow
@pytest.mark.parametrize("version", ["n1.6", "n1.7"])
def test_a_run_over_the_wire_equals_the_run_in_process(server, profile, tmp_path, monkeypatch, version):
    monkeypatch.setenv("GROOT_TOKEN", "s3cret")
    expected = hashes(run(in_process(), tmp_path / "here"))
    asking = {"url": f"tcp://127.0.0.1:{server('groot', version)}", "profile": profile, "token_env": "GROOT_TOKEN"}
    there = run("groot", tmp_path / "there", policy_args=asking)
    assert len(expected) == 4
    assert hashes(there) == expected
    assert "delta_indices" in kept(there)["server"]["video"]["as_json"]


def test_a_wrong_token_is_said_in_the_servers_words(server, profile, monkeypatch):
    monkeypatch.setenv("GROOT_TOKEN", "other")
    url = f"tcp://127.0.0.1:{server('groot', 'n1.6')}"
    with pytest.raises(ServerError, match="Unauthorized: Invalid API token"):
        plugins.groot(REACH, url=url, profile=profile, token_env="GROOT_TOKEN")


def test_what_is_sent_is_what_the_bridge_embodiment_reads(answering):
    parts = dict.fromkeys(["x", "y", "z", "roll", "pitch", "yaw"], np.zeros((1, 8, 1), np.float32))
    url, asked = answering(pack([parts | {"gripper": np.full((1, 8, 1), 0.9, np.float32)}, {}]))
    actions = asked_once(BRIDGE, url, "bridge")
    assert actions.shape == (8, 7)
    assert set(actions[:, 6]) == {BRIDGE.action_space.gripper_open}
    assert [request["endpoint"] for request in asked] == ["ping", "get_modality_config", "reset", "get_action"]
    sent = asked[-1]["data"]["observation"]
    assert sent["video"]["image_0"].shape == (1, 1, 480, 640, 3)
    assert list(sent["state"]) == ["x", "y", "z", "roll", "pitch", "yaw", "pad", "gripper"]
    assert sent["state"]["x"].shape == (1, 1, 1)
    assert sent["language"] == {"annotation.human.action.task_description": [[BRIDGE.tasks[0].instruction]]}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"ERROR", "reports an error; its log says which"),
        (msgpack.packb({"error": "CUDA out of memory"}), "reports an error: CUDA out of memory"),
        (b"\xc1", "no message of this wire"),
        (msgpack.packb(msgpack.ExtType(5, b"")), "extension type 5"),
        (msgpack.packb({b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": b"x"}), "type '|O'"),
        (msgpack.packb({b"nd": True, b"type": "<f4", b"shape": [2], b"data": b"1234"}), "has 4 bytes, expected 8"),
        (msgpack.packb({"__ndarray_class__": True, "as_npy": b"no file"}), "no message of this wire"),
        (msgpack.packb([{"move": 1}]), "lacks 'turn', 'gripper'; it holds 'move'"),
    ],
)
def test_an_answer_that_is_none_is_refused_in_words(answering, profile, answer, said):
    with pytest.raises(ServerError, match=said.replace("|", r"\|")):
        asked_once(REACH, answering(answer)[0], profile)


def test_an_array_of_objects_is_not_unpickled(answering, profile, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([print], dtype=object))
    file = (tmp_path / "objects.npy").read_bytes()
    answer = msgpack.packb({"__ndarray_class__": True, "as_npy": file})
    with pytest.raises(ServerError, match="Object arrays cannot be loaded"):
        asked_once(REACH, answering(answer)[0], profile)


def test_a_silent_server_is_waited_for_as_long_as_was_said(answering, profile):
    with pytest.raises(ServerError, match=r"did not answer within 0\.2 s"):
        asked_once(REACH, answering(None)[0], profile, first_seconds=0.2)


def test_nobody_answers(profile):
    with pytest.raises(ServerError, match=r"No GR00T server answers at tcp://127\.0\.0\.1:9 within 0\.2 s"):
        plugins.groot(REACH, url="tcp://127.0.0.1:9", profile=profile, reconnect_seconds=0.2)

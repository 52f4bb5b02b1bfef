"""A policy of ours in a server acts as it does in process, and says what a request lacks."""

from contextlib import ExitStack

import numpy as np
import pytest

import evals
from evals.errors import UnknownNameError, UsageError
from evals.serving.command import ServeConfig, command, served
from evals.serving.motion_vla_serve import Session, decode, encode
from evals.types import ActionChunk

SUITE = evals.load_suite("reach")
IMAGE = np.zeros((64, 64, 3), np.uint8)
REQUEST = {"prompt": "reach the ball on the far side", "observation/image": IMAGE, "observation/state": np.zeros(8)}


class Remote:
    """A client in the place of a policy: a connection an episode, and the identity with each request."""

    name, replan_every = "remote", 1
    action_space, state_space = SUITE.action_space, SUITE.state_space
    cameras = ("agentview",)

    def __init__(self, port):
        self._port, self._sockets = port, {}

    def begin(self, episode):
        from websockets.sync.client import connect

        with ExitStack() as stack:
            socket = stack.enter_context(connect(f"ws://127.0.0.1:{self._port}", compression=None))
            assert decode(socket.recv(timeout=20))["motion_vla"] == {"version": 1}
            self._sockets[episode.id] = (socket, stack.pop_all())

    def act(self, observations):
        for seen in observations:
            names = ("suite", "task", "initial_state", "seed", "protocol_hash")
            identity = {name: getattr(seen.episode, name) for name in names}
            request = {
                "prompt": seen.instruction,
                "observation/image": seen.images["agentview"],
                "observation/state": seen.state,
                "motion_vla": {"episode": identity, "step": seen.step},
            }
            self._sockets[seen.episode.id][0].send(encode(request))
        replies = [self._sockets[seen.episode.id][0].recv(timeout=60) for seen in observations]
        return [ActionChunk(decode(reply)["actions"]) for reply in replies]

    def end(self, episode):
        self._sockets.pop(episode.id)[1].close()


def hashes(folder):
    return {result.episode_id: result.trajectory_hash for result in evals.read_run(folder).results}


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in_process") / "run"
    evals.evaluate("random", "reach", trials=2, workers=1, gates=False, out=folder)
    return hashes(folder)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_served_policy_gives_the_trajectories_of_the_same_policy_in_process(serving, in_process, tmp_path, workers):
    port = serving(served(ServeConfig("reach", "random")), batch=4, wait_ms=5)
    evals.evaluate(Remote(port), "reach", trials=2, workers=workers, gates=False, out=tmp_path / "run")
    assert hashes(tmp_path / "run") == in_process


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("wire", ["openpi", "vla-server"])
def test_a_policy_served_and_asked_by_our_own_clients_gives_the_trajectories_of_a_run_in_process(
    serving, in_process, tmp_path, wire, workers
):
    port = serving(served(ServeConfig("reach", "random")), wire=wire, batch=4, wait_ms=5)
    arguments = {"url": f"ws://127.0.0.1:{port}", "profile": "motion-vla"}
    policy = wire.replace("-", "_")
    where = tmp_path / "run"
    evals.evaluate(policy, "reach", policy_args=arguments, trials=2, workers=workers, gates=False, out=where)
    assert hashes(where) == in_process


def answer(model, request, task=None):
    session = Session("1.1", task or {})
    model.begin(session)
    [answer] = model.act([(session, request)])
    model.end(session)
    return answer


def test_both_wires_name_pictures_state_and_words_in_their_way():
    model = served(ServeConfig("reach", "noop"))
    idle = SUITE.action_space.idle()
    theirs = {"task_description": "x", "images": {"agentview": IMAGE}, "states": np.zeros(8)}
    for request in (REQUEST, theirs):
        reply = answer(model, request)
        np.testing.assert_array_equal(reply["actions"], idle[None])
        assert reply["motion"] == "stop"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": None}, "needs text as `prompt`"),
        ({"observation/image": None}, "needs a picture of camera 'agentview' (observation/image"),
        ({"observation/image": np.zeros((32, 32, 3), np.uint8)}, "the suite's are (64, 64)"),
        ({"observation/image": IMAGE.astype(float)}, "is float64"),
        ({"observation/state": np.zeros(7)}, "The state is float64 (7,)"),
        ({"observation/state": np.full(8, np.nan)}, "expected finite numbers"),
        ({"motion_vla": {"step": -1}}, "step is -1"),
    ],
)
def test_a_request_that_lacks_something_is_answered_in_words(change, words):
    def look(observation):
        return SUITE.action_space.idle()

    model = served(ServeConfig("reach", "noop"))
    model._policy = evals.policy(
        look, action_space=SUITE.action_space, state_space=SUITE.state_space, cameras=["agentview"]
    )
    error = answer(model, {**REQUEST, **change})
    assert isinstance(error, UsageError)
    assert words in str(error)


def test_an_episode_of_another_suite_or_protocol_is_refused():
    model = served(ServeConfig("reach", "noop"))
    for task, words in [
        ({"suite": "libero_spatial", "protocol_hash": "x"}, "served for 'reach'"),
        ({"suite": "reach", "protocol_hash": "x"}, "same version on both sides"),
        ({"suite": "reach", "protocol_hash": SUITE.protocol.hash, "task_id": 9, "episode_idx": 0}, "no such one"),
    ]:
        with pytest.raises(UsageError, match=words):
            model.begin(Session("1.1", task))


def test_an_episode_that_begins_again_elsewhere_ends_the_first():
    model = served(ServeConfig("reach", "random"))
    task = {"suite": "reach", "protocol_hash": SUITE.protocol.hash, "task_id": 1, "episode_idx": 3, "seed": 0}
    first, second = Session("1.1", task), Session("2.1", task)
    model.begin(first)
    model.begin(second)
    refused, answered = model.act([(first, REQUEST), (second, REQUEST)])
    assert "begun again by another connection" in str(refused)
    assert answered["actions"].shape == (1, 7)


def test_what_cannot_be_served_is_refused_before_anything_listens():
    for config, error, words in [
        (ServeConfig("reach", "expert"), UsageError, "reads the simulator"),
        (ServeConfig("reach", "nobody"), UnknownNameError, "nobody"),
        (ServeConfig("reach", "noop", replan_every=0), UsageError, "at least 1"),
    ]:
        with pytest.raises(error, match=words):
            served(config)


def test_a_port_that_is_taken_is_a_wrong_command(serving):
    port = serving(served(ServeConfig("reach", "noop")))
    with pytest.raises(UsageError, match="Choose another --port"):
        command(["--suite", "reach", "--policy", "noop", "--port", str(port)])

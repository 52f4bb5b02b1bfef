"""The wire of openpi, against openpi's own server and against servers that misbehave."""

import numpy as np
import pytest

from envs.reach import suite
from evals.errors import RunIncompleteError, ServerError, UsageError
from evals.policies.remote import plugins
from evals.serving.motion_vla_serve import decode, encode
from evals.types import Episode, Observation
from tests.evals.policies.remote.runs import attempts, hashes, in_process, kept, run

REACH = suite()


def asking(url, **options):
    return {"policy_args": {"url": url, "profile": "motion-vla", **options}}


def observation(step=0, state=0):
    episode = Episode("reach", 0, state, 0, REACH.protocol.hash)
    picture = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    return Observation(episode, step, "reach the ball on the left side", {"agentview": picture}, np.arange(8.0))


def answering(*answers):
    """Return a handler that greets, and sends one answer a request; the last answer repeats."""

    def handle(connection):
        connection.send(encode({}))
        for number, _ in enumerate(connection):
            answer = answers[min(number, len(answers) - 1)]
            connection.send(answer if isinstance(answer, (str, bytes)) else encode(answer))

    return handle


def asked_once(url, **options):
    policy = plugins.openpi(REACH, url=url, profile="motion-vla", **options)
    policy.begin(observation().episode)
    try:
        return policy.act([observation()])[0].actions
    finally:
        policy.end(observation().episode)
        policy.close()


@pytest.mark.slow
def test_a_run_over_openpis_own_server_equals_the_run_in_process(server, tmp_path):
    expected = hashes(run(in_process(), tmp_path / "here"))
    url = f"ws://127.0.0.1:{server('openpi')}"
    there = run("openpi", tmp_path / "there", **asking(url))
    assert len(expected) == 4
    assert hashes(there) == expected
    alone = run("openpi", tmp_path / "alone", workers=1, **asking(url))
    assert hashes(alone) == expected


@pytest.mark.slow
def test_the_record_says_who_answered_how_fast_and_how_much(server, tmp_path):
    url = f"ws://127.0.0.1:{server('openpi')}"
    said = kept(run("openpi", tmp_path / "run", **asking(url)))
    assert said["url"] == url
    assert said["server"] == {"checkpoint": "toy", "reset_pose": [0.5, 1.5]}
    traffic = said["traffic"]
    assert traffic["calls"] > 20
    assert traffic["request_bytes"] > traffic["calls"] * 64 * 64 * 3
    assert 0 < traffic["server_ms"]["p50"] <= traffic["client_ms"]["p50"] <= traffic["client_ms"]["p99"]


@pytest.mark.slow
def test_an_error_of_the_server_is_recorded_in_its_words_and_the_episode_runs_again(server, tmp_path):
    expected = hashes(run(in_process(), tmp_path / "here"))
    url = f"ws://127.0.0.1:{server('openpi', 5, 9)}"
    there = run("openpi", tmp_path / "there", workers=1, **asking(url))
    assert hashes(there) == expected
    failed = [line for line in attempts(tmp_path / "there") if line["status"] == "policy_error"]
    assert len(failed) == 2
    assert all("RuntimeError: CUDA out of memory" in line["error"] and url in line["error"] for line in failed)
    assert all(line["success_first"] is None for line in failed)


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_run_without_a_score(websocket_server, tmp_path):
    def handle(connection):
        connection.send(encode({}))
        connection.recv()
        handled.append(connection)
        connection.close(1001, "going away")
        connection.close_socket()

    handled = []
    with pytest.raises(RunIncompleteError, match=r"going away|without a score"):
        run("openpi", tmp_path / "run", workers=1, **asking(websocket_server(handle), reconnect_seconds=0.1))
    assert {line["status"] for line in attempts(tmp_path / "run")} == {"policy_error"}
    assert any("closed the connection (code 1001: going away)" in line["error"] for line in attempts(tmp_path / "run"))


def test_the_identity_of_a_run_is_the_profile_and_not_the_address(websocket_server):
    policy = plugins.openpi(REACH, url=websocket_server(answering({})), profile="motion-vla")
    assert list(policy.identity) == ["profile"]
    assert "127.0.0.1" not in str(policy.identity)


def test_a_served_policy_says_how_much_of_a_chunk_runs(websocket_server):
    def handle(connection):
        connection.send(encode({"replan_every": 4}))

    assert plugins.openpi(REACH, url=websocket_server(handle), profile="motion-vla").replan_every == 4
    assert plugins.openpi(REACH, url=websocket_server(answering({})), profile="motion-vla").replan_every == 1


def test_a_request_holds_what_the_profile_says(websocket_server):
    def handle(connection):
        connection.send(encode({}))
        received.append(decode(connection.recv()))
        connection.send(encode({"actions": np.zeros((1, 7), np.float32)}))

    received = []
    assert asked_once(websocket_server(handle)).dtype == np.float64
    [request] = received
    assert request["images"]["agentview"].tobytes() == observation().images["agentview"].tobytes()
    assert request["state"].tolist() == list(range(8))
    assert request["prompt"] == "reach the ball on the left side"
    assert request["motion_vla"] == {"episode": vars(observation().episode), "step": 0}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Traceback: ValueError: no image", "reports an error:\nTraceback: ValueError: no image"),
        ({"actions": np.full((1, 7), np.nan)}, "answered nan as number 0 of action 0"),
        ({"actions": np.zeros((2, 32))}, r"actions \[2, 32\], expected \[K, 7\]"),
        ({"actions": np.zeros((2, 2, 7))}, r"float64 \[2, 2, 7\] as 'actions' of the answer, expected \[K, D\]"),
        ({"actions": np.zeros((1, 7), bool)}, "expected an array of numbers"),
        ({"actions": np.zeros((0, 7))}, r"expected \[K, D\]"),
        ({"actions": "forward"}, "'forward' as 'actions' of the answer"),
        ({"action": np.zeros((1, 7))}, "lacks 'actions'; it holds 'action'"),
        ({"type": "error", "message": "Internal inference error"}, "reports an error: Internal inference error"),
        (b"\xc1\x00", "sent what is no openpi message"),
        (b"\xd4\x05\x00", "extension type 5"),
        (encode({"actions": np.zeros(7)}).replace(b"<f8", b"|O8"), "dtype '|O8'"),
    ],
)
def test_an_answer_that_is_none_is_refused_in_words(websocket_server, answer, said):
    with pytest.raises(ServerError, match=said.replace("|", r"\|")):
        asked_once(websocket_server(answering(answer)))


def test_a_message_without_end_is_not_read(websocket_server, monkeypatch):
    monkeypatch.setattr("evals.policies.remote.websocket.LARGEST_REPLY", 2**20)
    with pytest.raises(ServerError, match="more than 1 MiB, which was not read"):
        asked_once(websocket_server(answering(bytes(2**20 + 1))))


def test_a_silent_server_is_waited_for_as_long_as_was_said(websocket_server):
    def handle(connection):
        connection.send(encode({}))
        for _ in connection:
            pass

    with pytest.raises(ServerError, match=r"did not answer within 0\.2 s.*first_seconds"):
        asked_once(websocket_server(handle), first_seconds=0.2)


def test_an_answer_that_came_is_not_asked_for_again_because_a_neighbours_did_not(websocket_server):
    def handle(connection):
        connection.send(encode({}))
        for message in connection:
            state = decode(message)["motion_vla"]["episode"]["initial_state"]
            asked.append(state)
            connection.send("out of memory" if state == 1 else encode({"actions": np.full((1, 7), 0.5)}))

    asked = []
    policy = plugins.openpi(REACH, url=websocket_server(handle), profile="motion-vla")
    both = [observation(state=0), observation(state=1)]
    for seen in both:
        policy.begin(seen.episode)
    with pytest.raises(ServerError, match="out of memory"):
        policy.act(both)
    assert policy.act(both[:1])[0].actions.tolist() == [[0.5] * 7]
    assert sorted(asked) == [0, 1]
    for seen in both:
        policy.end(seen.episode)


def test_requests_of_a_batch_are_under_way_together(websocket_server):
    import threading

    def handle(connection):
        connection.send(encode({}))
        for _ in connection:
            together.wait(5)  # breaks unless all three are here at once
            connection.send(encode({"actions": np.zeros((1, 7))}))

    together = threading.Barrier(3)
    policy = plugins.openpi(REACH, url=websocket_server(handle), profile="motion-vla")
    seen = [observation(state=state) for state in range(3)]
    for each in seen:
        policy.begin(each.episode)
    assert len(policy.act(seen)) == 3
    for each in seen:
        policy.end(each.episode)


def test_a_token_comes_from_the_environment_and_stays_out_of_everything(websocket_server, monkeypatch):
    def handle(connection):
        headers.append(connection.request.headers.get("Authorization"))
        answering({"actions": np.zeros((1, 7))})(connection)

    headers = []
    url = websocket_server(handle)
    monkeypatch.setenv("POLICY_TOKEN", "s3cret")
    policy = plugins.openpi(REACH, url=url, profile="motion-vla", token_env="POLICY_TOKEN")
    assert headers == ["Bearer s3cret"]
    assert "s3cret" not in f"{policy.report()} {policy.identity} {policy.remarks}"
    monkeypatch.delenv("POLICY_TOKEN")
    with pytest.raises(UsageError, match="variable 'POLICY_TOKEN' is not set"):
        plugins.openpi(REACH, url=url, profile="motion-vla", token_env="POLICY_TOKEN")


def test_a_vllm_server_that_closed_an_idle_connection_is_asked_again(websocket_server):
    def handle(connection):
        connection.send(encode({"action_horizon": 1}))
        request = decode(connection.recv())
        sessions.append(request["session_id"])
        connection.send(encode(np.zeros((1, 7), np.float32)))
        connection.close()

    sessions = []
    link_url = websocket_server(handle)
    from evals.policies.remote.link import Address
    from evals.policies.remote.openpi import OpenpiLink

    link = OpenpiLink(Address(link_url), "vllm-omni")
    assert link.connect() == {"action_horizon": 1}
    link.begin(observation().episode, REACH.tasks[0])
    assert link.infer({"prompt": "go"}, 5).answer.shape == (1, 7)
    assert link.infer({"prompt": "go"}, 5).answer.shape == (1, 7)
    assert len(sessions) == 2
    assert len(set(sessions)) == 1
    link.close()

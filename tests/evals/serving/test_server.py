"""What clients of both wires get: answers, errors, batches, and refusals."""

import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest

from evals.serving.motion_vla_serve import Options, WireError, decode, encode, serve

STATE = {"observation/state": np.arange(8.0)}


class Doubling:
    """Answers `[2, 7]` of twice the first number of the state, and remembers what it was asked."""

    def __init__(self, seconds=0.0):
        self.metadata = {"model": "doubling"}
        self.batches, self.begun, self.ended, self._seconds = [], [], [], seconds

    def begin(self, session):
        if session.task.get("name") == "unknown":
            raise KeyError("unknown task")
        self.begun.append(session.task)

    def act(self, requests):
        self.batches.append(len(requests))
        time.sleep(self._seconds)
        return [self._one(request) for _, request in requests]

    def end(self, session):
        self.ended.append(session.task)

    def _one(self, request):
        if "fail" in request:
            return ValueError("asked to fail")
        return np.full((2, 7), 2 * request.get("observation/state", [np.nan])[0])


@contextmanager
def connected(port, **options):
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, **options) as socket:
        yield socket


def ask(socket, kind, payload, seq=1):
    socket.send(encode({"type": kind, "payload": payload, "seq": seq, "timestamp": 0.0}, "vla-server"))
    return decode(socket.recv(timeout=20))


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return answer.read()


def test_openpi_greets_with_the_metadata_and_answers_a_whole_chunk_with_its_times(serving):
    port = serving(Doubling())
    with connected(port) as socket:
        assert decode(socket.recv(timeout=20)) == {"model": "doubling", "motion_vla": {"version": 1}}
        for count in range(2):
            socket.send(encode({"observation/state": np.full(8, count)}))
            reply = decode(socket.recv(timeout=20))
            np.testing.assert_array_equal(reply["actions"], np.full((2, 7), 2.0 * count))
            assert ("prev_total_ms" in reply["server_timing"]) == (count > 0)
    assert get(port, "/healthz") == b"OK\n"


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (encode({**STATE, "fail": True}), "asked to fail"),
        (encode({}), "not finite"),
        (encode([1]), "expected a map"),
        ("text", "got str"),
        (b"\xc1", "no msgpack message"),
    ],
)
def test_an_error_on_openpis_wire_is_a_text_and_code_1011(serving, frame, word):
    from websockets.exceptions import ConnectionClosedError

    with connected(serving(Doubling())) as socket:
        socket.recv(timeout=20)
        socket.send(frame)
        told = socket.recv(timeout=20)
        assert isinstance(told, str)
        assert word in told
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd.code == 1011


def test_the_vla_server_wire_gives_a_chunk_out_row_by_row_and_stays_open_after_an_error(serving):
    model = Doubling()
    port = serving(model, wire="vla-server")
    with connected(port) as socket:
        hello = ask(socket, "hello", {"harness_version": "x", "protocol_version": 1}, seq=7)
        assert (hello["type"], hello["seq"], hello["payload"]["model"]) == ("hello", 7, "doubling")
        rows = [ask(socket, "observation", {"observation/state": np.full(8, n)})["payload"] for n in range(3)]
        assert [row["actions"].shape for row in rows] == [(7,)] * 3
        assert [row["actions"][0] for row in rows] == [0.0, 0.0, 4.0]
        ask(socket, "observation", STATE)
        failed = ask(socket, "observation", {"fail": True}, seq=9)
        assert (failed["type"], failed["seq"]) == ("error", 9)
        assert failed["payload"]["error"] == "observation_failed: ValueError: asked to fail"
        assert "type is 'dance'" in ask(socket, "dance", {})["payload"]["error"]
        assert ask(socket, "observation", STATE)["type"] == "action"
    assert get(port, "/health") == b'{"status": "ok"}\n'
    assert b'"max_batch_size": 1' in get(port, "/config")


def test_an_episode_empties_the_chunk_and_one_that_does_not_begin_answers_nothing(serving):
    model = Doubling()
    with connected(serving(model, wire="vla-server")) as socket:
        ask(socket, "observation", STATE)
        failed = ask(socket, "episode_start", {"task": {"name": "unknown"}}, seq=3)
        assert failed["payload"]["error"].startswith("episode_start_failed: KeyError")
        assert "unknown task" in ask(socket, "observation", STATE)["payload"]["error"]
        start = {"type": "episode_start", "payload": {"task": {"name": "a"}}, "seq": 4, "timestamp": 0.0}
        socket.send(encode(start, "vla-server"))
        assert ask(socket, "observation", {"observation/state": np.full(8, 5)})["payload"]["actions"][0] == 10.0
    assert model.begun == [{}, {"name": "a"}]


def test_pings_and_other_clients_are_answered_while_the_model_thinks(serving):
    port = serving(Doubling(seconds=1.0))
    with connected(port) as socket:
        socket.recv(timeout=20)
        socket.send(encode(STATE))
        time.sleep(0.1)
        started = time.monotonic()
        assert socket.ping().wait(timeout=0.8)
        assert get(port, "/healthz") == b"OK\n"
        assert time.monotonic() - started < 0.8
        socket.recv(timeout=20)


def test_clients_that_ask_together_are_answered_in_one_call_and_none_starves(serving):
    model = Doubling(seconds=0.02)
    port, counts = serving(model, batch=4, wait_ms=500), []

    def client():
        with connected(port) as socket:
            socket.recv(timeout=20)
            for count in range(10):
                socket.send(encode({"observation/state": np.full(8, count)}))
                assert decode(socket.recv(timeout=20))["actions"][0, 0] == 2 * count
                counts.append(count)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(counts) == 80
    assert max(model.batches) == 4
    assert all(abs(a - b) <= 4 for a, b in zip(counts, sorted(counts), strict=True))


def test_a_token_is_asked_for_and_health_is_open(serving, monkeypatch):
    from websockets.exceptions import InvalidStatus

    monkeypatch.setenv("TOKEN_OF_THE_TEST", "secret")
    port = serving(Doubling(), token_variable="TOKEN_OF_THE_TEST")
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(InvalidStatus, match="401"), connected(port, additional_headers=headers):
            pass
    for scheme in ("Bearer", "Api-Key"):
        with connected(port, additional_headers={"Authorization": f"{scheme} secret"}) as socket:
            assert decode(socket.recv(timeout=20))["model"] == "doubling"
    assert get(port, "/healthz") == b"OK\n"


def test_a_web_page_and_a_message_that_is_too_large_are_refused(serving):
    from websockets.exceptions import ConnectionClosed, InvalidStatus

    port = serving(Doubling(), max_bytes=2048)
    with pytest.raises(InvalidStatus, match="403"), connected(port, origin="http://elsewhere.example"):
        pass
    with connected(port) as socket:
        socket.recv(timeout=20)
        socket.send(encode({"image": np.zeros((64, 64, 3), np.uint8)}))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd.code == 1009


def test_wrong_options_are_refused_in_words():
    for wrong, word in [
        ({"wire": "zmq"}, "openpi, vla-server"),
        ({"port": 70000}, "port is 70000"),
        ({"batch": 0}, "batch is 0"),
        ({"token_variable": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE holds no token"),
    ]:
        with pytest.raises(ValueError, match=word):
            Options(**wrong)
    with pytest.raises(ValueError, match="either a function"):
        serve()
    assert issubclass(WireError, ValueError)

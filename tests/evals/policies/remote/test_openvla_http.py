"""The wire of OpenVLA's deploy.py, against json-numpy itself and against servers that misbehave."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from envs.libero.images import centre_crop, jpeg_round_trip, resize_lanczos3
from envs.reach import suite
from evals.errors import ServerError
from evals.policies.remote import plugins
from evals.policies.remote.openvla_http import read, written
from evals.registry import load_suite
from evals.types import Episode, Observation
from tests.evals.policies.remote.runs import attempts, hashes, in_process, run

REACH, LIBERO = suite(), load_suite("libero_spatial")
PROFILE = """
wire = "openvla-http"
dialect = "oft"
source = "a test"
[[image]]
key = "full_image"
camera = "agentview"
[[state]]
key = "state"
values = ["*"]
dtype = "float64"
[instruction]
key = "instruction"
[actions]
"""


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "reach.toml"
    path.write_text(PROFILE)
    return str(path)


@pytest.fixture
def http_server():
    """Answer every POST with (status, body), and keep what was asked; return URL and requests."""
    with contextlib.ExitStack() as stack:

        def start(status, body, close=False):
            asked = []

            class Handler(BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def do_POST(self):
                    asked.append((self.headers, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                    if not close:
                        self.send_response(status)
                        self.send_header("Content-Length", str(len(body)))
                        self.end_headers()
                        self.wfile.write(body)
                    self.close_connection = True

                def log_message(self, *arguments):
                    pass

            server = stack.enter_context(HTTPServer(("127.0.0.1", 0), Handler))
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}", asked

        yield start


def seen(of):
    rng = np.random.default_rng(0)
    pictures = {c.name: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in of.protocol.cameras}
    state = np.linspace(-0.4, 0.3, 8)
    return Observation(Episode(of.name, 0, 0, 0, of.protocol.hash), 0, of.tasks[0].instruction, pictures, state)


def asked_once(of, url, profile, **options):
    policy = plugins.openvla_http(of, url=url, profile=profile, **options)
    policy.begin(seen(of).episode)
    try:
        return policy.act([seen(of)])[0].actions
    finally:
        policy.end(seen(of).episode)
        policy.close()


@pytest.mark.slow
def test_a_run_over_the_wire_equals_the_run_in_process(server, profile, tmp_path):
    expected = hashes(run(in_process(), tmp_path / "here"))
    asking = {"policy_args": {"url": f"http://127.0.0.1:{server('openvla_http', 6)}", "profile": profile}}
    assert hashes(run("openvla_http", tmp_path / "there", workers=1, **asking)) == expected
    [failed] = [line["error"] for line in attempts(tmp_path / "there") if line["status"] == "policy_error"]
    assert "answers 'error'. The cause is in its log" in failed


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "|u1", "|b1", ">i2"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_are_written_and_read_as_json_numpy_does(dtype, shape):
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    again = read(json.loads(json.dumps(written(array))))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)
    assert written(np.array([1, 2], "<f4")) == {"__numpy__": "AACAPwAAAEA=", "dtype": "<f4", "shape": [2]}


def test_pictures_are_prepared_as_openvlas_own_client_does(http_server):
    url, asked = http_server(200, json.dumps(written(np.array([0, 0, 0, 0, 0, 0, 0.996]))).encode())
    actions = asked_once(LIBERO, url, "libero", unnorm_key="libero_spatial")
    [(_, request)] = asked
    expected = centre_crop(resize_lanczos3(jpeg_round_trip(seen(LIBERO).images["agentview"]), 224))
    np.testing.assert_array_equal(read(request["image"]), expected)
    assert request["instruction"] == LIBERO.tasks[0].instruction.lower()
    assert request["unnorm_key"] == "libero_spatial"
    assert list(request) == ["image", "instruction", "unnorm_key"]
    assert actions[0, 6] == LIBERO.action_space.gripper_open


def test_json_inside_a_json_string_is_unpacked(http_server, profile):
    inner = json.dumps(written(np.full((1, 7), 0.25)))
    url, _ = http_server(200, json.dumps(inner).encode())
    assert asked_once(REACH, url, profile).tolist() == [[0.25] * 7]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b'"error"', "answers 'error'"),
        (500, b"Internal Server Error", "answers HTTP 500: Internal Server Error"),
        (404, b'{"detail":"Not Found"}', "answers HTTP 404"),
        (200, b"<html>", "is no JSON: <html>"),
        (200, b"{}", "is no array: got {}, expected a map with __numpy__"),
        (200, json.dumps(written(np.zeros((1, 6)))).encode(), r"actions \[1, 6\], expected \[K, 7\]"),
        (200, json.dumps({"__numpy__": "AAAA", "dtype": "<f4", "shape": [7]}).encode(), "has 3 bytes, expected 28"),
        (200, json.dumps({"__numpy__": "AAAA", "dtype": "|O", "shape": [1]}).encode(), "dtype '|O'"),
        (200, b"[1, 2, NaN, 0, 0, 0, 0]", "answered nan as number 2"),
        (200, b"[1, [2]]", "is no array"),
    ],
)
def test_an_answer_that_is_none_is_refused_in_words(http_server, profile, status, body, said):
    url, _ = http_server(status, body)
    with pytest.raises(ServerError, match=said.replace("|", r"\|")):
        asked_once(REACH, url, profile)


def test_a_server_that_closes_without_an_answer_is_said(http_server, profile):
    url, asked = http_server(200, b"", close=True)
    with pytest.raises(ServerError, match="closed the connection without an answer"):
        asked_once(REACH, url, profile)
    assert len(asked) == 2  # the first may have been closed for being idle


def test_a_token_travels_in_the_header(http_server, profile, monkeypatch):
    monkeypatch.setenv("POLICY_TOKEN", "s3cret")
    url, asked = http_server(200, json.dumps(written(np.zeros((1, 7)))).encode())
    asked_once(REACH, url, profile, token_env="POLICY_TOKEN")
    assert asked[0][0]["Authorization"] == "Bearer s3cret"


def test_nobody_listens(profile):
    with pytest.raises(ServerError, match="No server listens at http://127"):
        plugins.openvla_http(REACH, url="http://127.0.0.1:9", profile=profile)


def test_a_websocket_is_told_from_an_http_server(websocket_server, profile):
    url = websocket_server(lambda connection: connection.recv()).replace("ws://", "http://")
    with pytest.raises(ServerError, match=r"answers HTTP 4|closed the connection|does not speak HTTP"):
        asked_once(REACH, url, profile)

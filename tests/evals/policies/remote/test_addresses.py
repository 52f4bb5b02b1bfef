"""Wrong addresses: every mistake names itself and the way out, and nothing secret is kept."""

import contextlib
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from envs.reach import suite
from evals.cli import main
from evals.errors import ServerError, UsageError
from evals.policies.remote import plugins
from evals.policies.remote.link import Address
from evals.policies.remote.websocket import WebSocket
from evals.serving.motion_vla_serve import encode


@pytest.fixture
def plain_tcp():
    """Answer what is given to whoever connects; return the port."""
    with contextlib.ExitStack() as stack:

        def start(answer):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        peer, _ = listening.accept()
                        with peer:
                            peer.recv(4096)
                            peer.sendall(answer)

            threading.Thread(target=serve, daemon=True).start()
            return listening.getsockname()[1]

        yield start


@pytest.fixture
def certificate(tmp_path):
    """Files of a certificate for 127.0.0.1 that nobody has signed."""
    key, made = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    return key, made


def openpi(url, **options):
    return plugins.openpi(suite(), url=url, profile="motion-vla", **options)


def greet(connection):
    connection.send(encode({"secure": True}))
    connection.recv()


def test_nobody_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(
        ServerError, match=rf"No server listens at ws://127\.0\.0\.1:{port} .*correct --policy-args url="
    ):
        openpi(f"ws://127.0.0.1:{port}")


@pytest.mark.parametrize(("version", "said"), [("HTTP/1.1", "it answers 404"), ("HTTP/1.0", "of an old version")])
def test_an_http_server_is_told_from_a_websocket(version, said):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = version

        def do_GET(self):
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(ServerError, match=rf"is an HTTP server \({said}\), not a WebSocket"):
            openpi(f"ws://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.mark.parametrize("answer", [b"", b"\x00\xff\x00ZMTP nonsense\r\n\r\n", b"220 mail ready\r\n"])
def test_what_is_no_websocket_is_said(plain_tcp, answer):
    with pytest.raises(ServerError, match=r"does not speak WebSocket|broke|closed"):
        openpi(f"ws://127.0.0.1:{plain_tcp(answer)}")


def test_a_server_that_never_shakes_hands_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(ServerError, match=r"did not answer within 0\.2 s"):
            WebSocket(Address(url, seconds=0.2)).open()


def test_a_websocket_without_metadata_is_no_openpi_server(websocket_server):
    with pytest.raises(ServerError, match="sends its metadata at once"):
        openpi(websocket_server(lambda connection: connection.close()))
    with pytest.raises(ServerError, match="greets with a list, expected a map"):
        openpi(websocket_server(lambda connection: connection.send(encode([1]))))


def test_tls_is_spoken_and_an_unknown_authority_is_named(websocket_server, certificate, monkeypatch):
    key, made = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    url = websocket_server(greet, ssl=context).replace("ws://", "wss://")
    with pytest.raises(ServerError, match=r"certificate that this machine does not trust: self-signed.*SSL_CERT_FILE"):
        openpi(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    policy = openpi(url)
    assert policy.report()["server"] == {"secure": True}
    assert policy.report()["url"] == url


def test_tls_where_there_is_none_is_named(websocket_server):
    with pytest.raises(ServerError, match=r"There is no TLS at wss://.*is it ws://"):
        openpi(websocket_server(greet).replace("ws://", "wss://"))


def test_a_token_over_a_readable_connection_is_remarked():
    assert Address("ws://gpu7:8000", "Bearer x").exposed
    assert not Address("ws://127.0.0.1:8000", "Bearer x").exposed
    assert not Address("wss://gpu7:8000", "Bearer x").exposed


@pytest.mark.parametrize(
    "url", ["ws://me:s3cret@host:8000", "ws://host:8000?token=s3cret", "http://host?key=s3cret", "ws://host/#s3cret"]
)
def test_a_url_with_a_secret_is_refused_without_repeating_it(url):
    with pytest.raises(UsageError) as refused:
        openpi(url)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["host:8000", "http://host:8000", "ws://", "ws://host:99999", "ws://[::1"])
def test_what_is_no_url_of_the_wire_is_refused(url):
    with pytest.raises(UsageError, match="url"):
        openpi(url)


def test_the_command_line_says_it_in_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--suite", "reach", "--policy", "openpi", "--policy-args", "url=ws://127.0.0.1:9", "profile=motion-vla"])
    assert end.value.code == 1
    assert capsys.readouterr().err.count("\n") <= 2

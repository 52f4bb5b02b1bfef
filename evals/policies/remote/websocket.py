"""A WebSocket whose every failure is a sentence."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from evals.errors import ServerError, UsageError
from evals.policies.remote.link import LARGEST_REPLY, Address, LostError

_SHOWN = 4000  # characters of a server's text


class WebSocket:
    """One connection; messages are whole frames, sent uncompressed.

    Args:
        address: where the server is.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._stack = contextlib.ExitStack()
        self._connection: Any = None

    def open(self) -> None:
        """Connect.

        Raises:
            ServerError: there is no WebSocket server; the text says what is there instead.
            UsageError: the package `websockets` is not installed.
        """
        client, exceptions = _websockets()
        url = self._address.url
        try:
            # Pings are not sent: many servers compute inside their event loop, and answer none until they are done.
            self._connection = self._stack.enter_context(
                client.connect(
                    url,
                    additional_headers={"Authorization": self._address.token} if self._address.token else None,
                    compression=None,
                    max_size=LARGEST_REPLY,
                    open_timeout=self._address.seconds,
                    close_timeout=1,
                    ping_interval=None,
                    proxy=None,
                )
            )
        except (exceptions.WebSocketException, OSError, EOFError) as error:
            raise ServerError(f"{why_not(error, url, self._address.seconds)}") from error

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed the connection yet, as far as is known."""
        return self._connection is not None and self._connection.state.name == "OPEN"

    def send(self, message: bytes) -> None:
        """Send one binary frame.

        Raises:
            LostError: the connection is gone.
        """
        _, exceptions = _websockets()
        try:
            self._connection.send(message)
        except (exceptions.WebSocketException, OSError) as error:
            raise self._lost(error) from error

    def receive(self, seconds: float) -> bytes | str:
        """Wait for one frame and return it: text as str.

        Raises:
            LostError: none came in time, it is too large, or the connection is gone.
        """
        _, exceptions = _websockets()
        try:
            frame: bytes | str = self._connection.recv(timeout=seconds)
        except TimeoutError as error:
            self.close()
            raise LostError(too_slow(self._address.url, seconds)) from error
        except (exceptions.WebSocketException, OSError) as error:
            raise self._lost(error) from error
        return frame

    def close(self) -> None:
        """Give the connection up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it is thrown away, whatever state it is in
                self._stack.close()
        self._stack = contextlib.ExitStack()

    def _lost(self, error: Exception) -> LostError:
        sent, received = getattr(error, "sent", None), getattr(error, "rcvd", None)
        self.close()
        where = f"The server {self._address.url}"
        if sent is not None and sent.code == 1009:
            return LostError(f"{where} sent a message of more than {LARGEST_REPLY // 2**20} MiB, which was not read.")
        if received is not None:
            reason = f": {received.reason}" if received.reason else ""
            return LostError(f"{where} closed the connection (code {received.code}{reason}).")
        return LostError(f"The connection to the server {self._address.url} broke: {error or type(error).__name__}.")


def shown(text: str) -> str:
    """Return a server's own text, cut to what a record should hold: its end, where a traceback says what happened."""
    text = text.strip()
    return text if len(text) <= _SHOWN else f"... {text[-_SHOWN:]}"


def _websockets() -> tuple[Any, Any]:
    try:
        import websockets.exceptions
        import websockets.sync.client
    except ModuleNotFoundError as error:
        raise UsageError("Remote policies need the package 'websockets': pip install 'motion-vla[remote]'.") from error
    return websockets.sync.client, websockets.exceptions


def too_slow(url: str, seconds: float) -> str:
    """Return that a server did not answer in time, and what to do."""
    return (
        f"The server {url} did not answer within {seconds:g} s. If its model needs longer, give --policy-args "
        "seconds=... (and first_seconds=... for the first answer)."
    )


def why_not(error: Exception, url: str, seconds: float) -> str:
    """Return why there is no connection to a URL, and what to do."""
    kind = type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"The server {url} has a certificate that this machine does not trust: {error.verify_message}. Set the "
            "environment variable SSL_CERT_FILE to a file with the certificate of its authority."
        )
    if isinstance(error, ssl.SSLError):
        return f"There is no TLS at {url} ({error.reason or error}): is it ws:// rather than wss://?"
    if isinstance(error, socket.gaierror):
        return f"There is no host of the name in {url}: {error.strerror}."
    if isinstance(error, ConnectionRefusedError):
        return f"No server listens at {url} (connection refused). Start it, or correct --policy-args url=..."
    if isinstance(error, TimeoutError):
        return f"{url} did not answer within {seconds:g} s: there is no server, a firewall, or wss:// is needed."
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"The server {url} answers HTTP {status}: it wants a token: --policy-args token_env=NAME."
    if status is not None or ": HTTP/" in str(error.__cause__):
        answers = f"it answers {status}" if status is not None else "of an old version"
        return (
            f"{url} is an HTTP server ({answers}), not a WebSocket: correct port and path, or use the policy of its "
            "wire (openvla_http)."
        )
    return f"{url} does not speak WebSocket ({kind}: {error}): correct host and port, or ws:// and wss://."

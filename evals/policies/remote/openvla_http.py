"""The wire of OpenVLA's and OpenVLA-OFT's `vla-scripts/deploy.py`: HTTP, JSON, arrays as json-numpy writes them."""

from __future__ import annotations

import base64
import http.client
import json
import math
import re
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from evals.errors import ServerError
from evals.policies.remote.link import LARGEST_REPLY, Address, LostError, Reply
from evals.policies.remote.profile import Dialect
from evals.policies.remote.websocket import shown, too_slow, why_not
from evals.types import Episode, Task

_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class OpenvlaHttpLink:
    """A connection to `POST /act`, kept open between requests.

    Args:
        address: where it is, without the path.
        dialect: "oft" for OpenVLA-OFT, whose answer is a list of arrays.
        options: further entries of every request (`unnorm_key`).
    """

    def __init__(self, address: Address, dialect: Dialect = "", options: Mapping[str, str] | None = None) -> None:
        self._address, self._dialect, self._options = address, dialect, options or {}
        self._connection: http.client.HTTPConnection | None = None

    def connect(self) -> Mapping[str, Any]:
        """Connect; such a server says nothing about itself."""
        parts = urlsplit(self._address.url)
        host, port, seconds = parts.hostname or "", parts.port, self._address.seconds
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=seconds)
        try:
            connection.connect()
        except OSError as error:
            raise ServerError(why_not(error, self._address.url, seconds)) from error
        self._connection = connection
        return {}

    def alive(self) -> bool:
        """Whether the connection was not given up; a server may close it at any time, so it is opened anew then."""
        return self._connection is not None

    def begin(self, episode: Episode, task: Task) -> None:
        """Say nothing: this wire has no episodes."""

    def infer(self, request: dict[str, Any], seconds: float) -> Reply:
        """Send an observation and return the answer's array."""
        body = json.dumps({**request, **self._options}, default=written).encode()
        status, answer = self._post(body, seconds)
        if status != 200:
            raise ServerError(
                f"The server {self._address.url} answers HTTP {status}: {shown(answer.decode(errors='replace'))}"
            )
        return Reply(self._read(answer), len(body), len(answer))

    def end(self) -> None:
        """Say nothing: this wire has no episodes."""

    def close(self) -> None:
        """Give the connection up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _post(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        """Return status and body of an answer; a connection that was closed between two requests is opened anew."""
        headers = {"Content-Type": "application/json"}
        if self._address.token:
            headers["Authorization"] = self._address.token
        for fresh in (False, True):
            try:
                return self._posted(body, headers, seconds)
            except TimeoutError as error:
                self.close()
                raise LostError(too_slow(self._address.url, seconds)) from error
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
                self.close()
                if fresh:
                    raise LostError(
                        f"The server {self._address.url} closed the connection without an answer."
                    ) from error
            except (http.client.HTTPException, OSError, ssl.SSLError) as error:
                self.close()
                raise LostError(f"{self._address.url} does not speak HTTP: {type(error).__name__}: {error}") from error
        raise AssertionError

    def _posted(self, body: bytes, headers: Mapping[str, str], seconds: float) -> tuple[int, bytes]:
        if self._connection is None:
            self.connect()
        assert self._connection is not None
        if isinstance(self._connection.sock, socket.socket):
            self._connection.sock.settimeout(seconds)
        self._connection.request("POST", urlsplit(self._address.url).path or "/act", body, dict(headers))
        response = self._connection.getresponse()
        answer, end = bytearray(), time.monotonic() + seconds
        while piece := response.read1(2**20):
            answer += piece
            if len(answer) > LARGEST_REPLY:
                self.close()
                raise LostError(
                    f"The server {self._address.url} sent more than {LARGEST_REPLY} bytes, which were not read."
                )
            if time.monotonic() > end:  # a server that sends a byte now and then
                raise TimeoutError
        response.close()  # which keeps the connection
        return response.status, bytes(answer)

    def _read(self, answer: bytes) -> npt.NDArray[Any]:
        """Return the array, or the list of arrays as one, of an answer; JSON inside a JSON string is unpacked."""
        try:
            value = json.loads(answer)
            while isinstance(value, str) and value.lstrip().startswith(("{", "[", '"')):
                value = json.loads(value)
        except (ValueError, RecursionError) as error:
            text = shown(answer[:200].decode(errors="replace"))
            raise ServerError(f"The server {self._address.url} answers what is no JSON: {text}") from error
        if isinstance(value, str):  # "error" is all that deploy.py says, with status 200
            raise ServerError(
                f"The server {self._address.url} answers {shown(value)!r}. The cause is in its log: often a wrong "
                "unnorm_key or a missing entry of the request."
            )
        try:
            return np.stack([read(entry) for entry in value]) if isinstance(value, list) else read(value)
        except (ValueError, TypeError, KeyError) as error:
            raise ServerError(f"The server {self._address.url} answers what is no array: {error}") from error


def written(value: object) -> dict[str, Any]:
    """Return an array or a number of NumPy as json-numpy writes it; what `json.dumps` cannot write otherwise.

    Raises:
        TypeError: it is neither, or does not hold plain numbers.
    """
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "biuf":
        raise TypeError(f"{type(value).__name__} cannot be sent as JSON")
    data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
    return {"__numpy__": data, "dtype": value.dtype.str, "shape": list(value.shape)}


def read(value: object) -> npt.NDArray[Any]:
    """Return the array that json-numpy wrote, or that a list of numbers is.

    Raises:
        ValueError: it is neither, or does not hold plain numbers.
    """
    if isinstance(value, (int, float, list)):
        return np.array(value, dtype=np.float64)
    if not isinstance(value, Mapping) or "__numpy__" not in value:
        raise ValueError(f"got {value!r:.100}, expected a map with __numpy__")
    dtype, shape = value.get("dtype"), value.get("shape")
    if not isinstance(dtype, str) or not _NUMBERS.fullmatch(dtype):
        raise ValueError(f"an array of dtype {dtype!r}; bool, integers and floats up to 64 bits are taken")
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 2**31 for side in shape):
        raise ValueError(f"an array of shape {shape!r}")
    data = base64.b64decode(value["__numpy__"], validate=True)
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if len(data) != expected:
        raise ValueError(f"an array of {dtype} {shape} has {len(data)} bytes, expected {expected}")
    return np.frombuffer(data, dtype).reshape(shape).copy()

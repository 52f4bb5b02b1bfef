"""The wire of openpi, and its relatives: WebSocket, msgpack with arrays marked by keys that are bytes.

Sources: openpi (`packages/openpi-client`, `src/openpi/serving/websocket_policy_server.py`), vllm-omni
(`vllm_omni/entrypoints/openpi`), starVLA (`deployment/model_server`).
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Mapping
from typing import Any

from evals.errors import ServerError
from evals.policies.remote.link import LARGEST_REPLY, Address, LostError, Reply
from evals.policies.remote.profile import Dialect
from evals.policies.remote.websocket import WebSocket, shown
from evals.serving.motion_vla_serve import WireError, decode, encode
from evals.types import Episode, Task


class OpenpiLink:
    """A connection to a server of openpi, vllm-omni or starVLA.

    Args:
        address: where it is.
        dialect: "" for openpi itself.
        options: further entries of starVLA's payload (`unnorm_key`).
    """

    def __init__(self, address: Address, dialect: Dialect = "", options: Mapping[str, str] | None = None) -> None:
        self._address, self._dialect, self._options = address, dialect, options or {}
        self._socket = WebSocket(address)
        self._requests = itertools.count(1)
        self._session = ""

    def connect(self) -> Mapping[str, Any]:
        """Connect, and return the metadata that the server sends first."""
        self._socket.open()
        try:
            greeting = self._read(self._address.seconds)[0]
        except LostError as error:
            raise LostError(f"{error} An openpi server sends its metadata at once; is this another server?") from error
        if not isinstance(greeting, Mapping):
            raise ServerError(
                f"The server {self._address.url} greets with a {type(greeting).__name__}, expected a map."
            )
        return greeting

    def alive(self) -> bool:
        """Whether the connection stands."""
        return self._socket.is_open

    def begin(self, episode: Episode, task: Task) -> None:
        """Name a fresh session (vllm-omni); openpi and starVLA know none."""
        self._session = f"{episode.id}-{uuid.uuid4().hex[:8]}"  # an episode that crashed begins again

    def infer(self, request: dict[str, Any], seconds: float) -> Reply:
        """Send an observation and return the answer."""
        message = encode(self._enveloped(request))
        started = time.perf_counter()
        try:
            self._socket.send(message)
            answer, received = self._read(seconds)
        except LostError:
            # vllm-omni closes a connection after 30 idle seconds; the session and its state stay.
            if self._dialect != "vllm-omni" or time.perf_counter() - started > 1.0:
                raise
            self.connect()
            self._socket.send(message)
            answer, received = self._read(seconds)
        opened, server_ms = self._opened(answer)
        return Reply(opened, len(message), received, server_ms)

    def end(self) -> None:
        """Say nothing: these wires have no end of an episode."""

    def close(self) -> None:
        """Give the connection up."""
        self._socket.close()

    def _enveloped(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._dialect == "vllm-omni":
            return {**request, "endpoint": "infer", "session_id": self._session}
        if self._dialect == "starvla":
            example = {**request, "image": list(request.get("image", {}).values())}
            sampling = {"do_sample": False, "use_ddim": True, "num_ddim_steps": 10}
            payload = {"examples": [example], **sampling, **self._options}
            return {"type": "infer", "request_id": str(next(self._requests)), "payload": payload}
        return request

    def _read(self, seconds: float) -> tuple[Any, int]:
        frame = self._socket.receive(seconds)
        if isinstance(frame, str):  # a traceback, and the server closes
            self._socket.close()
            raise LostError(f"The server {self._address.url} reports an error:\n{shown(frame)}")
        try:
            return decode(frame, LARGEST_REPLY), len(frame)
        except WireError as error:
            self._socket.close()
            raise LostError(f"The server {self._address.url} sent what is no openpi message: {error}") from error

    def _opened(self, answer: Any) -> tuple[Any, float | None]:  # noqa: ANN401 - what the server said
        """Take an answer out of its envelope; return it with the milliseconds that it says it took."""
        if not isinstance(answer, Mapping):
            return answer, None
        if answer.get("type") == "error" or answer.get("ok") is False or answer.get("status") == "error":
            error = answer.get("message") or answer.get("error")
            text = error.get("message", error) if isinstance(error, Mapping) else error
            raise ServerError(f"The server {self._address.url} reports an error: {shown(str(text))}")
        timing = answer.get("server_timing")
        took = timing.get("infer_ms") if isinstance(timing, Mapping) else None
        if isinstance(answer.get("data"), Mapping) and "actions" not in answer:
            answer = answer["data"]
        if "normalized_actions" in answer:
            raise ServerError(
                f"The server {self._address.url} answers normalised actions, as starVLA did before May 2025: update it."
            )
        return answer, float(took) if isinstance(took, (int, float)) else None

"""The wire of Isaac-GR00T: ZeroMQ REQ/REP, msgpack, arrays as NumPy files or as msgpack-numpy's maps.

Source: Isaac-GR00T, `gr00t/policy/server_client.py` (N1.6 answers NumPy files, N1.7 maps), `gr00t/eval/service.py`
(N1.5). NumPy files are sent, which all three read; both kinds are read. Nothing is unpickled; `kill` is never sent.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.errors import ServerError, UsageError
from evals.policies.remote.link import LARGEST_REPLY, Address, LostError, Reply
from evals.policies.remote.profile import Dialect
from evals.policies.remote.websocket import shown, too_slow
from evals.types import Episode, Task

_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class GrootLink:
    """A connection to a GR00T policy server.

    Args:
        address: where it is, tcp://HOST:PORT.
        dialect: "n1.5", whose observations are flat; "" for N1.6 and N1.7.
    """

    def __init__(self, address: Address, dialect: Dialect = "") -> None:
        self._address, self._dialect = address, dialect
        self._socket: Any = None

    def connect(self) -> Mapping[str, Any]:
        """Connect, and return the server's modality configuration."""
        zmq = _zmq()
        self._socket = zmq.Context.instance().socket(zmq.REQ)
        for option, value in ((zmq.LINGER, 0), (zmq.MAXMSGSIZE, LARGEST_REPLY), (zmq.IPV6, 1)):
            self._socket.setsockopt(option, value)
        try:
            self._socket.connect(self._address.url)
            self._ask("ping", None, self._address.seconds)
        except (zmq.ZMQError, LostError) as error:
            self.close()
            raise ServerError(
                f"No GR00T server answers at {self._address.url} within {self._address.seconds:g} s: start it, or "
                "correct --policy-args url=tcp://HOST:PORT."
            ) from error
        known = self._ask("get_modality_config", None, self._address.seconds)[0]
        return known if isinstance(known, Mapping) else {"modality_config": known}

    def alive(self) -> bool:
        """Whether the connection was not given up."""
        return self._socket is not None

    def begin(self, episode: Episode, task: Task) -> None:
        """Let the policy forget its last episode; N1.5 knows no such request."""
        if self._dialect != "n1.5":
            self._ask("reset", {"options": None}, self._address.seconds)

    def infer(self, request: dict[str, Any], seconds: float) -> Reply:
        """Send an observation and return the map of actions."""
        data = request if self._dialect == "n1.5" else {"observation": request, "options": None}
        answer, sent, received = self._ask("get_action", data, seconds)
        if isinstance(answer, list) and answer:  # the map of actions, and a map about them
            answer = answer[0]
        return Reply(answer, sent, received)

    def end(self) -> None:
        """Say nothing: this wire has no end of an episode."""

    def close(self) -> None:
        """Give the connection up; after a request without an answer the socket could not be used again."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close(linger=0)

    def _ask(self, endpoint: str, data: object, seconds: float) -> tuple[Any, int, int]:
        """Send a request; return the answer, and the bytes sent and received."""
        zmq, url = _zmq(), self._address.url
        message: dict[str, Any] = {"endpoint": endpoint}
        if data is not None:
            message["data"] = data
        if self._address.token:
            message["api_token"] = self._address.token.rpartition(" ")[2]
        packed = pack(message)
        self._socket.setsockopt(zmq.RCVTIMEO, max(1, int(1000 * seconds)))
        try:
            self._socket.send(packed)
            raw = self._socket.recv()
        except zmq.Again as error:
            self.close()
            raise LostError(too_slow(url, seconds)) from error
        except zmq.ZMQError as error:
            self.close()
            raise LostError(f"The connection to the server {url} broke: {error}.") from error
        return self._opened(raw), len(packed), len(raw)

    def _opened(self, raw: bytes) -> Any:  # noqa: ANN401 - what the server said
        if raw == b"ERROR":
            raise ServerError(f"The server {self._address.url} reports an error; its log says which.")
        try:
            answer = unpack(raw)
        except ValueError as error:
            self.close()
            raise LostError(f"The server {self._address.url} sent what is no message of this wire: {error}") from error
        if isinstance(answer, Mapping) and "error" in answer:
            raise ServerError(f"The server {self._address.url} reports an error: {shown(str(answer['error']))}")
        return answer


def pack(value: object) -> bytes:
    """Return a message, with arrays as NumPy files inside it."""
    import msgpack

    packed: bytes = msgpack.packb(value, default=_written)
    return packed


def unpack(data: bytes) -> Any:  # noqa: ANN401 - whatever a message holds
    """Return what a message holds.

    Raises:
        ValueError: it is none, or holds an extension type, an array of objects, or one that is not what it says.
    """
    import msgpack

    try:
        return msgpack.unpackb(data, raw=False, object_hook=_read, ext_hook=_refuse, timestamp=3)
    except (ValueError, TypeError, KeyError, EOFError, RecursionError, msgpack.UnpackException) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _written(value: object) -> dict[str, Any]:
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "biuf":
        raise TypeError(f"{type(value).__name__} cannot be sent to GR00T")
    file = io.BytesIO()
    np.save(file, np.asarray(value), allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def _read(found: dict[Any, Any]) -> Any:  # noqa: ANN401 - a map, an array or a number
    names = {key.decode("ascii", "replace") if isinstance(key, bytes) else key: value for key, value in found.items()}
    if "__ndarray_class__" in names:
        return _plain(np.load(io.BytesIO(names["as_npy"]), allow_pickle=False))
    if "nd" in names:
        return _array(names)
    return names


def _array(names: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Return the array, or the number as an array of no axes, that msgpack-numpy wrote."""
    kind = names.get("type")
    kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else kind
    if not isinstance(kind, str) or not _NUMBERS.fullmatch(kind):
        raise ValueError(f"an array of type {kind!r}; bool, integers and floats up to 64 bits are taken")
    shape = names.get("shape", []) if names["nd"] else []
    if not all(type(side) is int and 0 <= side < 2**31 for side in shape):
        raise ValueError(f"an array of shape {shape!r}")
    expected = math.prod(shape) * np.dtype(kind).itemsize
    if len(names["data"]) != expected:
        raise ValueError(f"an array of {kind} {shape} has {len(names['data'])} bytes, expected {expected}")
    return np.frombuffer(names["data"], kind).reshape(shape).copy()


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"an array of dtype {array.dtype}; bool, integers and floats are taken")
    return array


def _refuse(code: int, data: bytes) -> None:
    raise ValueError(f"a value of extension type {code}; none is taken")


def _zmq() -> Any:  # noqa: ANN401 - a module
    try:
        import zmq
    except ModuleNotFoundError as error:
        raise UsageError("GR00T's wire needs the package 'pyzmq': pip install 'motion-vla[remote]'.") from error
    return zmq

"""Serve a function `observation -> actions` to clients of openpi, of PyPI's `vla-eval`, and of motion-vla.

One file: copy it into the environment of a model. It needs Python >= 3.8, NumPy, msgpack >= 1.0 and websockets >= 13
(and Pillow where a client sends compressed pictures), and nothing else of the project that it comes from::

    import motion_vla_serve

    def act(observation):                  # {"observation/image": [H, W, 3] uint8, ..., "prompt": text}
        return model.predict(observation)  # [K, 7] numbers, or {"actions": [K, 7], ...}

    motion_vla_serve.serve(act, port=8000)

A model with a memory gives `serve(per_episode=make)`: `make(session)` returns the `act` of one episode. A model that
answers several observations at once keeps `Model`, for `serve_model`.

The wire "openpi" has no episodes: a connection is one, unless its requests say which (key "motion_vla", as clients of
motion-vla do when the server's first frame has that key: `{"episode": {...}, "step": n}`; step 0 begins an episode).
The wire "vla-server" of PyPI's `vla-eval` has them, and there the server keeps a chunk and gives it out row by row.

Nothing that a client sends is executed: no pickle, no extension types, and arrays of plain numbers only.
"""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import logging
import math
import os
import re
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import msgpack
import numpy as np

VERSION = 1
MAX_BYTES = 64 * 2**20  # of one message; two pictures of 1080 x 1920 are 12 MiB
_DTYPES = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")  # bool, integers and floats, as `numpy.dtype.str` writes them
_MARKERS = ("__ndarray__", "__npgeneric__", "__image__")


_LOG = logging.getLogger("motion_vla_serve")


@dataclass(frozen=True)
class Options:
    """How a model is served.

    Attributes:
        wire: "openpi" or "vla-server", the wire of PyPI's `vla-eval`.
        host: address to listen at; "0.0.0.0" is every network that this machine is in.
        port: port to listen at; 0 takes a free one.
        batch: most observations of one call of the model.
        wait_ms: how long the first observation of a batch waits for others, while clients are there that may ask.
        replan_every: "vla-server": rows of a chunk that are given out before the model is asked again; 0 is all.
        max_bytes: largest message.
        token_variable: name of an environment variable; clients then have to send its value as a bearer token.
    """

    wire: str = "openpi"
    host: str = "127.0.0.1"
    port: int = 8000
    batch: int = 1
    wait_ms: float = 0.0
    replan_every: int = 0
    max_bytes: int = MAX_BYTES
    token_variable: str = ""

    def __post_init__(self) -> None:
        """Reject a wire that there is not, numbers out of range, and a token that is not set."""
        if self.wire not in _WIRES:
            raise ValueError(f"wire is {self.wire!r}; expected one of {', '.join(_WIRES)}.")
        bounds = {"port": (0, 65535), "batch": (1, 4096), "wait_ms": (0, 60000), "replan_every": (0, 2**31)}
        for name, (low, high) in {**bounds, "max_bytes": (1024, 2**31)}.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; {low} to {high} is expected.")
        if self.token_variable and not os.environ.get(self.token_variable):
            raise ValueError(f"The environment variable {self.token_variable} holds no token: set it.")


@dataclass(frozen=True)
class Session:
    """One episode of one connection.

    Attributes:
        id: unlike that of every other session of this server.
        task: what the client says of the episode (name, suite, task_id, episode_idx, seed, ...); openpi's own
            says nothing.
    """

    id: str
    task: dict[str, Any] = field(default_factory=dict, hash=False)


class Model(Protocol):
    """What is served; it is called on one thread.

    Attributes:
        metadata: told to each client: openpi's first frame, or parts of the hello of PyPI's `vla-eval`
            (`observation_params`, `action_spec`, `observation_spec`).
    """

    metadata: dict[str, Any]

    def begin(self, session: Session) -> None:
        """Begin an episode."""

    def act(self, requests: list[tuple[Session, dict[str, Any]]]) -> list[Any]:
        """Return for each request `[K, D]` numbers, a map with them as "actions", or an error."""

    def end(self, session: Session) -> None:
        """End an episode, also one that did not begin."""


class Act(Protocol):
    """Answers one observation with `[K, D]` or `[D]` numbers, or with a map that has them as "actions"."""

    def __call__(self, observation: dict[str, Any], /) -> Any:  # noqa: ANN401 - whatever _reply takes
        """Return the answer."""


def serve(
    act: Act | None = None,
    *,
    per_episode: Callable[[Session], Act] | None = None,
    metadata: dict[str, Any] | None = None,
    **options: Any,  # noqa: ANN401 - the fields of Options, which checks them
) -> None:
    """Serve a function until the process is interrupted.

    Args:
        act: from what the client sends to `[K, D]` or `[D]` numbers, or to a map with them as "actions".
        per_episode: makes the function of one episode, for models with a memory; in place of `act`.
        metadata: see `Model`.
        options: the fields of `Options`.

    Raises:
        ValueError: an option is wrong.
        OSError: the port is taken.
    """
    if (act is None) == (per_episode is None):
        raise ValueError("serve() takes either a function `act` or `per_episode`, which makes one.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = _Functions(per_episode or (lambda session: act), metadata or {})  # type: ignore[arg-type,return-value]
    try:
        serve_model(model, Options(**options))
    except KeyboardInterrupt:
        _LOG.info("Stopped.")


def serve_model(model: Model, options: Options, started: Callable[[int], None] = lambda port: None) -> None:
    """Serve a model until the process is interrupted; `started` is told the port that is listened at."""
    asyncio.run(_listen(model, options, started))


class WireError(ValueError):
    """Bytes that are no message, or a value that no message can hold; the text says what and why."""


def encode(value: object, markers: str = "openpi") -> bytes:
    """Return a value as one message.

    Args:
        value: maps, lists, numbers, texts, bytes and arrays of bool, integers or floats.
        markers: "openpi" marks arrays by keys that are bytes, as openpi does; "vla-server" by keys that are text, as
            PyPI's `vla-eval` does, where NumPy's numbers become plain ones.

    Raises:
        WireError: it holds something else.
    """
    try:
        packed: bytes = msgpack.packb(value, default=lambda found: _marked(found, markers == "openpi"))
    except WireError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"A message cannot hold this value: {error}") from error
    return packed


def decode(data: bytes, max_bytes: int = MAX_BYTES) -> Any:  # noqa: ANN401 - whatever a message holds
    """Return the value that a message holds, with either kind of markers; arrays are writable copies.

    Raises:
        WireError: it is no such message, is longer than `max_bytes`, or holds an array that is not what it says.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise WireError(f"A message is bytes; got {type(data).__name__}.")
    if len(data) > max_bytes:
        raise WireError(f"The message has {len(data)} bytes; at most {max_bytes} are taken.")
    hooks: dict[str, Any] = {"object_hook": _unmarked, "list_hook": _plain, "ext_hook": _refuse_extension}
    try:
        return _plain([msgpack.unpackb(data, raw=False, **hooks)])[0]
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"This is no msgpack message: {type(error).__name__}: {error}") from error


def _marked(value: object, openpi: bool) -> object:
    """Return an array or a number of NumPy as what msgpack can write."""
    if not isinstance(value, (np.ndarray, np.generic)):
        raise WireError(f"A message cannot hold a {type(value).__name__}.")
    dtype = _number(value.dtype.str)
    if isinstance(value, np.ndarray):
        marked = {"__ndarray__": True, "data": value.tobytes(), "dtype": dtype.str, "shape": list(value.shape)}
    elif openpi:
        marked = {"__npgeneric__": True, "data": value.item(), "dtype": dtype.str}
    else:
        return value.item()
    return {key.encode(): part for key, part in marked.items()} if openpi else marked


def _unmarked(found: dict[Any, Any]) -> object:
    """Return a map, or the array, number or picture that its markers say it is."""
    _plain(list(found.values()))
    for marker in _MARKERS:
        for key in (marker.encode(), marker):
            if key in found:
                parts = {_text(name, "a key"): part for name, part in found.items()}
                return {"__ndarray__": _array, "__npgeneric__": _scalar, "__image__": _picture}[marker](parts)
    return found


def _array(parts: dict[str, Any]) -> np.ndarray:
    dtype, shape, data = _number(parts.get("dtype")), _shape(parts.get("shape")), parts.get("data")
    if not isinstance(data, bytes):
        raise WireError(f"An array's data are {type(data).__name__}, expected bytes.")
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        text = "An array of {} {} has {} bytes of data, expected {}."
        raise WireError(text.format(dtype.str, list(shape), len(data), expected))
    try:
        return np.ndarray(shape, dtype, data).astype(dtype.newbyteorder("="))
    except ValueError as error:
        raise WireError(f"An array of shape {list(shape)}: {error}") from error


def _scalar(parts: dict[str, Any]) -> np.generic:
    dtype, data = _number(parts.get("dtype")), parts.get("data")
    if not isinstance(data, (bool, int, float)):
        raise WireError(f"A number is {type(data).__name__}, expected a number.")
    number: np.generic = dtype.newbyteorder("=").type(data)
    if dtype.kind in "iu" and int(number) != data:  # NumPy 1 wraps without a word
        raise WireError(f"A number is {data}, which {dtype.str} cannot hold.")
    return number


def _picture(parts: dict[str, Any]) -> np.ndarray:
    """Return `[H, W, C]` uint8 from PyPI `vla-eval`'s picture: raw bytes, or a PNG or JPEG file."""
    shape, kind = _shape(parts.get("shape")), parts.get("format")
    if kind == "raw":
        return _array({"dtype": "|u1", **parts})
    if kind not in ("png", "jpeg") or not isinstance(parts.get("data"), bytes):
        raise WireError(f"A picture has format {kind!r}; bytes of raw, png or jpeg are expected.")
    try:
        from PIL import Image
    except ImportError as error:
        text = "The client sends {} pictures, which need Pillow here: pip install pillow, or let it send raw ones."
        raise WireError(text.format(kind)) from error
    try:
        with Image.open(io.BytesIO(parts["data"]), formats=[kind.upper()]) as image:
            if len(shape) < 2 or image.size != (shape[1], shape[0]) or math.prod(shape) > MAX_BYTES:
                raise WireError(f"A picture of {image.size[::-1]} is declared as {list(shape)}, or too large.")
            return np.array(image).reshape(shape)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise WireError(f"A {kind} picture cannot be read: {error}") from error


def _number(dtype: object) -> np.dtype:
    text = _text(dtype, "an array's dtype")
    if not _DTYPES.fullmatch(text):
        raise WireError(f"An array has dtype {text!r}; bool, integers and floats up to 64 bits are taken.")
    return np.dtype(text)


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise WireError(f"An array's shape is {shape!r}, expected a list of sizes.")
    if len(shape) > 32:
        raise WireError(f"An array has {len(shape)} dimensions; at most 32 are taken.")
    return tuple(shape)


def _text(value: object, what: str) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str):
        raise WireError(f"{what.capitalize()} is {value!r}, expected text.")
    return value


def _plain(values: list[Any]) -> list[Any]:
    if any(isinstance(value, msgpack.Timestamp) for value in values):
        raise WireError("The message holds a time, which is an extension type; none is taken.")
    return values


def _refuse_extension(code: int, data: bytes) -> None:
    raise WireError(f"The message holds a value of extension type {code}; none is taken.")


class _Functions:
    """Asks one function an episode."""

    def __init__(self, make: Callable[[Session], Act], metadata: dict[str, Any]) -> None:
        self._make, self.metadata = make, metadata
        self._acts: dict[str, Act] = {}

    def begin(self, session: Session) -> None:
        self._acts[session.id] = self._make(session)

    def act(self, requests: list[tuple[Session, dict[str, Any]]]) -> list[Any]:
        return [self._one(session, observation) for session, observation in requests]

    def end(self, session: Session) -> None:
        self._acts.pop(session.id, None)

    def _one(self, session: Session, observation: dict[str, Any]) -> Any:  # noqa: ANN401 - checked in _reply
        try:
            return self._acts[session.id](observation)
        except Exception as error:  # noqa: BLE001 - the border between a model and its client
            return error


class _Desk:
    """Calls the model on a thread of its own, so that pings and other clients are answered meanwhile."""

    def __init__(self, model: Model, options: Options) -> None:
        self.model, self.options, self.clients = model, options, 0
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[tuple[Session, dict[str, Any], asyncio.Future[Any]]] = deque()
        self._news = asyncio.Event()

    async def call(self, function: Callable[[Session], None], session: Session) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, function, session)

    async def ask(self, session: Session, observation: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((session, observation, future))
        self._news.set()
        answer, seconds = await future
        reply = _reply(answer)
        waited = time.perf_counter() - started - seconds
        reply["server_timing"] = {"infer_ms": 1000 * seconds, "wait_ms": 1000 * waited}
        return reply

    async def run(self) -> None:
        """Answer what waits, in the order in which it came."""
        while True:
            await self._news.wait()
            await self._wait_for_others()
            count = min(len(self._waiting), self.options.batch)
            asked = [self._waiting.popleft() for _ in range(count)]
            if not self._waiting:
                self._news.clear()
            requests = [(session, observation) for session, observation, _ in asked]
            answers, seconds = await asyncio.get_running_loop().run_in_executor(self._thread, self._act, requests)
            for (_, _, future), answer in zip(asked, answers):  # noqa: B905 - Python 3.8
                if not future.done():
                    future.set_result((answer, seconds))

    async def _wait_for_others(self) -> None:
        end = time.perf_counter() + self.options.wait_ms / 1000
        while len(self._waiting) < min(self.options.batch, self.clients):
            left = end - time.perf_counter()
            if left <= 0:
                return
            await asyncio.sleep(min(left, 0.001))

    def _act(self, requests: list[tuple[Session, dict[str, Any]]]) -> tuple[list[Any], float]:
        started = time.perf_counter()
        try:
            answers = self.model.act(requests)
            if len(answers) != len(requests):
                raise WireError(f"The model gave {len(answers)} answers to {len(requests)} observations.")
        except Exception as error:  # noqa: BLE001 - the border between a model and its client
            answers = [error] * len(requests)
        return answers, time.perf_counter() - started


class _Client:
    """One connection, and the episode that runs in it."""

    def __init__(self, socket: Any, desk: _Desk, name: str) -> None:  # noqa: ANN401 - a connection of websockets
        self.socket, self._desk, self._name = socket, desk, name
        self._next, self._running, self._episodes = Session(f"{name}.0"), False, 0
        self._rows: deque[Any] = deque()

    async def start(self, task: dict[str, Any]) -> None:
        """Begin an episode; if that fails, it is tried again with the next observation."""
        await self.end()
        self._episodes += 1
        self._next = Session(f"{self._name}.{self._episodes}", task)
        await self._begin()

    async def end(self) -> None:
        self._rows.clear()
        if self._running:
            self._running = False
            await self._desk.call(self._desk.model.end, self._next)

    async def whole(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Return the model's answer."""
        if not self._running:
            await self._begin()
        return await self._desk.ask(self._next, observation)

    async def row(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Return the next row of the chunk that is being given out, or the first of the model's next answer."""
        if self._rows:
            return {"actions": self._rows.popleft()}
        reply = await self.whole(observation)
        actions = np.atleast_2d(reply["actions"])
        self._rows.extend(actions[1 : self._desk.options.replan_every or len(actions)])
        return {**reply, "actions": actions[0]}

    def begins(self, said: dict[str, Any]) -> bool:
        """Return whether a request of motion-vla belongs to another episode than the one that runs."""
        return said.get("step") == 0 or said.get("episode") != self._next.task

    async def _begin(self) -> None:
        self._running = True  # also one that fails is ended
        try:
            await self._desk.call(self._desk.model.begin, self._next)
        except BaseException:
            await self.end()
            raise


async def _openpi(client: _Client, desk: _Desk) -> None:
    socket = client.socket
    before: dict[str, float] = {}
    await socket.send(encode({**desk.model.metadata, "motion_vla": {"version": VERSION}}))
    async for message in socket:
        started = time.perf_counter()
        try:
            observation = _map(decode(message, desk.options.max_bytes), "A request")
            said = _map(observation.get("motion_vla", {}), "motion_vla")
            if said and client.begins(said):
                await client.start(_map(said.get("episode"), "motion_vla's episode"))
            reply = await client.whole(observation)
            reply["server_timing"].update(before)
            data = encode(reply)
        except Exception as error:  # noqa: BLE001 - the border between a server and its client
            _LOG.warning("%s", _in_words(error))
            await socket.send("".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-8)))
            await socket.close(1011, "Internal server error. Traceback included in previous frame.")
            return
        await socket.send(data)
        before = {"prev_total_ms": 1000 * (time.perf_counter() - started)}


async def _vla_server(client: _Client, desk: _Desk) -> None:
    async for message in client.socket:
        kind, seq = "message", 0
        try:
            frame = _map(decode(message, desk.options.max_bytes), "A message")
            kind, seq = str(frame.get("type")), frame.get("seq", 0)
            answer = await _take(client, desk, kind, _map(frame.get("payload"), "payload"))
            data = encode(_frame(*answer, seq), "vla-server") if answer else b""
        except Exception as error:  # noqa: BLE001 - the border between a server and its client
            _LOG.warning("%s", _in_words(error))
            data = encode(_frame("error", {"error": f"{kind}_failed: {_in_words(error)}"}, seq), "vla-server")
        if data:
            await client.socket.send(data)


async def _take(client: _Client, desk: _Desk, kind: str, payload: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return type and payload of the answer to a message of PyPI's `vla-eval`, or None where it has none."""
    if kind == "hello":
        ours = {"harness_version": f"motion_vla_serve {VERSION}", "protocol_version": 1, "model_server": "motion_vla"}
        return "hello", {**ours, "capabilities": {}, **desk.model.metadata}
    if kind == "observation":
        return "action", await client.row(payload)
    if kind == "episode_start":
        await client.start(_map(payload.get("task", payload), "task"))
    elif kind == "episode_end":
        await client.end()
    elif kind != "error":
        raise WireError(f"type is {kind!r}; hello, episode_start, observation, episode_end and error are known.")
    return None


_WIRES = {"openpi": _openpi, "vla-server": _vla_server}


async def _listen(model: Model, options: Options, started: Callable[[int], None]) -> None:
    from websockets.asyncio.server import serve as listen
    from websockets.exceptions import ConnectionClosed

    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # it reports every probe of /healthz
    desk, token = _Desk(model, options), os.environ.get(options.token_variable, "")
    count = 0

    async def handle(socket: Any) -> None:  # noqa: ANN401 - a connection of websockets
        nonlocal count
        count += 1
        desk.clients += 1
        client = _Client(socket, desk, str(count))
        try:
            await _WIRES[options.wire](client, desk)
        except ConnectionClosed:
            pass
        finally:
            desk.clients -= 1
            await client.end()

    def first(connection: Any, request: Any) -> Any:  # noqa: ANN401 - websockets' own
        return _respond(connection, request, options, token)

    # No limit for pongs: a client that simulates for a minute is not gone. No Origin: not from a web page.
    rules: dict[str, Any] = {"compression": None, "max_size": options.max_bytes, "max_queue": 2}
    rules.update(ping_timeout=None, origins=[None], process_request=first)
    async with listen(handle, options.host, options.port, **rules) as server:
        port = server.sockets[0].getsockname()[1]
        _LOG.info("Listening at ws://%s:%d (wire %s)", options.host, port, options.wire)
        if options.host not in ("127.0.0.1", "::1", "localhost") and not token:
            _LOG.warning("Everyone who reaches %s can ask this model: see token_variable.", options.host)
        started(port)
        await desk.run()


def _respond(connection: Any, request: Any, options: Options, token: str) -> Any:  # noqa: ANN401 - websockets' own
    """Answer what is no WebSocket, and refuse who has no token; None goes on."""
    path, _, query = request.path.partition("?")
    if path == "/healthz":
        return connection.respond(HTTPStatus.OK, "OK\n")
    if path == "/health" and options.wire == "vla-server":
        return connection.respond(HTTPStatus.OK, '{"status": "ok"}\n')
    offered = request.headers.get("Authorization", "").rpartition(" ")[2]  # "Bearer ..." or openpi's "Api-Key ..."
    if token and not hmac.compare_digest(offered.encode(), token.encode()):
        return connection.respond(HTTPStatus.UNAUTHORIZED, "A bearer token is expected.\n")
    if path == "/config" and options.wire == "vla-server":
        config = {"max_batch_size": options.batch, "max_wait_time": options.wait_ms / 1000}
        if query:
            errors = ["batch and wait_ms are set when the server starts"]
            return connection.respond(HTTPStatus.UNPROCESSABLE_ENTITY, json.dumps({"errors": errors}) + "\n")
        return connection.respond(HTTPStatus.OK, json.dumps({"applied": {}, "config": config}) + "\n")
    return None


def _reply(answer: object) -> dict[str, Any]:
    """Return a model's answer as a map whose "actions" are finite numbers, `[D]` or `[K, D]`."""
    if isinstance(answer, Exception):
        raise answer
    reply = dict(answer) if isinstance(answer, dict) else {"actions": answer}
    try:
        actions = np.asarray(reply.get("actions"))
    except ValueError as error:
        raise WireError(f"The model's actions are no array: {error}") from error
    if actions.dtype.kind not in "iuf" or actions.ndim not in (1, 2) or not actions.size:
        raise WireError(f"The model's actions are {actions.dtype} {list(actions.shape)}, expected numbers [K, D].")
    if not np.isfinite(actions).all():
        raise WireError("The model's actions are not finite.")
    return {**reply, "actions": actions if actions.dtype.kind == "f" else actions.astype(np.float64)}


def _frame(kind: str, payload: dict[str, Any], seq: object) -> dict[str, Any]:
    return {"type": kind, "payload": payload, "seq": seq, "timestamp": time.time()}


def _map(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise WireError(f"{what} is {type(value).__name__}, expected a map with keys of text.")
    return value


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"

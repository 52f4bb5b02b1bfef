"""Serve a function `observation -> actions` to clients of openpi, of PyPI's `vla-eval`, and of motion-vla.

One file: copy it into the environment of a model. It needs Python >= 3.8, NumPy, msgpack >= 1.0 and websockets >= 13
(and Pillow where a client sends compressed pictures), and nothing else of the project that it comes from::

    import motion_vla_serve

    def act(observation):                  # {"observation/image": [H, W, 3] uint8, ..., "prompt": text}
        return model.predict(observation)  # [K, 7] numbers, or {"actions": [K, 7], ...}

    motion_vla_serve.serve(act, port=8000)

Nothing that a client sends is executed: no pickle, no extension types, and arrays of plain numbers only.
"""

from __future__ import annotations

import io
import math
import re
from typing import Any

import msgpack
import numpy as np

MAX_BYTES = 64 * 2**20  # of one message; two pictures of 1080 x 1920 are 12 MiB
_DTYPES = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")  # bool, integers and floats, as `numpy.dtype.str` writes them
_MARKERS = ("__ndarray__", "__npgeneric__", "__image__")


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

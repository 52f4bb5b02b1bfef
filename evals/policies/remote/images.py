"""What published clients do to a picture before they send it, `[H, W, 3]` uint8 RGB in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.policies.remote.profile import ImageItem
from evals.registry import load_object
from evals.types import Image

# OpenVLA's own steps; named here as a suite names its env, and imported where they are used.
_OPENVLA = "envs.libero.images"


def prepared(image: Image, item: ImageItem) -> npt.NDArray[np.uint8]:
    """Return a camera's picture as a profile's entry wants it: size, order of the axes, axes of length 1."""
    for step in item.steps:
        image = STEPS[step](image, item.size)
    laid = np.moveaxis(image, -1, 0) if item.layout == "chw" else image
    return np.ascontiguousarray(laid)[(None,) * item.axes]


def resize_with_pad(image: Image, size: tuple[int, int] | None) -> Image:
    """Resize without distortion and centre on black, byte for byte as `openpi_client.image_tools` does.

    Args:
        image: `[H, W, 3]`.
        size: height and width of the result.
    """
    height, width = _require(size)
    if image.shape[:2] == (height, width):
        return image
    ratio = max(image.shape[1] / width, image.shape[0] / height)
    inner_height, inner_width = int(image.shape[0] / ratio), int(image.shape[1] / ratio)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = _pillow(
        image, (inner_height, inner_width), "BILINEAR"
    )
    return canvas


def _stretch(image: Image, size: tuple[int, int] | None) -> Image:
    """Resize to the size by Pillow's bilinear filter, whatever the ratio of the sides (starVLA, LIBERO)."""
    return _pillow(image, _require(size), "BILINEAR")


def _area(image: Image, size: tuple[int, int] | None) -> Image:
    """Resize to the size by the mean of the area that each pixel covers, as OpenCV's INTER_AREA (starVLA, Bridge)."""
    height, width = _require(size)
    rows, columns = _covered(image.shape[0], height), _covered(image.shape[1], width)
    mean = np.einsum("oi,ijc,pj->opc", rows, image.astype(np.float64), columns, optimize=True)
    return np.asarray(np.rint(mean), np.uint8)


def _jpeg(image: Image, size: tuple[int, int] | None) -> Image:
    """Encode as JPEG and decode, as TensorFlow does."""
    return np.asarray(_openvla("jpeg_round_trip")(image))


def _lanczos3(image: Image, size: tuple[int, int] | None) -> Image:
    """Resize to a square as `tf.image.resize(method="lanczos3", antialias=True)`."""
    return np.asarray(_openvla("resize_lanczos3")(image, _require(size)[0]))


def _crop(image: Image, size: tuple[int, int] | None) -> Image:
    """Cut out the centre nine tenths of the area and scale them to a square, as OpenVLA does at test time."""
    return np.asarray(_openvla("centre_crop")(image, size=_require(size)[0]))


STEPS: Mapping[str, Callable[[Image, tuple[int, int] | None], Image]] = {
    "pad": resize_with_pad,
    "stretch": _stretch,
    "area": _area,
    "jpeg": _jpeg,
    "lanczos3": _lanczos3,
    "crop": _crop,
}


def _covered(old: int, new: int) -> npt.NDArray[np.float64]:
    """Return `[new, old]`, the part of each new pixel's length that an old pixel covers."""
    edges = np.arange(new + 1) * (old / new)
    start, end = edges[:-1, None], edges[1:, None]
    pixels = np.arange(old)[None]
    covered: npt.NDArray[np.float64] = np.clip(np.minimum(end, pixels + 1) - np.maximum(start, pixels), 0, None)
    return np.asarray(covered / covered.sum(axis=1, keepdims=True))


def _pillow(image: Image, size: tuple[int, int], how: str) -> Image:
    from PIL import Image as Pillow

    return np.asarray(Pillow.fromarray(image).resize((size[1], size[0]), resample=Pillow.Resampling[how]))


def _openvla(function: str) -> Callable[..., Any]:
    found: Callable[..., Any] = load_object(f"{_OPENVLA}:{function}")
    return found


def _require(size: tuple[int, int] | None) -> tuple[int, int]:
    assert size is not None  # profiles whose steps need one are refused without
    return size

"""What the reference protocols do to images, as pure functions of `[H, W, 3]` uint8 RGB arrays.

OpenVLA feeds its policy `centre_crop(resize_lanczos3(jpeg_round_trip(rotate_180(frame)), 224))`, with TensorFlow; the
same arithmetic is done here without it. Sources: `get_libero_image`, `resize_image` and `crop_and_resize` in
`experiments/robot/` of https://github.com/openvla/openvla, and the TensorFlow kernels they call.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from evals.types import Image

_Float32 = npt.NDArray[np.float32]

# The defaults of tf.image.encode_jpeg: quality 95, chroma subsampled 4:2:0 (Pillow's number for it is 2).
_JPEG_QUALITY = 95
_JPEG_SUBSAMPLING = 2
_LANCZOS_RADIUS = 3.0


def rotate_180(image: Image) -> Image:
    """Turn an image by 180 degrees (both axes reversed): LIBERO's cameras render upside down."""
    return np.ascontiguousarray(image[::-1, ::-1])


def jpeg_round_trip(image: Image) -> Image:
    """Encode to JPEG and decode again, since OpenVLA's training images were stored as JPEG.

    TensorFlow decodes with the fast, inexact cosine transform, which Pillow does not offer: half of the pixels differ.
    """
    import simplejpeg
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=_JPEG_SUBSAMPLING)
    return np.asarray(simplejpeg.decode_jpeg(buffer.getvalue(), fastdct=True, fastupsample=False))


def resize_lanczos3(image: Image, size: int) -> Image:
    """Resize to `[size, size, 3]` as `tf.image.resize(method="lanczos3", antialias=True)`, rounded and clipped.

    Pillow's Lanczos differs by single grey levels: it rounds between the two passes.
    """
    rows = _lanczos_weights(image.shape[0], size)
    columns = _lanczos_weights(image.shape[1], size)
    resized = np.einsum("oi,ijc->ojc", rows, image.astype(np.float32), optimize=True)
    resized = np.einsum("oj,ijc->ioc", columns, resized, optimize=True)
    return np.asarray(np.clip(np.round(resized), 0, 255), np.uint8)


def centre_crop(image: Image, area: float = 0.9, size: int = 224) -> Image:
    """Cut out the centre and scale it to `[size, size, 3]`, as OpenVLA does at test time.

    Args:
        image: `[H, W, 3]` uint8.
        area: part of the image's area that is kept, so that a side keeps its square root (0.949 for 0.9).
        size: side of the result in pixels.
    """
    margin = np.float32((1 - np.sqrt(np.float32(area))) / 2)
    fraction = image.astype(np.float32) * np.float32(1 / 255)
    fraction = _interpolate(fraction, margin, size, axis=0)
    fraction = _interpolate(fraction, margin, size, axis=1)
    # tf.image.convert_image_dtype from float to uint8 truncates 255.5 times the fraction.
    return np.asarray(np.clip(fraction * np.float32(255.5), 0, 255), np.uint8)


def _lanczos_weights(old: int, new: int) -> _Float32:
    """Return `[new, old]` weights of the input pixels in each output pixel (TensorFlow's ScaleAndTranslate)."""
    scale = np.float32(old / new)
    stretch = max(scale, np.float32(1))
    centres = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * scale
    x = np.abs(np.arange(old, dtype=np.float32)[None] + np.float32(0.5) - centres[:, None]) / stretch
    with np.errstate(divide="ignore", invalid="ignore"):
        lanczos = _LANCZOS_RADIUS * np.sin(np.pi * x) * np.sin(np.pi * x / _LANCZOS_RADIUS) / (np.pi * x) ** 2
    weights = np.where(x <= 1e-3, 1, np.where(x > _LANCZOS_RADIUS, 0, lanczos)).astype(np.float32)
    normalised: _Float32 = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def _interpolate(image: _Float32, margin: np.float32, size: int, axis: int) -> _Float32:
    """Sample `size` points linearly along an axis between its margins, corners aligned (`tf.image.crop_and_resize`)."""
    last = image.shape[axis] - 1
    step = np.float32((1 - 2 * margin) * last / (size - 1))
    where = margin * np.float32(last) + np.arange(size, dtype=np.float32) * step
    low = np.floor(where).astype(int)
    weight = (where - low).astype(np.float32)
    weight = weight[:, None, None] if axis == 0 else weight[None, :, None]
    below = np.take(image, low, axis)
    above = np.take(image, np.ceil(where).astype(int), axis)
    return np.asarray(below + (above - below) * weight, np.float32)

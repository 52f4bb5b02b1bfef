"""What the reference protocols do to images, as pure functions of `[H, W, 3]` uint8 RGB arrays."""

from __future__ import annotations

import io

import numpy as np

from evals.types import Image

# JPEG quality and chroma subsampling of tf.io.encode_jpeg's defaults (4:2:0), which OpenVLA's round trip uses.
_JPEG_QUALITY = 95
_JPEG_SUBSAMPLING = 2


def rotate_180(image: Image) -> Image:
    """Turn an image by 180 degrees (both axes reversed): LIBERO renders upside down."""
    return np.ascontiguousarray(image[::-1, ::-1])


def jpeg_round_trip(image: Image) -> Image:
    """Encode to JPEG and decode again, as OpenVLA does because its training data was stored as JPEG."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=_JPEG_SUBSAMPLING)
    return np.asarray(Pillow.open(buffer))


def resize_lanczos(image: Image, size: int) -> Image:
    """Resize to `[size, size, 3]` by Lanczos with antialiasing (three lobes), rounded and clipped."""
    from PIL import Image as Pillow

    return np.asarray(Pillow.fromarray(image).resize((size, size), Pillow.Resampling.LANCZOS))

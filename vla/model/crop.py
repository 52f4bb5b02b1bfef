"""The middle of an image, which a model that was trained on random crops sees when it acts."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import interpolate


def crop_side(size: int, area: float) -> int:
    """Return the side in pixels of a square crop of `area` (a share) of an image whose side is `size`."""
    return max(1, round(size * math.sqrt(area)))


def centre_cropped(pixels: Tensor, area: float) -> Tensor:
    """Cut the middle out of `[B, 3, H, H]` float images and scale it back to their size, bilinearly.

    Args:
        pixels: square images.
        area: share of the area that is kept; 1 returns the images as they are.
    """
    size = pixels.shape[-1]
    side = crop_side(size, area)
    if side == size:
        return pixels
    first = (size - side) // 2
    middle = pixels[..., first : first + side, first : first + side]
    return interpolate(middle, size=(size, size), mode="bilinear", align_corners=False)

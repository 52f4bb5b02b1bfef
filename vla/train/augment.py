"""Images, states and embeddings that change at random each time a step is seen; functions of seed and position.

So a resumed run, and any number of loader workers or processes, sees the same samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageEnhance

from vla.data.frames import Image
from vla.data.mixture import Mixture, View
from vla.model.crop import crop_side
from vla.train.recipe import RecipeConfig
from vla.train.sources import Shifted

_IMAGES, _STATE, _EMBEDDINGS = 11, 12, 13
"""Numbers that keep the draws of one position apart."""


@dataclass(frozen=True)
class Augmented:
    """A view of a mixture whose images are cropped and recoloured at random (OpenVLA's recipe).

    The square crop keeps a share of the area and is scaled back to the full size, then brightness, contrast, saturation
    and hue change in this order. All cameras of a sample change alike in colour and are cropped each for itself.

    Attributes:
        inner: the view whose images change.
        area: share of the area that a crop keeps; 1 for no crop.
        recipe: how far colours change.
    """

    inner: View
    area: float
    recipe: RecipeConfig

    def __call__(self, mixture: Mixture, position: int) -> tuple[Image, ...]:
        """Read the images of a sample and change them.

        Raises:
            TypeError: the inner view yields features.
        """
        images = self.inner(mixture, position)
        if not isinstance(images, tuple):
            raise TypeError("Features cannot be cropped or recoloured.")
        generator = np.random.default_rng([mixture.config.seed, position, _IMAGES])
        names = ("brightness", "contrast", "saturation")
        factors = [1 + getattr(self.recipe, name) * generator.uniform(-1, 1) for name in names]
        turn = self.recipe.hue * generator.uniform(-1, 1)
        cropped = [random_crop(image, self.area, generator) for image in images]
        if not self.recipe.jitters:
            return tuple(cropped)
        return tuple(recoloured(image, factors, turn) for image in cropped)


def training_view(shift: int, area: float, recipe: RecipeConfig) -> View | None:
    """Return what training sees of a mixture; None for its images as they are.

    Args:
        shift: largest random shift, pixels.
        area: share of the area that random crops keep; 1 for no crop.
        recipe: how far colours change.
    """
    shifted = Shifted(shift) if shift else None
    return Augmented(shifted or Mixture.images, area, recipe) if area < 1 or recipe.jitters else shifted


def random_crop(image: Image, area: float, generator: np.random.Generator) -> Image:
    """Cut a square of `area` (a share) out of a square image at random and scale it back, bilinearly."""
    size = image.shape[0]
    side = crop_side(size, area)
    top, left = generator.integers(0, size - side + 1, 2).tolist()
    if side == size:
        return image
    box = (left, top, left + side, top + side)
    return np.asarray(Pillow.fromarray(image).resize((size, size), Pillow.Resampling.BILINEAR, box=box))


def recoloured(image: Image, factors: list[float], turn: float) -> Image:
    """Multiply brightness, contrast and saturation by their factors, and turn the hue by a share of its circle."""
    picture = Pillow.fromarray(image)
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for kind, factor in zip(kinds, factors, strict=True):
        if factor != 1:
            picture = kind(picture).enhance(factor)
    if turn:
        hsv = np.array(picture.convert("HSV"))
        hsv[..., 0] = (hsv[..., 0].astype(np.int64) + round(turn * 256)) % 256
        picture = Pillow.frombytes("HSV", picture.size, hsv.tobytes()).convert("RGB")
    return np.asarray(picture)


def perturbed_state(state: NDArray[np.float32], recipe: RecipeConfig, seed: int, position: int) -> NDArray[np.float32]:
    """Return a normalised state `[S]` with noise, or zeros in its place.

    Args:
        state: normalised.
        recipe: how often it is dropped, and how strong the noise is.
        seed: of the run.
        position: of the sample in the mixture.
    """
    if not (recipe.proprio_dropout or recipe.proprio_noise):
        return state
    generator = np.random.default_rng([seed, position, _STATE])
    dropped = generator.uniform() < recipe.proprio_dropout
    noise = recipe.proprio_noise * generator.standard_normal(state.shape)
    return np.zeros_like(state) if dropped else (state + noise).astype(np.float32)


def embedding_dropout(lengths: list[int], width: int, rate: float, seed: int, positions: list[int]) -> torch.Tensor:
    """Return the factors `[B, T, width]` float16 of dropout on input embeddings: 0, or 1 / (1 - rate).

    Args:
        lengths: tokens of each row; T is the longest.
        width: of an embedding.
        rate: share that is dropped.
        seed: of the run.
        positions: of the rows' samples in the mixture.
    """
    factors = np.ones((len(lengths), max(lengths), width), dtype=np.float16)
    for row, (length, position) in enumerate(zip(lengths, positions, strict=True)):
        kept = np.random.default_rng([seed, position, _EMBEDDINGS]).random((length, width), dtype=np.float32) >= rate
        factors[row, :length] = kept / (1 - rate)
    return torch.from_numpy(factors)

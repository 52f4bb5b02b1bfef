"""Features of pictures as a few 8-bit numbers a place: their principal components.

A model that learns from them learns nothing about what they leave out. So that it is not disturbed by that at run time,
where it sees whole features, the same projection is put into its first layer when it is saved (`Basis.folded`): the
checkpoint is one like any other, and the policy sees what training saw, but for the rounding to 8 bits.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla.errors import TrainingError

SHARE = 6
"""One component is kept of so many channels: 12 times fewer bytes than 16-bit features."""

_LEVELS = 127
_FIELDS = ("mean", "axes", "steps", "kept")


@dataclass(frozen=True, eq=False)
class Basis:
    """The principal components of features.

    Attributes:
        mean: `[D]` float32.
        axes: `[K, D]` float32, orthonormal, the largest variance first.
        steps: `[K]` float32, what one level of a stored number is worth.
        kept: share of the sample's variance that is left after projection and rounding, 0 to 1.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    steps: NDArray[np.float32]
    kept: float

    @property
    def name(self) -> str:
        """Hash of the numbers."""
        return hashlib.sha256(self.mean.tobytes() + self.axes.tobytes() + self.steps.tobytes()).hexdigest()[:16]

    def compact(self, features: NDArray[np.floating]) -> NDArray[np.int8]:
        """Round the components of features `[..., D]` to `[..., K]`; what lies beyond the sample's range is clipped."""
        levels = (features.astype(np.float32) - self.mean) @ self.axes.T / self.steps
        return np.clip(np.rint(levels), -_LEVELS, _LEVELS).astype(np.int8)

    def expand(self, stored: NDArray[np.int8]) -> NDArray[np.float16]:
        """Return the features `[..., D]` that stored components `[..., K]` stand for."""
        features: NDArray[np.float16] = ((stored * self.steps) @ self.axes + self.mean).astype(np.float16)
        return features

    def folded(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a model's weights with the projection put before its first layer on features.

        For whole features the returned weights give what the given ones give for projected features.
        """
        weight, bias = weights[_WEIGHT].float(), weights[_BIAS].float()
        axes = torch.from_numpy(self.axes).to(weight.device)
        mean = torch.from_numpy(self.mean).to(weight.device)
        projected = weight @ axes.T @ axes
        moved = bias + (weight - projected) @ mean
        return {**weights, _WEIGHT: projected.to(weights[_WEIGHT].dtype), _BIAS: moved.to(weights[_BIAS].dtype)}

    def save(self, path: Path) -> None:
        """Write the basis to a file, whole or not at all."""
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as file:
            np.savez(file, mean=self.mean, axes=self.axes, steps=self.steps, kept=np.float64(self.kept))
        partial.replace(path)


_WEIGHT, _BIAS = "projector.0.weight", "projector.0.bias"


def load_basis(path: Path) -> Basis | None:
    """Read a basis, or return None if the file is missing or damaged."""
    try:
        with np.load(BytesIO(path.read_bytes())) as stored:
            mean, axes, steps, kept = (stored[name] for name in _FIELDS)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return Basis(mean, axes, steps, float(kept))


def basis_of(sample: NDArray[np.floating], components: int) -> Basis:
    """Compute the principal components of features.

    Args:
        sample: `[N, D]` features.
        components: how many are kept, at most D.

    Raises:
        TrainingError: the sample holds fewer features than components.
    """
    if len(sample) <= components:
        raise TrainingError(
            f"Compact features keep {components} components, and the data have {len(sample)} places of pictures to "
            "find them in: train on more data, or without --compact-cache."
        )
    wide = sample.astype(np.float64)
    mean = wide.mean(0)
    centred = wide - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    axes = vectors[:, ::-1][:, :components].T
    axes *= np.sign(axes[np.arange(components), np.abs(axes).argmax(1)])[:, None]
    reach = np.abs(centred @ axes.T).max(0)
    steps = np.maximum(reach, 1e-6) / _LEVELS
    rough = Basis(mean.astype(np.float32), axes.astype(np.float32), steps.astype(np.float32), 0.0)
    lost = np.square(rough.expand(rough.compact(sample)).astype(np.float64) - wide).sum()
    return replace(rough, kept=float(1 - lost / max(len(wide) * values.sum(), 1e-12)))

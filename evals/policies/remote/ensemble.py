"""Averaging the predictions that several chunks make for the same step, by how alike they are.

Source: `AdaptiveEnsembler` of CogACT, as starVLA's Bridge client uses it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evals.types import FloatArray

_SMALL = 1e-7


def blended(chunks: Sequence[FloatArray], weight: float) -> FloatArray:
    """Return the action `[1, D]` for the present step.

    Args:
        chunks: one `[K, D]` a step, the newest last; a chunk that is too short for its age does not count.
        weight: factor of the cosine between a prediction and the newest, in the exponent of its weight.
    """
    ages = range(len(chunks) - 1, -1, -1)
    predictions = np.array([chunk[age] for chunk, age in zip(chunks, ages, strict=True) if age < len(chunk)])
    newest = predictions[-1]
    cosines = predictions @ newest / (np.linalg.norm(predictions, axis=1) * np.linalg.norm(newest) + _SMALL)
    weights = np.exp(weight * cosines)
    mean: FloatArray = (weights / weights.sum()) @ predictions
    return mean[None]

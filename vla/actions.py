"""Actions as numbers a model can learn: normalisation and action tokenizers.

Two normalisations, easy to confuse: the affine one makes action tokens, the scale-only one makes motion labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla.errors import ActionDataError
from vla.statistics import CONSTANT_RANGE, GRIPPER, ActionStatistics, bounds

BINS = 256


def normalize_affine(actions: ArrayLike, statistics: ActionStatistics) -> NDArray[np.float64]:
    """Map actions to [-1, 1] for action tokens: `2 (a - q01) / (q99 - q01) - 1`, clipped.

    A dimension outside the mask (the gripper) maps [0, 1] to [-1, 1]; a constant dimension becomes 0, and one that
    moves in fewer than 1 % of the steps is mapped by its extremes (`vla.statistics.bounds`).

    Args:
        actions: `[..., 7]` in the robot's units.
        statistics: of the training set.

    Returns:
        `[..., 7]` in [-1, 1].
    """
    low, span = _affine(statistics)
    return np.clip(_scaled(np.asarray(actions, dtype=np.float64), low, span), -1, 1)


def unnormalize_affine(normalized: ArrayLike, statistics: ActionStatistics) -> NDArray[np.float64]:
    """Map `[..., 7]` in [-1, 1] back to the robot's units; a constant dimension becomes its constant."""
    low, span = _affine(statistics)
    return (np.asarray(normalized, dtype=np.float64) + 1) / 2 * span + low


def normalize_state(state: ArrayLike, statistics: ActionStatistics) -> NDArray[np.float32]:
    """Map the proprioceptive state to the model's numbers: 1 % and 99 % quantiles to -1 and 1, clipped at -2 and 2.

    Args:
        state: `[..., S]` in the data set's own layout.
        statistics: of the training set.

    Returns:
        `[..., S]`; a constant number becomes 0.

    Raises:
        ActionDataError: the statistics are of a state of another size, or of none.
    """
    values = np.asarray(state, dtype=np.float64)
    low, high = np.array(statistics.state_q01), np.array(statistics.state_q99)
    if values.shape[-1:] != low.shape:
        raise ActionDataError(
            f"The state has {values.shape[-1]} numbers, and the statistics of data set {statistics.dataset!r} hold "
            f"quantiles (proprio q01 and q99) of {len(low)}: it cannot be normalised."
        )
    return np.clip(_scaled(values, low, _variable(high - low)), -2, 2).astype(np.float32)


def normalize_scale(
    actions: ArrayLike, statistics: ActionStatistics, smallest_scale: float = 0.0, smallest_turn: float = 0.0
) -> NDArray[np.float64]:
    """Scale actions for motion labels: `a / max(|q01|, |q99|)`, clipped to [-1, 1]; zero stays zero.

    With the affine map an arm that stands still in a data set with lopsided quantiles reads as moving.

    Args:
        actions: `[..., 7]` in the robot's units.
        statistics: of the data set.
        smallest_scale: lower bound of an axis's scale, as a part of the largest one of its group (translation or
            rotation); 0 leaves every axis its own scale.
        smallest_turn: lower bound of a rotation's scale, as a multiple of the largest translation's. Both bounds keep
            the corrections of an axis that is never used from being blown up to motions.

    Returns:
        `[..., 7]` in [-1, 1]; the gripper's level is returned as it is; a dimension of scale 0 becomes 0.
    """
    array = np.asarray(actions, dtype=np.float64)
    scale = np.abs(bounds(statistics)).max(axis=0)
    scale[GRIPPER] = 1.0
    largest = scale[:3].max()
    scale[:3] = np.maximum(scale[:3], smallest_scale * largest)
    scale[3:6] = np.maximum(scale[3:6], max(smallest_scale * scale[3:6].max(), smallest_turn * largest))
    scaled: NDArray[np.float64] = np.clip(array / np.where(scale > 0, scale, 1), -1, 1)
    return np.where(scale > 0, scaled, 0.0)


@dataclass(frozen=True)
class ActionTokenizer:
    """256 equal bins of [-1, 1], 256 tokens, 256 centres; the largest round-trip error is 1/256.

    Attributes:
        first_token_id: id of `<extra_0>`, the first of 256 tokens appended at the tail of the vocabulary.
    """

    first_token_id: int = 0

    @property
    def token_names(self) -> tuple[str, ...]:
        """`<extra_0>` ... `<extra_255>`, in the order of the bins."""
        return tuple(f"<extra_{index}>" for index in range(BINS))

    def encode(self, normalized: ArrayLike) -> NDArray[np.int64]:
        """Turn values in [-1, 1] (others are clipped) into token ids of the same shape."""
        bins = np.floor((_finite(normalized) + 1) / 2 * BINS)
        return np.clip(bins, 0, BINS - 1).astype(np.int64) + self.first_token_id

    def decode(self, token_ids: ArrayLike) -> NDArray[np.float64]:
        """Turn token ids into the centres of their bins, of the same shape.

        Raises:
            ActionDataError: an id is no action token.
        """
        bins = np.asarray(token_ids) - self.first_token_id
        _check_ids(bins, 0, BINS - 1, self.first_token_id)
        return -1 + (bins + 0.5) / (BINS // 2)


@dataclass(frozen=True)
class OpenVLAActionTokenizer:
    """OpenVLA's tokenizer (prismatic/vla/action_tokenizer.py), for checkpoints that were trained with it.

    256 edges `linspace(-1, 1, 256)` make 255 bins and 255 centres; ids count down from the end of the vocabulary. The
    value 1.0 gets id `vocab_size - 256`, whose centre is that of the bin before it: the reference's off-by-one.

    Attributes:
        vocab_size: size of the language model's vocabulary, without padding rows (Llama 2: 32,000).
    """

    vocab_size: int = 32_000

    @property
    def first_token_id(self) -> int:
        """Lowest of the 256 ids."""
        return self.vocab_size - BINS

    def encode(self, normalized: ArrayLike) -> NDArray[np.int64]:
        """Turn values in [-1, 1] (others are clipped) into token ids of the same shape."""
        return self.vocab_size - np.digitize(np.clip(_finite(normalized), -1, 1), self._edges)

    def decode(self, token_ids: ArrayLike) -> NDArray[np.float64]:
        """Turn token ids into bin centres, of the same shape.

        Raises:
            ActionDataError: an id is no action token.
        """
        numbers = self.vocab_size - np.asarray(token_ids)
        _check_ids(numbers, 1, BINS, self.vocab_size)
        values: NDArray[np.float64] = self._centres[np.clip(numbers - 1, 0, BINS - 2)]
        return values

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        return np.linspace(-1, 1, BINS)

    @cached_property
    def _centres(self) -> NDArray[np.float64]:
        return (self._edges[:-1] + self._edges[1:]) / 2


AnyActionTokenizer = ActionTokenizer | OpenVLAActionTokenizer
"""Both have 256 ids from `first_token_id` on, `encode` and `decode`."""


def _affine(statistics: ActionStatistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offset and span, each `[7]`, of the affine map; span 0 marks a constant dimension."""
    mask = np.array(statistics.mask)
    low, high = bounds(statistics)
    return np.where(mask, low, 0.0), _variable(np.where(mask, high - low, 1.0))


def _variable(span: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mark what is constant by a span of 0."""
    return np.where(span < CONSTANT_RANGE, 0.0, span)


def _scaled(values: NDArray[np.float64], low: NDArray[np.float64], span: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map `low` to -1 and `low + span` to 1; where the span is 0, everything to 0."""
    return np.where(span > 0, 2 * (values - low) / np.where(span > 0, span, 1) - 1, 0.0)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ActionDataError(f"Cannot tokenize {array[index]} at index {index}: normalised actions must be finite.")
    return array


def _check_ids(numbers: NDArray[np.integer], low: int, high: int, anchor: int) -> None:
    outside = (numbers < low) | (numbers > high)
    if outside.any():
        raise ActionDataError(
            f"{int(outside.sum())} token id(s) are no action tokens (ids are counted from {anchor}): decode only what "
            "was generated where an action token must stand."
        )

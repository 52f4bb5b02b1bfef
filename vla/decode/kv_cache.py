"""A key-value cache whose rows have different lengths.

Blocks of tokens are appended for all rows at once; slots that hold padding or rejected drafts are masked, never moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


@dataclass(frozen=True)
class Block:
    """Tokens to be run for every row, padded on the right.

    Attributes:
        embedded: `[B, W, L]`.
        lengths: `[B]` int64 tokens of each row; 0 for a row that has nothing to run.
    """

    embedded: Tensor
    lengths: Tensor


@dataclass
class RaggedCache:
    """Keys and values of `B` rows.

    Attributes:
        keys_values: of `S` slots a row.
        valid: `[B, S]` bool; slots that hold a token of the row.
        lengths: `[B]` int64; tokens of each row, which is the position of its next one.
    """

    keys_values: DynamicCache
    valid: Tensor
    lengths: Tensor

    @classmethod
    def empty(cls, rows: int, device: torch.device) -> RaggedCache:
        """Make a cache without tokens."""
        valid = torch.zeros(rows, 0, dtype=torch.bool, device=device)
        return cls(DynamicCache(), valid, torch.zeros(rows, dtype=torch.int64, device=device))

    @classmethod
    def joined(cls, caches: Sequence[RaggedCache]) -> RaggedCache:
        """Make one cache with a row for each of several one-row caches, which stay as they are."""
        slots = max(cache.valid.shape[1] for cache in caches)
        together = DynamicCache()
        for layer in range(len(caches[0].keys_values.layers)):
            keys = [_padded(cache.keys_values.layers[layer].keys, slots) for cache in caches]
            values = [_padded(cache.keys_values.layers[layer].values, slots) for cache in caches]
            together.update(torch.cat(keys), torch.cat(values), layer)
        lengths = torch.cat([cache.lengths for cache in caches])
        valid = torch.arange(slots, device=lengths.device) < lengths[:, None]
        return cls(together, valid, lengths)

    def run(self, decoder: PreTrainedModel, block: Block) -> Tensor:
        """Run a block behind what the cache holds and append it; `drop` forgets wrong guesses.

        Returns:
            `[B, W, L]` hidden states; anything at padding.
        """
        width = block.embedded.shape[1]
        columns = torch.arange(width, device=self.valid.device)
        fresh = columns < block.lengths[:, None]
        causal = columns <= columns[:, None]
        seen = torch.cat([self.valid[:, None].expand(-1, width, -1), fresh[:, None] & causal], dim=2)
        dtype = block.embedded.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        mask.masked_fill_(~seen, torch.finfo(dtype).min)
        output = decoder(
            inputs_embeds=block.embedded,
            attention_mask=mask[:, None],
            position_ids=self.lengths[:, None] + columns,
            cache=self.keys_values,
            use_cache=True,
        )
        self.valid = torch.cat([self.valid, fresh], dim=1)
        self.lengths = self.lengths + block.lengths
        hidden: Tensor = output.last_hidden_state
        return hidden

    def drop(self, counts: Tensor, block: Block) -> None:
        """Forget the last tokens of the block that was run last.

        Args:
            counts: `[B]` tokens to forget, at most the block's length.
            block: that block.
        """
        width = block.embedded.shape[1]
        columns = torch.arange(width, device=self.valid.device)
        self.valid[:, -width:] = columns < (block.lengths - counts)[:, None]
        self.lengths = self.lengths - counts


def _padded(states: Tensor, slots: int) -> Tensor:
    """Pad `[1, H, S, D]` with zeros to `slots` slots."""
    missing = slots - states.shape[2]
    return torch.nn.functional.pad(states, (0, 0, 0, missing)) if missing else states

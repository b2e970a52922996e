"""Keys and values of prompt beginnings, kept between prompts and calls.

A beginning is computed in blocks of a fixed length, each block by itself on top of those before it. A block's
keys and values are therefore a function of the tokens up to its end alone: whether it is computed now or
remembered from before, the bits are the same. Input: token ids. Output: a key-value cache of one row.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence

import torch
from transformers import DynamicCache

from glassworks.foundations.causal_forward import CausalForward, mapped_cache

_BLOCK = {"cpu": 64, "cuda": 256}


class PrefixStore:
    """Keys and values of prompt beginnings, in blocks, least recently used first to go.

    block: tokens a block. capacity: tokens kept. `read` may be called from several threads.
    """

    def __init__(self, forward: CausalForward, *, block: int | None = None, capacity: int = 8192) -> None:
        self.block = block or _BLOCK.get(forward.device.type, 256)
        self.computed_tokens = 0
        self.reused_tokens = 0
        self._forward = forward
        self._capacity = capacity
        self._blocks: OrderedDict[tuple[int, ...], tuple[int, DynamicCache]] = OrderedDict()
        self._names = itertools.count(1)
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget everything: to be called where the model has changed."""
        with self._lock:
            self._blocks.clear()

    def read(self, tokens: Sequence[int]) -> DynamicCache | None:
        """The cache [1, heads, seq, dim] of `tokens`, a whole number of blocks; None for no token."""
        with self._lock:
            return self._read(tuple(tokens))

    def _read(self, tokens: tuple[int, ...]) -> DynamicCache | None:
        found, keys, parent = [], [], 0
        blocks = [tokens[start : start + self.block] for start in range(0, len(tokens), self.block)]
        for block in blocks:
            key = (parent, *block)
            if key not in self._blocks:
                break
            parent, cache = self._blocks[key]
            keys.append(key)
            found.append(cache)
        self.reused_tokens += len(found) * self.block
        running = _joined(found)
        for number, block in enumerate(blocks[len(found) :], start=len(found)):
            running = DynamicCache() if running is None else running
            first = number * self.block
            positions = torch.arange(first, first + len(block), device=self._forward.device)[None]
            ids = torch.tensor([block], device=self._forward.device)
            self._forward(ids, positions=positions, cache=running, last_only=True)
            self.computed_tokens += len(block)
            key, parent = (parent, *block), next(self._names)
            self._blocks[key] = (parent, mapped_cache(running, lambda states: states[:, :, -self.block :]))
            keys.append(key)
        for key in reversed(keys):  # a block is never older than the blocks that continue it
            self._blocks.move_to_end(key)
        while len(self._blocks) * self.block > self._capacity:
            self._blocks.popitem(last=False)
        return running


def _joined(caches: list[DynamicCache]) -> DynamicCache | None:
    """One cache from caches of consecutive blocks."""
    if not caches:
        return None
    layers = zip(*caches, strict=True)
    return DynamicCache(
        [
            (None, None)
            if parts[0][0] is None
            else (torch.cat([part[0] for part in parts], dim=2), torch.cat([part[1] for part in parts], dim=2))
            for parts in layers
        ]
    )

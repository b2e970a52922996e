"""Keys and values of prompt beginnings: shared by the rows of a batch, and kept from call to call if wished.

What is kept is computed in blocks of a fixed length, each block by itself on top of those before it. A block's
keys and values are therefore a function of the tokens up to its end alone: whether it is computed now or
remembered from before, the bits are the same. Input: token ids. Output: a key-value cache of one row.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache

from glassworks.foundations.causal_forward import CausalForward, mapped_cache

_BLOCK = {"cpu": 64, "cuda": 256}
_WORTH_SHARING = 32  # tokens; below that a pass of its own costs more than it saves
_WORTH_A_PART = 128  # tokens over all rows, for a last block that is not whole


class PrefixStore:
    """Keys and values of prompt beginnings, least recently used first to go.

    block: tokens a block. capacity: tokens kept; 0 keeps nothing, and beginnings are then computed in one piece.
    `read` may be called from several threads. computed_tokens, reused_tokens: counts since the start.
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

    def shareable(self, rows: Sequence[Sequence[int]]) -> int:
        """How many first tokens of the rows are worth a cache of their own: whole blocks, if they are kept.

        Several rows may end in a part of a block, where it spares them enough. A row alone never does, so that what
        it is computed from depends on that row only.
        """
        length = shared_prefix_length(rows)
        if self._capacity:
            part = length % self.block
            return length if part * (len(rows) - 1) >= _WORTH_A_PART else length - part
        return length if len(rows) > 1 and length >= _WORTH_SHARING else 0

    def read(self, tokens: Sequence[int]) -> DynamicCache | None:
        """The cache [1, heads, seq, dim] of `tokens`, as many as are shareable; None for no token."""
        if not self._capacity:
            running = DynamicCache() if tokens else None
            if running is not None:
                self._compute(running, tokens, first=0)
            return running
        with self._lock:
            return self._read(tuple(tokens))

    def _compute(self, running: DynamicCache, tokens: Sequence[int], *, first: int) -> None:
        """Append the keys and values of `tokens`, the first of which has place `first` in the text."""
        device = self._forward.device
        positions = torch.arange(first, first + len(tokens), device=device)[None]
        self._forward(torch.tensor([list(tokens)], device=device), positions=positions, cache=running, last_only=True)
        self.computed_tokens += len(tokens)

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
        self.reused_tokens += sum(len(block) for block in blocks[: len(found)])
        running = _joined(found)
        for number, block in enumerate(blocks[len(found) :], start=len(found)):
            running = DynamicCache() if running is None else running
            self._compute(running, block, first=number * self.block)
            key, parent = (parent, *block), next(self._names)
            self._blocks[key] = (parent, mapped_cache(running, partial(_last, length=len(block))))
            keys.append(key)
        for key in reversed(keys):  # a block is never older than the blocks that continue it
            self._blocks.move_to_end(key)
        while len(self._blocks) * self.block > self._capacity:
            self._blocks.popitem(last=False)
        return running


def shared_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows have in common, leaving every row at least one token of its own."""
    shortest = min(len(row) for row in rows) - 1
    first, last = min(rows, key=list), max(rows, key=list)
    return next((i for i in range(shortest) if first[i] != last[i]), shortest)


def _last(states: Tensor, length: int) -> Tensor:
    """The last `length` keys or values [1, heads, seq, dim], copied so that they do not keep the rest alive."""
    return states[:, :, -length:].clone()


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

"""The keys and values of prompts' first places, where gates act on nothing and nothing needs computing.

Where clean and corrupted prompt begin with the same tokens, a causal model computes the same on both: every difference
x_w - x'_w is 0 there, whatever the gates, and so is its gradient. What later places need of these first ones is what
the model's own cache holds after a plain run. Input: a model, token ids. Output: `Prefix`, and `PrefixCache`, which a
model's attention takes for its cache and which never grows. Knows no gates.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


class Prefix(NamedTuple):
    """Keys and values of each layer, [batch, kv_heads, places, head_dim] each."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def length(self) -> int:
        """How many places."""
        return self.keys[0].shape[-2]

    def row(self, at: int) -> Prefix:
        """That of one example."""
        return Prefix(*(tuple(one[at : at + 1] for one in side) for side in self))

    @classmethod
    def joined(cls, rows: list[Prefix], length: int) -> Prefix:
        """Those of several examples, cut to their first `length` places."""
        sides = (zip(*(row[side] for row in rows), strict=True) for side in (0, 1))
        return cls(*(tuple(torch.cat([one[..., :length, :] for one in layer]) for layer in side) for side in sides))


class PrefixCache(DynamicCache):
    """A cache that hands out `prefix` with what a layer adds, and keeps nothing of it. prefix: may be exchanged."""

    def __init__(self, prefix: Prefix) -> None:
        super().__init__(ddp_cache_data=list(zip(*prefix, strict=True)))
        self.prefix = prefix

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of prefix and new places together, [batch, kv_heads, places, head_dim]."""
        keys, values = (side[layer_idx] for side in self.prefix)
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def cache_argument(model: PreTrainedModel) -> str | None:
    """What the model's forward calls its cache; None where it takes none."""
    names = inspect.signature(model.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in names), None)


@torch.no_grad()
def prefix_of(model: PreTrainedModel, input_ids: Tensor, **options: Any) -> Prefix:
    """The prefix that input_ids [batch, places] leave in the model's cache. The model must take a cache."""
    cache = DynamicCache()
    model(input_ids=input_ids, use_cache=True, **{str(cache_argument(model)): cache}, **options)
    layers: list[Any] = cache.layers
    return Prefix(tuple(layer.keys for layer in layers), tuple(layer.values for layer in layers))

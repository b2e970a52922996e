"""Which token of a packed row sees which, as the masks that a Hugging Face decoder takes.

A row holds several segments. A token sees the earlier tokens of its own segment and all tokens of one other
segment, its prefix; where a layer attends within a window or a chunk, that is measured in positions, which
restart in each segment, and not in columns of the row.
Input: three integer arrays of the row (segment, prefix, position) and the model's configuration.
Output: a boolean mask for SDPA, an additive one for eager attention, a BlockMask for flex attention; one a layer
type where the layers of a model differ. Knows nothing of tokens, labels or batching.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PreTrainedConfig

from glassworks.errors import OptionError

AttentionMask = Tensor | BlockMask
Reach = Callable[[Tensor, Tensor], Tensor]
"""(position of the query, position of the key) -> whether the key is near enough; shapes broadcast."""


def everywhere(query: Tensor, key: Tensor) -> Tensor:
    """The reach of full attention: any position; shapes broadcast to the result's."""
    return torch.ones_like(query == key)


def within_window(window: int) -> Reach:
    """The reach of sliding-window attention: fewer than `window` positions back, the token itself included."""
    return lambda query, key: query - key < window


def within_chunk(chunk: int) -> Reach:
    """The reach of chunked attention: the same block of `chunk` positions, counted from position 0."""
    return lambda query, key: query // chunk == key // chunk


def layer_reaches(config: PreTrainedConfig) -> dict[str, Reach]:
    """The reach of each kind of layer of a model, by the name that its `layer_types` uses.

    A model without `layer_types` has one kind, "full_attention" or "sliding_attention". Kinds that are not
    attention (recurrent layers) are left out.
    """
    window = getattr(config, "sliding_window", None)
    chunk = getattr(config, "attention_chunk_size", None)
    reaches: dict[str, Reach] = {"full_attention": everywhere}
    if window is not None:
        reaches["sliding_attention"] = within_window(window)
    if chunk is not None:
        reaches["chunked_attention"] = within_chunk(chunk)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        kinds = ["full_attention" if window is None else "sliding_attention"]
    return {kind: reaches[kind] for kind in dict.fromkeys(kinds) if kind in reaches}


def visible(segment_ids: Tensor, prefix_ids: Tensor, position_ids: Tensor, reach: Reach = everywhere) -> Tensor:
    """Whether each token sees each other one, bool [rows, 1, width, width] (query, key).

    segment_ids, prefix_ids, position_ids: int64 [rows, width]; segment 0 is padding, which sees only itself so
    that no row of the softmax is empty. prefix_ids holds the segment seen besides the own one, or the own one.
    """
    width = segment_ids.shape[1]
    key = segment_ids[:, None, :]
    related = (segment_ids[:, :, None] == key) | (prefix_ids[:, :, None] == key)
    causal = torch.ones(width, width, dtype=torch.bool, device=segment_ids.device).tril()
    near = reach(position_ids[:, :, None], position_ids[:, None, :])
    itself = torch.eye(width, dtype=torch.bool, device=segment_ids.device)
    return ((related & (key > 0) & causal & near) | itself)[:, None]


def flex_block_mask(
    segment_ids: Tensor, prefix_ids: Tensor, position_ids: Tensor, reach: Reach = everywhere
) -> BlockMask:
    """The same relation as `visible`, as a block mask that skips blocks where no token sees another.

    segment_ids, prefix_ids, position_ids: int64 [rows, width].
    """
    rows, width = segment_ids.shape

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own, other = segment_ids[row, query], segment_ids[row, key]
        related = ((own == other) | (prefix_ids[row, query] == other)) & (other > 0)
        near = reach(position_ids[row, query], position_ids[row, key])
        return (related & (query >= key) & near) | (query == key)

    return create_block_mask(sees, rows, None, width, width, device=str(segment_ids.device))


def attention_masks(
    config: PreTrainedConfig,
    segment_ids: Tensor,
    prefix_ids: Tensor,
    position_ids: Tensor,
    dtype: torch.dtype = torch.float32,
) -> AttentionMask | dict[str, AttentionMask]:
    """What to pass a model as `attention_mask`: one mask, or one for each kind of layer where kinds differ.

    segment_ids, prefix_ids, position_ids: int64 [rows, width]; each mask [rows, 1, width, width]. dtype: of the
    activations, for the additive mask of eager attention.
    Raises OptionError if the model's attention implementation takes no mask of this kind.
    """
    implementation = config._attn_implementation or "sdpa"
    if implementation not in ("sdpa", "eager", "flex_attention"):
        raise OptionError(
            f"packed rows need attention 'sdpa', 'eager' or 'flex_attention', the model uses '{implementation}'",
            place="attn_implementation",
            remedy="Load the model with attn_implementation='sdpa'.",
        )

    def mask(reach: Reach) -> AttentionMask:
        if implementation == "flex_attention":
            return flex_block_mask(segment_ids, prefix_ids, position_ids, reach)
        seen = visible(segment_ids, prefix_ids, position_ids, reach)
        if implementation == "sdpa":
            return seen
        # The lowest finite value, not -inf: eager code may add a second mask to it.
        hidden = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=seen.device)
        return torch.where(seen, torch.zeros_like(hidden), hidden)

    masks = {kind: mask(reach) for kind, reach in layer_reaches(config).items()}
    return next(iter(masks.values())) if len(masks) == 1 else masks

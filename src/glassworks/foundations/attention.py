"""One layer's attention from separately given inputs of each head, and each head's share of what it writes.

Edge Pruning (Bhaskar et al. 2024, sections 2 and 3) feeds every head's query, key and value its own residual
stream. The model's own attention module is run with the outputs of its projections supplied, so rotary
embeddings, query and key norms, masks, sliding windows, soft-caps and attention sinks are the model's own code in
whatever implementation (eager, SDPA, flash) it was loaded with. Inputs: a Layer, normed residual streams, and the
arguments that the model gave its attention (`recompose.trace`). Gradients flow through all of it. Not safe for two
threads on one model: a module's forward is replaced while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassworks.foundations.dataflow import is_linear, linear_weight
from glassworks.foundations.parts import Attention, Layer, Projection, first_tensor


@dataclass(frozen=True)
class AttentionCall:
    """The arguments that the model gives one attention module: masks, rotary angles, flags.

    The residual stream among them is replaced by the mark INPUT, so a call holds no activation.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any], hidden_size: int) -> AttentionCall:
        """From recorded arguments; what is shaped as a residual stream [batch, seq, hidden_size] becomes INPUT."""

        def hide(value: Any) -> Any:
            stream = isinstance(value, Tensor) and value.ndim == 3 and value.shape[-1] == hidden_size
            return INPUT if stream else value

        return cls(tuple(map(hide, args)), {name: hide(value) for name, value in kwargs.items()})


INPUT = object()


class Writes(NamedTuple):
    """What attention adds to the residual stream, split so that heads.sum(2) + bias is the whole write.

    heads [batch, seq, heads, hidden]; bias broadcasts to [batch, seq, hidden]: the part of no head.
    """

    heads: Tensor
    bias: Tensor

    @property
    def total(self) -> Tensor:
        """The whole write [batch, seq, hidden]."""
        return self.heads.sum(dim=2) + self.bias


def project(projection: Projection, x: Tensor) -> Tensor:
    """Queries, keys or values [batch, seq, heads, head_dim] of each head.

    x: [batch, seq, hidden], read by all heads, or [batch, seq, heads, hidden], each head its own.
    """
    weight, bias = projection.weight, projection.bias
    if x.ndim == 3:
        flat = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
        return flat.view(*x.shape[:-1], projection.num_heads, projection.head_dim)
    out = torch.einsum("bshw,hdw->bshd", x, weight)
    return out if bias is None else out + bias


def head_outputs(
    attention: Attention, query_in: Tensor, key_in: Tensor, value_in: Tensor, call: AttentionCall
) -> Tensor:
    """Output of each query head before the output map, [batch, seq, heads, head_dim].

    query_in, key_in, value_in: the normed residual stream, [batch, seq, hidden] for all heads or
    [batch, seq, n, hidden] for each: n is num_heads for queries and num_key_value_heads for keys and values.
    Keys and values may also have n = num_heads where the model groups them: each query head then reads its own.
    call: `trace(...).attention_calls[layer]` of an input with the same batch, length and padding.
    """
    groups = attention.num_heads // attention.num_key_value_heads
    query = project(attention.query, query_in)
    ungrouped = key_in.ndim == 4 and groups > 1 and key_in.shape[2] == attention.num_heads
    if not ungrouped:
        key, value = project(attention.key, key_in), project(attention.value, value_in)
        return _attend(attention, query, key, value, call)
    # The module expects its own number of keys: run it once for the first query head of each group, once for the
    # second, and so on, and keep from each run the heads whose keys were in place.
    outputs = []
    for member in range(groups):
        key = project(attention.key, key_in[:, :, member::groups])
        value = project(attention.value, value_in[:, :, member::groups])
        outputs.append(_attend(attention, query, key, value, call)[:, :, member::groups])
    return torch.stack(outputs, dim=3).flatten(2, 3)


def head_writes(layer: Layer, heads: Tensor) -> Writes:
    """What each head adds to the residual stream; heads [batch, seq, heads, head_dim].

    Behind a post-norm (Gemma 2, OLMo 2) a head's share is o_h ⊙ g / rms(Σ o), centred per head where the norm
    centres: a norm is linear once its scale is fixed. The shares add up to the model's own normed output, since
    the rounding that is left over is divided among the heads.
    """
    attention = layer.attention
    writes = torch.einsum("bshd,whd->bshw", heads, attention.output_weight)
    bias = attention.output_bias
    total_bias = writes.new_zeros(writes.shape[-1]) if bias is None else bias
    if layer.post_attention_norm is not None:
        writes, total_bias = _through_norm(layer.post_attention_norm, writes, total_bias)
    if layer.attention_multiplier != 1.0:
        writes, total_bias = writes * layer.attention_multiplier, total_bias * layer.attention_multiplier
    return Writes(writes, total_bias)


def _through_norm(norm: nn.Module, writes: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Each head's share [batch, seq, heads, hidden] and the bias's share [batch, seq, hidden] of a norm of a sum."""
    total = writes.sum(dim=2) + bias
    normed = norm(total)
    gain, shift, centred = affine_of(norm, writes)

    def linear(x: Tensor) -> Tensor:
        return gain * (x - x.mean(dim=-1, keepdim=True) if centred else x)

    # The norm's scale at each position, read off its output: no formula of its epsilon or precision is assumed.
    direction = linear(total)
    scale = ((normed - shift) * direction).sum(-1, keepdim=True) / direction.square().sum(-1, keepdim=True)
    shares = linear(writes) * scale[:, :, None]
    bias_share = linear(bias) * scale + shift
    left_over = (normed - bias_share - shares.sum(dim=2)) / writes.shape[2]
    return shares + left_over[:, :, None], bias_share


def affine_of(norm: nn.Module, like: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Gain [hidden] up to one positive factor, shift [hidden] of a norm, and whether it subtracts the mean.

    like: any tensor with the norm's width last. Read from what the norm does to alternating signs and to a
    constant, so that a weight stored as an offset from 1, or absent, needs no case of its own.
    """
    signs = torch.ones_like(like[(0,) * (like.ndim - 1)])
    signs[1::2] = -1
    zero, constant = torch.zeros_like(signs), torch.ones_like(signs)
    plus, shift, flat = norm(torch.stack([signs, zero, constant])[None])[0]
    centred = bool((flat - shift).abs().max() < 1e-3 * (plus - shift).abs().max())
    return (plus - shift) / (signs - signs.mean() if centred else signs), shift, centred


def _attend(attention: Attention, query: Tensor, key: Tensor, value: Tensor, call: AttentionCall) -> Tensor:
    """The model's attention on given queries, keys and values, each [batch, seq, heads of its kind, head_dim]."""
    batch, length = query.shape[:2]
    caught: list[Tensor] = []

    def catch(x: Tensor) -> Tensor:
        caught.append(x)
        return _unread(x, attention.output)

    with ExitStack() as stack:
        for module, supplied in _outputs(attention, query, key, value):
            stack.enter_context(_forward_replaced(module, lambda *_, out=supplied, **__: out))
        stack.enter_context(_forward_replaced(attention.output, catch))
        stream = query.new_full((1, 1, 1), torch.nan).expand(batch, length, attention.query.weight.shape[-1])
        args = [stream if value is INPUT else value for value in call.args]
        kwargs = {name: stream if value is INPUT else value for name, value in call.kwargs.items()}
        returned = first_tensor(attention.module(*args, **kwargs))
    # BERT's output map lies outside of its attention module, which then returns the heads themselves.
    heads = caught[0] if caught else returned
    return heads.reshape(batch, length, attention.num_heads, attention.head_dim)


def _outputs(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Each projection module with the output to supply, [batch, seq, features], fused again where it is fused."""
    parts = [(attention.query, query), (attention.key, key), (attention.value, value)]
    if attention.query.module is not attention.key.module:
        return [(projection.module, x.flatten(2)) for projection, x in parts]
    fused = torch.cat([x.reshape(*x.shape[:2], p.groups, -1, p.head_dim) for p, x in parts], dim=3)
    return [(attention.query.module, fused.flatten(2))]


def _unread(x: Tensor, output: nn.Module) -> Tensor:
    """A stand-in for the output map's result: nobody reads it, so the product is not computed."""
    width = linear_weight(output).shape[0] if is_linear(output) else x.shape[-1]
    return x.new_zeros(1).expand(*x.shape[:-1], width)


@contextmanager
def _forward_replaced(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Let `module` return what `forward` returns for the duration of a block; its own hooks stay as they are."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before

"""Attention from separate inputs of each head equals textbook attention, and heads' shares add up."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from cases.tiny_models import DECODERS, random_tokens, tiny_model
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.attention import affine_of, head_outputs, head_writes, project
from glassworks.foundations.parts import Anatomy, Layer
from glassworks.foundations.recompose import Trace, trace

BATCH, LENGTH, HIDDEN = 2, 9, 32


def prepared(family: str) -> tuple[Anatomy, Layer, Trace]:
    """A tiny model's anatomy, its first layer and a trace of random tokens [2, 9]."""
    found = anatomy(tiny_model(family))
    with torch.no_grad():
        return found, found.layers[0], trace(found, random_tokens(BATCH, LENGTH))


def streams(heads: int, *, seed: int) -> Tensor:
    """Random residual streams [batch, seq, heads, hidden], one a head."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, LENGTH, heads, HIDDEN, generator=generator, dtype=torch.float64)


def textbook(scores: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
    """softmax(scores) values, [batch, seq, heads, head_dim]; scores [batch, heads, seq, seq], allowed [seq, seq]."""
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, values)


def test_gpt2_heads_that_each_read_their_own_stream() -> None:
    _, layer, run = prepared("gpt2")
    q, k, v = (streams(4, seed=seed) for seed in range(3))
    module = layer.attention.module.c_attn
    rows, bias = module.weight.T.reshape(3, 4, 8, HIDDEN), module.bias.reshape(3, 4, 8)
    made = [torch.einsum("bshw,hdw->bshd", x, rows[i]) + bias[i] for i, x in enumerate((q, k, v))]
    scores = torch.einsum("bqhd,bkhd->bhqk", made[0], made[1]) / 8**0.5
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    expected = textbook(scores, made[2], causal)
    torch.testing.assert_close(
        head_outputs(layer.attention, q, k, v, run.attention_calls[0]), expected, rtol=0, atol=1e-12
    )


def test_gemma2_heads_keep_rotary_window_and_soft_cap() -> None:
    _, layer, run = prepared("gemma2")
    attention = layer.attention
    q, k, v = streams(4, seed=0), streams(2, seed=1), streams(2, seed=2)

    def rotated(x: Tensor) -> Tensor:
        angles = torch.arange(LENGTH)[:, None] * 10000.0 ** (-torch.arange(0, 12, 2) / 12)
        cos, sin = (f(angles).repeat(1, 2)[:, None] for f in (torch.cos, torch.sin))
        return x * cos + torch.cat([-x[..., 6:], x[..., :6]], dim=-1) * sin

    made = [
        torch.einsum("bshw,hdw->bshd", x, part.module.weight.reshape(-1, 12, HIDDEN))
        for part, x in ((attention.query, q), (attention.key, k), (attention.value, v))
    ]
    queries, keys = rotated(made[0]), rotated(made[1]).repeat_interleave(2, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", queries, keys) * 10**-0.5
    distance = torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)
    expected = textbook(
        2 * torch.tanh(scores / 2), made[2].repeat_interleave(2, dim=2), (distance >= 0) & (distance < 5)
    )
    ours = head_outputs(attention, q, k, v, run.attention_calls[0])
    # The model's rotary angles and softmax are float32.
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("family", DECODERS)
def test_one_stream_for_all_heads_is_the_plain_attention(family: str) -> None:
    found, layer, run = prepared(family)
    x = torch.randn(BATCH, LENGTH, HIDDEN, dtype=torch.float64)
    copies = x[:, :, None].expand(-1, -1, 4, -1)
    few = copies[:, :, : found.num_key_value_heads]
    shared = head_outputs(layer.attention, x, x, x, run.attention_calls[0])
    separate = head_outputs(layer.attention, copies, few, few, run.attention_calls[0])
    # In some families softmax or norms over all heads are float32, where a last bit can turn.
    torch.testing.assert_close(separate, shared, rtol=0, atol=1e-6)


def test_a_head_reads_its_own_streams_only() -> None:
    """Each head's output is what all heads would give if all read that head's streams."""
    _, layer, run = prepared("qwen3")
    q, k, v = streams(4, seed=0), streams(2, seed=1), streams(2, seed=2)
    together = head_outputs(layer.attention, q, k, v, run.attention_calls[0])
    for head in range(4):
        alone = head_outputs(
            layer.attention, q[:, :, head], k[:, :, head // 2], v[:, :, head // 2], run.attention_calls[0]
        )
        torch.testing.assert_close(together[:, :, head], alone[:, :, head], rtol=0, atol=1e-6)


def test_ungrouped_keys_give_each_query_head_its_own() -> None:
    _, layer, run = prepared("llama")
    q, k, v = streams(4, seed=0), streams(4, seed=1), streams(4, seed=2)
    together = head_outputs(layer.attention, q, k, v, run.attention_calls[0])
    for head in range(4):
        alone = head_outputs(layer.attention, q[:, :, head], k[:, :, head], v[:, :, head], run.attention_calls[0])
        torch.testing.assert_close(together[:, :, head], alone[:, :, head], rtol=0, atol=1e-12)
    few_k, few_v = k[:, :, ::2], v[:, :, ::2]
    grouped = head_outputs(layer.attention, q, few_k, few_v, run.attention_calls[0])
    repeated = head_outputs(
        layer.attention, q, few_k.repeat_interleave(2, 2), few_v.repeat_interleave(2, 2), run.attention_calls[0]
    )
    torch.testing.assert_close(repeated, grouped, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3", "llama", "olmo2", "bert"])
def test_gradients_reach_every_stream(family: str) -> None:
    found, layer, run = prepared(family)
    counts = (4, found.num_key_value_heads, found.num_key_value_heads)
    inputs = [streams(n, seed=i).requires_grad_() for i, n in enumerate(counts)]
    generator = torch.Generator().manual_seed(3)
    directions = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in inputs]

    def value(step: float) -> Tensor:
        moved = [x + step * d for x, d in zip(inputs, directions, strict=True)]
        heads = head_outputs(layer.attention, moved[0], moved[1], moved[2], run.attention_calls[0])
        return head_writes(layer, heads).total.sin().sum()

    gradients = torch.autograd.grad(value(0.0), inputs)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    with torch.no_grad():
        # float32 inside (rotary, softmax, norms) bounds what a finite difference can see.
        measured = float(value(1e-3) - value(-1e-3)) / 2e-3
    assert slope == pytest.approx(measured, rel=1e-3, abs=1e-2)
    assert all(g.abs().amax(dim=(0, 1, 3)).min() > 0 for g in gradients)


@pytest.mark.parametrize("family", [*DECODERS, "bert"])
def test_heads_and_bias_add_up_to_what_attention_writes(family: str) -> None:
    _, layer, run = prepared(family)
    x = run.heads[0]
    with torch.no_grad():
        expected = layer.attention.output(x.flatten(2))
        if layer.post_attention_norm is not None:
            expected = layer.post_attention_norm(expected)
        writes = head_writes(layer, x)
    assert writes.heads.shape == (BATCH, LENGTH, 4, HIDDEN)
    torch.testing.assert_close(writes.total, expected * layer.attention_multiplier, rtol=0, atol=1e-12)
    if layer.post_attention_norm is None and layer.attention.output_bias is not None:
        torch.testing.assert_close(writes.bias, layer.attention.output_bias)


@pytest.mark.parametrize("family", ["gemma2", "olmo2"])
def test_shares_behind_a_norm_follow_the_formula(family: str) -> None:
    _, layer, run = prepared(family)
    norm = layer.post_attention_norm
    assert norm is not None
    with torch.no_grad():
        raw = torch.einsum("bshd,whd->bshw", run.heads[0], layer.attention.output_weight)
        total = raw.sum(2)
        gain = norm.weight + (1 if isinstance(norm, Gemma2RMSNorm) else 0)
        epsilon = getattr(norm, "eps", None) or norm.variance_epsilon
        rms = (total.square().mean(-1, keepdim=True) + epsilon).sqrt()
        shares = head_writes(layer, run.heads[0]).heads
    torch.testing.assert_close(shares, gain * raw / rms[:, :, None], rtol=0, atol=1e-6)


def test_shares_behind_a_norm_that_centres_and_shifts() -> None:
    _, layer, run = prepared("gpt2")
    norm = nn.LayerNorm(HIDDEN, dtype=torch.float64)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    with torch.no_grad():
        raw = torch.einsum("bshd,whd->bshw", run.heads[0], layer.attention.output_weight)
        total = raw.sum(2) + layer.attention.output_bias
        deviation = (total.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        writes = head_writes(dataclasses.replace(layer, post_attention_norm=norm), run.heads[0])
        expected = norm.weight * (raw - raw.mean(-1, keepdim=True)) / deviation[:, :, None]
    torch.testing.assert_close(writes.heads, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(writes.total, norm(total), rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", [8, 7])
def test_affine_map_of_a_norm_is_read_from_what_it_does(width: int) -> None:
    like = torch.zeros(1, 1, width, dtype=torch.float64)
    layer_norm = nn.LayerNorm(width, dtype=torch.float64)
    rms_norm, gemma_norm = LlamaRMSNorm(width).double(), Gemma2RMSNorm(width).double()
    for norm in (layer_norm, rms_norm, gemma_norm):
        nn.init.normal_(norm.weight)
    nn.init.normal_(layer_norm.bias)
    for norm, gain, centres in [
        (layer_norm, layer_norm.weight, True),
        (rms_norm, rms_norm.weight, False),
        (gemma_norm, 1 + gemma_norm.weight, False),
    ]:
        read, shift, centred = affine_of(norm, like)
        assert centred is centres
        torch.testing.assert_close(read / read[0], gain / gain[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(shift, norm.bias if centres else torch.zeros_like(shift))


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3", "qwen2"])
def test_projections_are_the_modules_own(family: str) -> None:
    _, layer, _ = prepared(family)
    x = torch.randn(BATCH, LENGTH, HIDDEN, dtype=torch.float64)
    for part in (layer.attention.query, layer.attention.key, layer.attention.value):
        own = part.module(x).reshape(BATCH, LENGTH, part.groups, part.slots, part.head_dim)
        expected = own[:, :, :, part.start : part.stop].flatten(2, 3)
        torch.testing.assert_close(project(part, x), expected, rtol=0, atol=1e-12)
        copies = x[:, :, None].expand(-1, -1, part.num_heads, -1)
        torch.testing.assert_close(project(part, copies), expected, rtol=0, atol=1e-12)


def test_hooks_on_the_output_map_still_act_and_a_failure_leaves_no_trace() -> None:
    """Gates are pre-hooks on the output map: they act on separately read heads too."""
    _, layer, run = prepared("llama")
    x, attention = torch.randn(BATCH, LENGTH, HIDDEN, dtype=torch.float64), layer.attention
    plain = head_outputs(attention, x, x, x, run.attention_calls[0])
    handle = attention.output.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    torch.testing.assert_close(head_outputs(attention, x, x, x, run.attention_calls[0]), plain * 2)
    handle.remove()
    broken = attention.module.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        head_outputs(attention, x, x, x, run.attention_calls[0])
    broken.remove()
    assert not any("forward" in vars(module) for module in attention.module.modules())

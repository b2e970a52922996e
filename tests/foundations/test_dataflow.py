"""Sums of tensors are solved for their numbers; recordings say who read what, and leave no hook behind."""

from __future__ import annotations

import pytest
import torch
from cases.tiny_models import random_tokens, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from glassworks.foundations.dataflow import (
    Unexplained,
    coefficients,
    evaluating,
    is_norm,
    linear_weight,
    record,
    same,
)


def terms(n: int, *, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """n random tensors [2, 9, 16]."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 9, 16, generator=generator, dtype=torch.float64).to(dtype) for _ in range(n)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-8, 8).filter(lambda x: abs(x) > 0.01), min_size=1, max_size=3))
def test_coefficients_are_found(numbers: list[float]) -> None:
    parts = terms(len(numbers))
    target = sum((c * part for c, part in zip(numbers, parts, strict=True)), torch.zeros(2, 9, 16).double())
    assert coefficients(target, parts) == pytest.approx(numbers, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_numbers_of_the_configuration_are_found_exactly_through_rounding(dtype: torch.dtype) -> None:
    a, b = terms(2, dtype=dtype)
    assert coefficients(a + b, [a, b]) == [1.0, 1.0]
    assert coefficients(a + 0.22 * b, [a, b], [0.4, 0.22, 12.0]) == [1.0, 0.22]


def test_a_channel_a_thousand_times_the_others_hides_nothing() -> None:
    a, b = terms(2, dtype=torch.float32)
    a[..., 3] *= 3000
    assert coefficients(a + 0.22 * b, [a, b], [0.22]) == [1.0, 0.22]


def test_what_is_no_sum_is_none() -> None:
    a, b = terms(2)
    assert coefficients(a.tanh(), [a, b]) is None
    assert coefficients(a, [a[..., :8]]) is None
    assert coefficients(a, [a[:, :-1]]) is None
    assert coefficients(a[0], [a[0]]) is None


def test_same_compares_values_and_shapes() -> None:
    a = torch.randn(2, 3)
    assert same(a, a.clone())
    assert not same(a, a + 1e-6)
    assert not same(a, a[None])
    assert not same(a, None)


def test_norms_and_linear_maps_are_told_by_what_they_are() -> None:
    assert is_norm(nn.LayerNorm(4))
    assert not is_norm(nn.Linear(4, 4))
    conv = Conv1D(3, 5)
    assert linear_weight(conv).shape == (3, 5)
    assert torch.equal(linear_weight(conv), conv.weight.T)


def test_a_recording_knows_order_and_values() -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        seen = record(model, {"input_ids": random_tokens(2, 7), "use_cache": False})
    assert seen is not None
    first, second = model.model.layers[0], model.model.layers[1]
    assert same(seen.once(first).output, seen.once(second).read)
    assert same(seen.once(first.input_layernorm).output, seen.once(first.self_attn.q_proj).read)
    assert [call.name for call in seen.before(first)] == ["model.embed_tokens", "model.rotary_emb"]
    assert all(call.name.startswith("model.layers.0.") for call in seen.inside(first))
    assert [call.name for call in seen.after(model.model.norm)] == ["lm_head"]
    outermost = seen.outermost(first, [first.self_attn])
    assert [call.name.rpartition(".")[2] for call in outermost] == [
        "input_layernorm",
        "post_attention_layernorm",
        "mlp",
    ]
    with pytest.raises(Unexplained, match="exactly once"):
        seen.once(nn.Linear(1, 1))
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_and_modes_are_restored_after_a_failure() -> None:
    model = tiny_model("llama").train()
    model.lm_head.eval()
    with pytest.raises(IndexError), evaluating(model):
        assert not model.training
        record(model, {"input_ids": torch.full((1, 2), 10_000)})
    assert model.training
    assert not model.lm_head.training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_term_that_is_zero_throughout_counts_once() -> None:
    a = torch.randn(2, 6, 8, dtype=torch.float64)
    assert coefficients(a, [a, torch.zeros_like(a)]) == [1.0, 1.0]

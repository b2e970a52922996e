"""The forward pass from parts is the model's own, and a part that is wrong is noticed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from cases.tiny_models import FAMILIES, PAD_TOKEN, random_tokens, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.dataflow import Unexplained
from glassworks.foundations.parts import Anatomy
from glassworks.foundations.recompose import TOLERANCE, recompose, self_check, trace


def difference(found: Anatomy, tokens: torch.Tensor, **inputs: Any) -> float:
    """Largest difference between recomposed and own logits on tokens [batch, seq]."""
    with torch.no_grad():
        run = trace(found, tokens, activations=False, **inputs)
        return float((recompose(found, run) - found.model(tokens, **inputs).logits).abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_recomposed_logits_equal_the_models(family: str) -> None:
    found = anatomy(tiny_model(family))
    assert found.difference is not None
    assert found.difference <= 1e-10
    assert difference(found, random_tokens(3, 17, seed=5)) <= 1e-10


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt2", "gpt_neox", "bert", "roberta_classifier"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_input_recomposes(family: str, side: str) -> None:
    # Gemma 2's softmax is float32, where a float64 mask is infinite and a wholly masked row not a number.
    dtype, allowed = (torch.float32, 1e-5) if family == "gemma2" else (torch.float64, 1e-10)
    found = anatomy(tiny_model(family, dtype=dtype))
    tokens, mask = random_tokens(3, 11), torch.ones(3, 11, dtype=torch.long)
    for row, padding in enumerate((0, 3, 6)):
        where = slice(0, padding) if side == "left" else slice(11 - padding, None)
        mask[row, where] = 0
    tokens = tokens.masked_fill(mask == 0, 1 if "roberta" in family else PAD_TOKEN)
    assert difference(found, tokens, attention_mask=mask) <= allowed


def test_pairs_of_segments_and_given_positions_recompose() -> None:
    tokens = random_tokens(2, 9)
    segments = (torch.arange(9) > 4).long().expand(2, -1)
    assert difference(anatomy(tiny_model("bert")), tokens, token_type_ids=segments) <= 1e-10
    positions = torch.arange(7, 16).expand(2, -1)
    for family in ("gpt2", "llama"):
        assert difference(anatomy(tiny_model(family)), tokens, position_ids=positions) <= 1e-10


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_classifiers_over_decoders_read_the_last_token_before_padding(family: str) -> None:
    model = tiny_model(family, task="sequence_classification", num_labels=3, pad_token_id=PAD_TOKEN)
    found = anatomy(model)
    assert found.head.pooling == "last"
    tokens = random_tokens(3, 8)
    tokens[1, 5:] = PAD_TOKEN
    assert difference(found, tokens, attention_mask=(tokens != PAD_TOKEN).long()) <= 1e-10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_each_implementation_of_attention_is_called(family: str, attention: str) -> None:
    if (family, attention) == ("gemma2", "sdpa"):
        pytest.skip("SDPA has no soft-cap, so transformers refuses it")
    model = tiny_model(family, dtype=torch.float32)
    model.set_attn_implementation(attention)
    found = anatomy(model)
    assert found.difference is not None
    assert found.difference <= 1e-4


@pytest.mark.parametrize("family", ["gpt2", "llama", "granite", "gemma2", "olmo2", "bert"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_like_full(family: str, dtype: torch.dtype) -> None:
    half, full = anatomy(tiny_model(family, dtype=dtype)), anatomy(tiny_model(family))
    assert half.layers[1].attention_multiplier == full.layers[1].attention_multiplier
    assert (half.head.scale, half.head.soft_cap) == (full.head.scale, full.head.soft_cap)
    assert half.embedding.scales == full.embedding.scales


@settings(max_examples=12, deadline=None)
@given(
    heads=st.sampled_from([1, 2, 3, 6]),
    groups=st.sampled_from([1, 2, 3]),
    head_dim=st.sampled_from([2, 4, 10]),
    layers=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_any_number_of_heads_and_layers(heads: int, groups: int, head_dim: int, layers: int, seed: int) -> None:
    key_heads = heads // groups if heads % groups == 0 else heads
    model = tiny_model(
        "llama",
        seed=seed,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=head_dim,
        num_hidden_layers=layers,
        hidden_size=30,
    )
    found = anatomy(model)
    assert (found.num_layers, found.num_heads, found.num_key_value_heads) == (layers, heads, key_heads)
    assert difference(found, random_tokens(2, 7, seed=seed)) <= 1e-10


def altered(found: Anatomy, **changes: Any) -> Anatomy:
    """The anatomy with its second layer changed."""
    layers = list(found.layers)
    layers[1] = dataclasses.replace(layers[1], **changes)
    return dataclasses.replace(found, layers=tuple(layers))


TOKENS = random_tokens(1, 12).expand(2, -1)


def test_a_wrong_multiplier_is_noticed() -> None:
    granite = anatomy(tiny_model("granite"))
    assert self_check(granite, TOKENS) <= 1e-10
    wrong = {
        "attention": altered(granite, attention_multiplier=0.41),
        "mlp": altered(granite, mlp_multiplier=0.41),
        "embedding": dataclasses.replace(granite, embedding=dataclasses.replace(granite.embedding, scales=(3.1,))),
        "head": dataclasses.replace(granite, head=dataclasses.replace(granite.head, scale=0.41)),
    }
    for anatomy_with_fault in wrong.values():
        with pytest.raises(Unexplained, match=r"logits differ by [0-9.e-]+ \(allowed 1"):
            self_check(anatomy_with_fault, TOKENS)


@pytest.mark.parametrize(
    ("family", "missing"),
    [
        ("llama", "pre_attention_norm"),
        ("gemma2", "post_attention_norm"),
        ("olmo2", "post_mlp_norm"),
        ("bert", "attention_sum_norm"),
    ],
)
def test_a_forgotten_norm_is_noticed(family: str, missing: str) -> None:
    with pytest.raises(Unexplained, match="do not recompose"):
        self_check(altered(anatomy(tiny_model(family)), **{missing: None}), TOKENS)


def test_wrong_wiring_and_a_forgotten_soft_cap_are_noticed() -> None:
    with pytest.raises(Unexplained, match="do not recompose"):
        self_check(altered(anatomy(tiny_model("gpt_neox")), parallel=False), TOKENS)
    gemma = anatomy(tiny_model("gemma2"))
    with pytest.raises(Unexplained, match="do not recompose"):
        self_check(dataclasses.replace(gemma, head=dataclasses.replace(gemma.head, soft_cap=None)), TOKENS)


def test_swapped_projections_are_noticed() -> None:
    found = anatomy(tiny_model("gpt2"))
    attention = found.layers[1].attention
    for one, other in (("query", "key"), ("key", "value"), ("query", "value")):
        swapped = {one: getattr(attention, other), other: getattr(attention, one)}
        with pytest.raises(Unexplained):
            self_check(altered(found, attention=dataclasses.replace(attention, **swapped)), TOKENS)


def test_fused_projections_cut_in_the_wrong_order_recompose_and_are_noticed_all_the_same() -> None:
    """The logits cannot tell, since what is cut wrongly is joined again; moving one head can."""
    found = anatomy(tiny_model("gpt_neox"))
    attention = found.layers[1].attention
    concatenated = {
        name: dataclasses.replace(getattr(attention, name), groups=1, start=4 * i, stop=4 * i + 4, slots=12)
        for i, name in enumerate(("query", "key", "value"))
    }
    wrong = altered(found, attention=dataclasses.replace(attention, **concatenated))
    assert difference(wrong, TOKENS) <= 1e-10
    with pytest.raises(Unexplained, match="slice of head"):
        self_check(wrong, TOKENS)


@pytest.mark.parametrize("family", ["gpt2", "phi3", "olmo2", "gemma2", "bert"])
def test_a_trace_holds_what_the_parts_wrote(family: str) -> None:
    model, tokens = tiny_model(family), random_tokens(2, 9)
    found = anatomy(model)
    with torch.no_grad():
        run = trace(found, tokens)
        assert torch.equal(run.logits, model(tokens).logits)
    assert [tuple(x.shape) for x in run.heads] == [(2, 9, 4, found.layers[0].attention.head_dim)] * 3
    assert [tuple(x.shape) for x in run.mlps] == [(2, 9, 32)] * 3
    assert len(run.attention_calls) == 3
    assert not any(hooks for module in model.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks))


def test_tolerances_are_those_promised() -> None:
    assert TOLERANCE[torch.float32] == 1e-4
    assert TOLERANCE[torch.bfloat16] == 5e-2

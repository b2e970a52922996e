"""Shapes and numbers that could be mistaken for others are not."""

from __future__ import annotations

import pytest
import torch
from cases.tiny_models import tiny_model
from transformers import AutoConfig

from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.discovery import numbers_of, soft_caps_of


def test_an_mlp_shaped_like_a_fused_projection_is_not_one() -> None:
    """OPT's first MLP map, 32 to 48, has the shape of 4 queries, 1 key and 1 value of size 8."""
    found = anatomy(tiny_model("opt", ffn_dim=48, word_embed_proj_dim=32))
    assert found.name_of(found.layers[0].attention.module) == "model.decoder.layers.0.self_attn"
    assert found.name_of(found.mlp_output(0)) == "model.decoder.layers.0.fc2"


def test_sums_made_in_place_and_residuals_added_inside_modules_are_seen_through() -> None:
    falcon, bloom = anatomy(tiny_model("falcon")), anatomy(tiny_model("bloom"))
    assert falcon.layers[0].parallel
    assert falcon.num_key_value_heads == 1
    assert bloom.name_of(bloom.mlp_output(2)) == "transformer.h.2.mlp.dense_4h_to_h"
    assert bloom.layers[0].attention.query.groups == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_multipliers_written_as_whole_numbers_are_found_exactly(dtype: torch.dtype) -> None:
    found = anatomy(tiny_model("granite", dtype=dtype, embedding_multiplier=12, logits_scaling=8))
    assert found.embedding.scales == (12.0,)
    assert found.head.scale == 1 / 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_soft_cap_far_above_the_logits_is_still_found(dtype: torch.dtype) -> None:
    found = anatomy(tiny_model("gemma2", dtype=dtype, final_logit_softcapping=30.0, attn_logit_softcapping=50.0))
    assert (found.head.soft_cap, found.head.scale) == (30.0, 1.0)


def test_experts_in_half_precision_are_judged_by_most_positions() -> None:
    """A router that sends one token elsewhere is rounding, not a wrong part."""
    found = anatomy(tiny_model("mixtral", dtype=torch.bfloat16))
    assert found.difference is not None


def test_heads_of_classifiers() -> None:
    modernbert = anatomy(tiny_model("modernbert", task="sequence_classification", num_labels=3))
    assert modernbert.head.pooling == "first"
    bert = anatomy(tiny_model("bert_classifier"))
    assert bert.head.pooling == "none"


def test_numbers_of_a_configuration() -> None:
    config = AutoConfig.for_model(
        "gemma2", final_logit_softcapping=30.0, attn_logit_softcapping=50.0, rms_norm_eps=1e-6, use_cache=True
    )
    assert soft_caps_of(config) == [30.0]
    assert {30.0, 50.0, 1e-6} <= set(numbers_of(config))

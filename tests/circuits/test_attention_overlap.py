"""Overlap of attention by hand, and on a model whose attention implementation must be put back."""

import pytest
import torch
from cases.tiny_models import tiny_model

from glassworks.circuits.attention_overlap import attended, overlap_score
from glassworks.circuits.sentence_pairs import Example
from glassworks.circuits.toy_inference import toy_tokenizer, toy_training
from glassworks.errors import DataError


def test_score_by_hand() -> None:
    attention = torch.zeros(1, 1, 4, 4)
    attention[0, 0, 2] = torch.tensor([0.7, 0.1, 0.1, 0.1])  # equal to token 0
    attention[0, 0, 3] = torch.tensor([0.2, 0.4, 0.2, 0.2])  # equal to none
    attention[0, 0, 0] = torch.tensor([0.0, 0.0, 0.5, 0.5])
    attention[0, 0, 1] = torch.tensor([0.0, 0.0, 0.2, 0.2])
    score = overlap_score(attention, [5, 6, 5, 7], [0, 0, 1, 1])
    assert score.item() == pytest.approx((0.7 + 0.5) / 2 - (0.3 + 0.2) / 2)
    assert overlap_score(attention, [5, 6, 8, 7], [0, 0, 1, 1]).isnan().all()


def test_of_a_model() -> None:
    model = tiny_model("bert_classifier", dtype=torch.float32)
    before = model.config._attn_implementation
    pairs = toy_training(6, 0)
    found = attended(model, toy_tokenizer(), pairs)
    assert found.overlap.shape == found.counterfactual.shape == (6, 3, 4)
    assert bool(found.counterfactual.isfinite().any())
    assert model.config._attn_implementation == before
    again = attended(model, toy_tokenizer(), pairs)
    torch.testing.assert_close(found.counterfactual, again.counterfactual, equal_nan=True)
    with pytest.raises(DataError, match="needs pairs"):
        attended(model, toy_tokenizer(), [Example("x", None, 0)])

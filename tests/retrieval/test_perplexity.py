"""Perplexity against transformers' own loss, and speeds that are positive and ordered."""

from __future__ import annotations

import math

import pytest
import torch
from cases.tiny_models import tiny_model
from cases.tiny_tokenizers import BYTE_VOCABULARY, byte_tokenizer

from glassworks.foundations.generation import LocalModel
from glassworks.retrieval.perplexity import measure_throughput, perplexity

TEXTS = ["Nairobi is the capital of Kenya.", "Glass is made of sand.", "é" * 9, "x"]


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel(tiny_model("llama", vocab_size=BYTE_VOCABULARY), byte_tokenizer())


def test_perplexity_is_that_of_the_models_own_loss(model: LocalModel) -> None:
    nats, tokens = 0.0, 0
    for text in TEXTS:
        ids = torch.tensor([model.encode(text)])
        nats += model.model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    found = perplexity(model, TEXTS)
    assert found.per_token.value == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert found.tokens == tokens
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / sum(len(t.encode()) for t in TEXTS), rel=1e-5)
    assert found.per_token.interval.low < found.per_token.value < found.per_token.interval.high


def test_one_text_has_no_spread(model: LocalModel) -> None:
    estimate = perplexity(model, TEXTS[:1]).per_token
    assert (estimate.interval.low, estimate.interval.high, estimate.n) == (estimate.value, estimate.value, 1)


def test_speeds_are_medians_within_their_range(model: LocalModel) -> None:
    speed = measure_throughput(model, TEXTS[:3])
    assert speed.rows == 3
    for estimate, repeats in ((speed.read, 3), (speed.written, 5)):
        assert 0 < estimate.interval.low <= estimate.value <= estimate.interval.high
        assert estimate.n == repeats

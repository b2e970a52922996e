"""Vectors are what the model by hand gives: its pooling, prompts and limit, in any batch."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cases.sentence_encoders import WORDS, write_encoder
from sentence_transformers import SentenceTransformer
from transformers import BertModel, BertTokenizerFast

from glassworks.errors import NotAModel
from glassworks.foundations.packaged import packaged_path
from glassworks.retrieval.encoders import Encoder, HashingEncoder, open_encoder
from glassworks.retrieval.sentence_encoder import SentenceEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def test_sentence_encoder_equals_mean_pooling_by_hand(folder: Path) -> None:
    encoder = SentenceEncoder(str(folder), device="cpu")
    bert, tokenizer = BertModel.from_pretrained(folder).eval(), BertTokenizerFast.from_pretrained(folder)
    texts = ["cat sat", "the red car drives fast"]
    batch = tokenizer([f"passage : {text}" for text in texts], padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = bert(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    np.testing.assert_allclose(encoder.encode_passages(texts), expected.numpy(), atol=1e-6)
    queries = encoder.encode_queries(texts)
    assert not np.allclose(queries, expected.numpy(), atol=1e-3)  # the query prompt is another
    assert isinstance(encoder, Encoder)


def test_batches_do_not_change_vectors(folder: Path) -> None:
    texts = [" ".join(WORDS[: 1 + i % 12]) for i in range(40)]
    one, many = (SentenceEncoder(str(folder), device="cpu", batch_size=size).encode_passages(texts) for size in (1, 16))
    np.testing.assert_allclose(one, many, atol=1e-6)
    assert SentenceEncoder(str(folder), device="cpu").encode_passages([]).shape == (0, 16)


def test_what_is_longer_than_the_model_reads_is_counted(folder: Path) -> None:
    encoder = SentenceEncoder(str(folder), device="cpu")
    encoder.encode_passages(["cat " * 30, "cat", "dog " * 30])
    assert encoder.truncated == 2


def test_signature_follows_weights_and_prompts_but_not_the_place(folder: Path, tmp_path: Path) -> None:
    signature = SentenceEncoder(str(folder), device="cpu").signature
    assert "mean" in signature
    assert "passage : " in signature
    shutil.copytree(folder, tmp_path / "moved")
    assert SentenceEncoder(str(tmp_path / "moved"), device="cpu").signature == signature
    changed = SentenceTransformer(str(folder), device="cpu", prompts={"query": "other"})
    changed.save(str(tmp_path / "prompts"))
    assert SentenceEncoder(str(tmp_path / "prompts"), device="cpu").signature != signature
    assert SentenceEncoder(str(folder), device="cpu", precision="bfloat16").signature != signature
    assert HashingEncoder(8).signature != HashingEncoder(9).signature


def test_bfloat16_agrees_with_float32(folder: Path) -> None:
    texts = [" ".join(WORDS[: 1 + i]) for i in range(8)]
    full, half = (
        SentenceEncoder(str(folder), device="cpu", precision=precision).encode_passages(texts)
        for precision in ("float32", "bfloat16")
    )
    assert half.dtype == np.float32
    assert (full * half).sum(axis=1).min() > 0.995


@pytest.mark.real_model
def test_minilm_knows_paraphrases(caplog: pytest.LogCaptureFixture) -> None:
    packaged_path("packaged:minilm")
    with caplog.at_level(logging.WARNING):
        encoder = open_encoder("packaged:minilm", device="cpu")
    (query,) = encoder.encode_queries(["Who wrote Hamlet?"])
    near, far = encoder.encode_passages(["The author of that Danish tragedy is Shakespeare.", "Rain falls in autumn."])
    assert encoder.dimension == 384
    assert query @ near > query @ far + 0.2


def test_pooling_is_the_models_own(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, pooling="cls")
    bert, tokenizer = BertModel.from_pretrained(folder).eval(), BertTokenizerFast.from_pretrained(folder)
    with torch.inference_mode():
        first = bert(**tokenizer(["query : the cat sat"], return_tensors="pt")).last_hidden_state[:, 0]
    encoder = SentenceEncoder(str(folder), device="cpu")
    expected = torch.nn.functional.normalize(first, dim=-1).numpy()
    np.testing.assert_allclose(encoder.encode_queries(["the cat sat"]), expected, atol=1e-6)
    assert "/cls/" in encoder.signature


def test_a_folder_that_no_encoder_can_be_made_of_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "torn")
    (tmp_path / "torn" / "modules.json").write_text("[{")
    with pytest.raises(NotAModel, match=r"torn: sentence-transformers cannot load it .*packaged:minilm"):
        SentenceEncoder(str(tmp_path / "torn"), device="cpu")

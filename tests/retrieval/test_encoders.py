"""Vectors are unit, the same every time and for every batch; signatures change when vectors would."""

from __future__ import annotations

import logging
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as parts
from transformers import BertConfig, BertModel, BertTokenizerFast

from glassworks.errors import ModelError, OptionError
from glassworks.foundations.packaged import packaged_path
from glassworks.retrieval.encoders import Encoder, HashingEncoder, instructed, open_encoder
from glassworks.retrieval.sentence_encoder import SentenceEncoder

WORDS = "the a cat dog sat on mat red blue car drives fast to moon query passage : . ,".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder of a random two-layer BERT that reads 16 tokens and has prompts."""
    base = tmp_path_factory.mktemp("encoder")
    vocabulary = base / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=32)  # fmt: skip
    BertModel(config).save_pretrained(base / "bert")
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(base / "bert")
    transformer = parts.Transformer(str(base / "bert"), max_seq_length=16)
    model = SentenceTransformer(
        modules=[transformer, parts.Pooling(16, pooling_mode="mean")],
        prompts={"query": "query : ", "document": "passage : "},
        device="cpu",
    )
    model.save(str(base / "model"))
    return base / "model"


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5), st.integers(1, 64))
@settings(deadline=None)
def test_hashed_vectors_are_unit_for_any_text(texts: list[str], dimension: int) -> None:
    vectors = HashingEncoder(dimension).encode_passages(texts)
    assert vectors.shape == (len(texts), dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_hashing_is_the_same_on_every_machine() -> None:
    vector = HashingEncoder(4).encode_passages(["ab"])[0]
    places = [zlib.crc32(feature) % 4 for feature in (b"ab", b"\x02ab", b"ab\x03")]
    expected = np.sqrt(np.bincount(places, minlength=4))
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-7)


def test_hashing_brings_similar_spelling_close() -> None:
    near, far, query = HashingEncoder().encode_passages(["the capital of France", "a red dog", "capitals of france?"])
    assert query @ near > 2 * (query @ far)


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


def test_instructions_go_in_front_of_the_query_only(folder: Path) -> None:
    encoder = SentenceEncoder(str(folder), device="cpu")
    assert instructed("cat", " the red ") == "the red cat"
    assert instructed("cat", None) == instructed("cat", " ") == "cat"
    np.testing.assert_array_equal(
        encoder.encode_queries(["cat"], instruction="the red"), encoder.encode_queries(["the red cat"])
    )
    assert not encoder.takes_instructions


def test_names_of_encoders(folder: Path, tmp_path: Path) -> None:
    assert open_encoder("hashing:64").dimension == 64
    assert open_encoder("hashing").dimension == 256
    assert open_encoder(str(folder), device="cpu").dimension == 16
    with pytest.raises(OptionError, match="a number of dimensions"):
        open_encoder("hashing:many")
    with pytest.raises(OptionError, match="at least 1"):
        open_encoder("hashing:0")
    with pytest.raises(ModelError):
        open_encoder(str(tmp_path / "none"))


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

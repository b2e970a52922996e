"""Hashed vectors are unit and the same on every machine; names open the encoder they stand for."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from cases.sentence_encoders import write_encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import ModelError, OptionError
from glassworks.retrieval.encoders import HashingEncoder, instructed, open_encoder
from glassworks.retrieval.sentence_encoder import SentenceEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


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

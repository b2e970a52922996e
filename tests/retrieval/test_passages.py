"""Passages keep their provenance, and hashes change exactly when content does."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.retrieval.passages import Document, Passage, Section, text_hash


def test_hash_is_sha256_of_utf8() -> None:
    assert text_hash("naïve") == hashlib.sha256("naïve".encode()).hexdigest()


@given(st.text(alphabet=st.characters()))
def test_any_text_can_be_hashed(text: str) -> None:
    assert len(text_hash(text)) == 64


def test_lone_surrogates_do_not_collide() -> None:
    assert len({text_hash("\ud800"), text_hash("\ud801"), text_hash("?")}) == 3


def test_passage_fills_end_and_hash() -> None:
    passage = Passage("d#0", "d", "word", start=3)
    assert (passage.end, passage.content_hash) == (7, text_hash("word"))
    assert passage == replace(passage)
    assert len({passage, replace(passage)}) == 1


def test_indexed_text_puts_the_title_first() -> None:
    assert Passage("d#0", "d", "It is red.", title="Mars").indexed_text == "Mars. It is red."
    assert Passage("d#0", "d", "It is red.").indexed_text == "It is red."


@pytest.mark.parametrize(
    "change",
    [
        {"text": "other"},
        {"title": "other"},
        {"uri": "other"},
        {"licence": "MIT"},
        {"source": "s"},
        {"author": "a"},
        {"metadata": {"year": 1999}},
        {"sections": (Section("one", 0, 4),)},
    ],
)
def test_fingerprint_sees_every_field(change: dict[str, object]) -> None:
    document = Document("d", "text", metadata={"year": 1998})
    assert replace(document, **change).fingerprint != document.fingerprint  # type: ignore[arg-type]


def test_fingerprint_ignores_the_time_and_metadata_order() -> None:
    document = Document("d", "text", metadata={"a": 1, "b": 2}, retrieved_at="2024-01-01")
    later = replace(document, metadata={"b": 2, "a": 1}, retrieved_at="2025-01-01")
    assert later.fingerprint == document.fingerprint

"""Passages are exact spans, lose no word, keep the limit and end where sentences and sections end."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.errors import OptionError
from glassworks.retrieval.chunking import Chunking, chunk, count_words
from glassworks.retrieval.passages import Document, Section

NASTY = st.text(
    alphabet=st.one_of(
        st.sampled_from(" \t\n\r\x0b\x0c\x1c\x85\xa0\u1680\u2028\u3000\u200b.!?。\"')ABab1-"),
        st.sampled_from("漢字かなไทย한글éÅ\u0301😀👩\u200d🚀\u202e\x00"),
        st.characters(),
    ),
    max_size=300,
)
MODES = st.sampled_from(["words", "sentences"])


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(NASTY)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    sections = tuple(Section(f"s{at}", at, len(text)) for at in cuts)
    return Document("d", text, "title", sections=sections)


@st.composite
def chunkings(draw: st.DrawFn) -> Chunking:
    words = draw(st.integers(1, 12))
    return Chunking(words, draw(st.integers(0, words - 1)), draw(MODES))


@given(documents(), chunkings())
def test_spans_are_exact_and_no_word_is_lost(document: Document, chunking: Chunking) -> None:
    passages = chunk(document, chunking)
    covered = [False] * len(document.text)
    for ordinal, passage in enumerate(passages):
        assert document.text[passage.start : passage.end] == passage.text
        assert passage.text
        assert passage.text == passage.text.strip()
        assert 1 <= count_words(passage.text) <= chunking.words
        assert passage.id == f"d#{ordinal}"
        covered[passage.start : passage.end] = [True] * (passage.end - passage.start)
    for left, right in pairwise(passages):
        assert left.start < right.start
        assert left.end < right.end
        if right.start < left.end:
            assert count_words(document.text[right.start : left.end]) <= chunking.overlap
    assert all(seen or character.isspace() for seen, character in zip(covered, document.text, strict=True))


@given(documents(), st.integers(1, 12), MODES)
def test_without_overlap_the_words_are_the_documents_words(document: Document, words: int, mode: str) -> None:
    passages = chunk(document, Chunking(words, 0, mode))  # type: ignore[arg-type]
    assert "".join("".join(p.text.split()) for p in passages) == "".join(document.text.split())


def test_fixed_windows_with_overlap() -> None:
    document = Document("d", " ".join("abcdefghij"))
    assert [p.text for p in chunk(document, Chunking(4))] == ["a b c d", "e f g h", "i j"]
    assert [p.text for p in chunk(document, Chunking(4, 1))] == ["a b c d", "d e f g", "g h i j"]
    assert [p.text for p in chunk(document, Chunking(10))] == [document.text]


def test_sentences_stay_whole() -> None:
    document = Document("d", 'One two three. Dr. J. Smith came in! And then?  He said "go." Last one')
    assert [p.text for p in chunk(document, Chunking(6, 0, "sentences"))] == [
        "One two three.",
        "Dr. J. Smith came in!",
        'And then?  He said "go."',
        "Last one",
    ]


def test_overlap_repeats_whole_sentences() -> None:
    document = Document("d", "A a. B b. C c. D d. E e.")
    assert [p.text for p in chunk(document, Chunking(6, 2, "sentences"))] == ["A a. B b. C c.", "C c. D d. E e."]
    assert [p.text for p in chunk(document, Chunking(6, 1, "sentences"))] == ["A a. B b. C c.", "D d. E e."]


def test_a_sentence_beyond_the_limit_is_cut_by_words() -> None:
    assert [p.text for p in chunk(Document("d", "a b c d e. f"), Chunking(2, 0, "sentences"))] == [
        "a b", "c d", "e. f",
    ]  # fmt: skip


def test_a_section_that_does_not_fit_starts_a_passage() -> None:
    text = "Intro here. # Two\nx y z. x y z."
    at = text.index("# Two")
    document = Document("d", text, sections=(Section("Whole", 0, len(text)), Section("Two", at, len(text))))
    first, second = chunk(document, Chunking(9, 0, "sentences"))
    assert (first.text, first.section) == ("Intro here.", "Whole")
    assert (second.text, second.section) == ("# Two\nx y z. x y z.", "Whole > Two")
    assert len(chunk(document, Chunking(10, 0, "sentences"))) == 1


def test_scripts_without_spaces_and_endless_words_are_cut() -> None:
    assert len(chunk(Document("d", "漢" * 100), Chunking(30))) == 4
    assert len(chunk(Document("d", "A" * 1000), Chunking(2))) == 3
    assert [p.text for p in chunk(Document("d", "東京です。大阪です。"), Chunking(6, 0, "sentences"))] == [
        "東京です。", "大阪です。",
    ]  # fmt: skip


def test_provenance_is_handed_on() -> None:
    document = Document("d", "a b", "T", "u", (), {"year": 1}, "MIT", "S", "A", "2024")
    (passage,) = chunk(document)
    for field in ("title", "uri", "metadata", "licence", "source", "author", "retrieved_at", "fingerprint"):
        assert getattr(passage, field) == getattr(document, field)


@pytest.mark.parametrize(("words", "overlap"), [(0, 0), (4, 4), (4, -1)])
def test_impossible_settings_are_refused(words: int, overlap: int) -> None:
    with pytest.raises(OptionError, match=re.escape("expected")):
        Chunking(words, overlap)


def test_a_document_of_spaces_has_no_passage() -> None:
    assert chunk(Document("d", " \n\t ")) == []

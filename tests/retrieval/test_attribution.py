"""Sentences, word overlap, citations and their spans."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.retrieval.attribution import (
    EQUAL_WEIGHTS,
    cite,
    content_words,
    encoder_entailment,
    lexical_entailment,
    parse_marks,
    premise,
    read_citations,
    sentence_spans,
    supporting_span,
    with_marks,
    word_weights,
)
from glassworks.retrieval.passages import Passage

KENYA = Passage(
    "k#0", "k", "Kenya is a country in East Africa. Its capital and largest city is Nairobi.", title="Kenya", start=100
)
PARIS = Passage("p#0", "p", "Paris is the capital of France. It lies on the Seine.", title="Paris")
HILTON = Passage("h#0", "h", "Paris Hilton is an American media personality born in 1981.", title="Paris Hilton")
PASSAGES = [HILTON, KENYA, PARIS]


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("J. K. Rowling wrote it. Dr. Who did not.", ["J. K. Rowling wrote it.", "Dr. Who did not."]),
        ("It costs 3.14 dollars. No. 5 is sold.", ["It costs 3.14 dollars.", "No. 5 is sold."]),
        ("No. It is not.", ["No.", "It is not."]),
        ("the U.S. Senate met. Yes", ["the U.S. Senate met.", "Yes"]),
        ("He said “Go.” Then he left.", ["He said “Go.”", "Then he left."]),
        ("It is so. [1] That too.[2, 3] End", ["It is so. [1]", "That too.[2, 3]", "End"]),
        ("1. First\n2. Second", ["1. First", "2. Second"]),
        ("これは文。次の文。", ["これは文。", "次の文。"]),
        ("  \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet="aB1. !?\n[]”。é", max_size=60))
def test_sentence_spans_cover_everything_but_white_space_in_order(text: str) -> None:
    spans = sentence_spans(text)
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())
    assert all(text[a:b] == text[a:b].strip() != "" for a, b in spans)


def test_content_words_drop_stop_words_and_possessives() -> None:
    assert content_words("What is Kenya's capital, and WHERE is it?") == ["kenya", "capital"]


def test_word_weights_are_those_of_bm25() -> None:
    weights = word_weights(["cat sat mat", "cat cat dog", "dog barks loud night"])
    assert weights.weights["cat"] == pytest.approx(math.log(1 + (3 - 2 + 0.5) / (2 + 0.5)))
    assert weights.unseen > weights.weights["mat"] > weights.weights["cat"] > 0


def test_overlap_is_weighted_recall_of_the_hypothesis() -> None:
    weights = word_weights(["cat sat mat", "cat cat dog", "dog barks loud night"])
    cat, mat = weights.weights["cat"], weights.weights["mat"]
    score = lexical_entailment(weights)([("the cat sat", "a cat and a mat"), ("cat", "it is"), ("", "dog")])
    assert score == [pytest.approx(cat / (cat + mat)), 0.0, 0.0]
    assert lexical_entailment(EQUAL_WEIGHTS)([("the cat sat", "a cat and a mat")]) == [0.5]


def test_encoder_support_is_the_cosine_cut_at_zero() -> None:
    vectors = {"a": [3.0, 0.0], "b": [1.0, 1.0], "c": [-2.0, 0.0]}
    calls: list[Sequence[str]] = []

    def encode(texts: Sequence[str]) -> np.ndarray:
        calls.append(texts)
        return np.array([vectors[text] for text in texts])

    assert encoder_entailment(encode)([("a", "b"), ("a", "c"), ("a", "a")]) == pytest.approx([2**-0.5, 0, 1])
    assert calls == [["a", "b", "c"]]


def test_a_short_answer_cites_the_passage_that_answers_the_question() -> None:
    (sentence,) = cite("Paris.", PASSAGES, lexical_entailment(), question="What is the capital of France?")
    (citation,) = sentence.citations
    assert (citation.number, citation.quote) == (3, "Paris is the capital of France.")
    assert PARIS.text[citation.start : citation.end] == citation.quote


def test_the_span_is_in_the_source_document() -> None:
    (sentence,) = cite("The capital is Nairobi.", PASSAGES, lexical_entailment(), question="Capital of Kenya?")
    (citation,) = sentence.citations
    assert citation.quote == "Its capital and largest city is Nairobi."
    assert citation.start == 100 + KENYA.text.index("Its")
    assert citation.end - citation.start == len(citation.quote)


def test_an_unsupported_sentence_cites_nothing() -> None:
    found = cite("The capital is Zork. Yes.", PASSAGES, lexical_entailment(), question="What is the capital of Kenya?")
    assert [sentence.citations for sentence in found] == [(), ()]


def test_without_passages_nothing_is_cited() -> None:
    assert [s.citations for s in cite("One. Two.", [], lexical_entailment())] == [(), ()]


def test_more_citations_come_best_first_and_ties_by_number() -> None:
    twin = Passage("q#0", "q", PARIS.text, title="Paris")
    (sentence,) = cite("Paris is the capital of France.", [twin, PARIS, KENYA], lexical_entailment(), at_most=3)
    assert [citation.number for citation in sentence.citations] == [1, 2]


@given(st.sampled_from(["Paris.", "Nairobi is big. Paris is not.", "Yes", "Paris Hilton was born in 1981."]))
def test_a_higher_threshold_only_takes_citations_away(answer: str) -> None:
    counts = [
        sum(len(s.citations) for s in cite(answer, PASSAGES, lexical_entailment(), threshold=t, at_most=3))
        for t in (0.0, 0.3, 0.6, 0.9, 1.01)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


@pytest.mark.parametrize(
    ("sentence", "text", "numbers"),
    [
        ("So it is [2].", "So it is.", (2,)),
        ("So it is. [1][3]", "So it is.", (1, 3)),
        ("Both [1, 2] and [2].", "Both and.", (1, 2)),
        ("In [1999] it was.", "In [1999] it was.", ()),
        ("No marks", "No marks", ()),
    ],
)
def test_marks_are_read_and_removed(sentence: str, text: str, numbers: tuple[int, ...]) -> None:
    assert parse_marks(sentence) == (text, numbers)


def test_a_bracketed_year_counts_when_asked_to() -> None:
    assert parse_marks("In [1999] it was.", ignore_years=False) == ("In it was.", (1999,))


def test_citations_of_the_model_are_mapped_and_strays_are_kept_apart() -> None:
    found = read_citations(
        "Paris is the capital of France [3]. Kenya is in Africa [2, 9].", PASSAGES, lexical_entailment()
    )
    assert [[c.number for c in s.citations] for s in found] == [[3], [2]]
    assert [s.out_of_range for s in found] == [(), (9,)]
    assert found[0].text == "Paris is the capital of France."
    assert found[0].citations[0].score == 1.0


def test_the_supporting_sentence_knows_the_title() -> None:
    passage = Passage("c#0", "c", "She won two prizes. She was born in Warsaw.", title="Marie Curie")
    start, end = supporting_span(passage, "Where was Marie Curie born? Warsaw", lexical_entailment())
    assert passage.text[start:end] == "She was born in Warsaw."
    assert premise(passage).startswith("Title: Marie Curie\n")


def test_marks_appear_at_the_end_of_their_sentence_while_text_streams() -> None:
    pieces = ["Par", "is is", " big. ", "It", " lies on", " the Seine.", " "]
    shown = list(with_marks(pieces, lambda sentence: [1] if "big" in sentence else [2, 3]))
    assert "".join(shown) == "Paris is big. [1] It lies on the Seine. [2] [3] "
    assert shown[0] == "Par"


@given(st.lists(st.text(alphabet="aB1. !?\n[]”。", max_size=5), max_size=20))
def test_streaming_loses_nothing_and_marks_each_sentence_once(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert "".join(with_marks(pieces, lambda sentence: ())) == text
    asked: list[str] = []
    list(with_marks(pieces, lambda sentence: asked.append(sentence) or ()))
    if "[" not in text and "”" not in text and "." not in text:
        assert asked == sentences(text)

"""Rankings, answers and citations: worked examples, bounds and the traps of each measure."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from glassworks.retrieval.metrics import (
    CitedSentence,
    average_precision,
    citation_quality,
    contains_answer,
    exact_match,
    ndcg_at,
    normalise_answer,
    recall_at,
    reciprocal_rank,
    token_f1,
)

RELEVANCE = [False, True, False, True, False]


def word_sets(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """A premise supports a hypothesis if it holds all its words."""
    return [float(set(hypothesis) <= set(premise.split())) for premise, hypothesis in pairs]


def test_worked_ranking() -> None:
    assert ndcg_at([float(r) for r in RELEVANCE], 5, [1.0] * 3) == pytest.approx(0.498189, abs=1e-6)
    assert reciprocal_rank(RELEVANCE) == 0.5
    assert recall_at(RELEVANCE, 5, 3) == pytest.approx(0.666667, abs=1e-6)
    assert average_precision(RELEVANCE, 3) == pytest.approx(0.333333, abs=1e-6)


def test_nothing_relevant_is_zero_not_an_error() -> None:
    assert recall_at([False], 5, 0) == average_precision([], 0) == ndcg_at([0.0], 5, []) == reciprocal_rank([]) == 0


@given(st.lists(st.floats(0, 5), min_size=2, max_size=12), st.integers(1, 12), st.randoms())
def test_ndcg_agrees_with_scikit_learn(gains: list[float], k: int, random: object) -> None:
    scores = [[float(len(gains) - rank) for rank in range(len(gains))]]
    expected = ndcg_score([gains], scores, k=k) if sum(gains) > 1e-6 else None
    if expected is not None:
        assert ndcg_at(gains, k, gains) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.booleans(), max_size=20), st.integers(0, 3))
def test_ranking_metrics_stay_in_bounds_and_reward_promotion(relevance: list[bool], missing: int) -> None:
    relevant = sum(relevance) + missing
    promoted = sorted(relevance, reverse=True)
    for metric in (
        lambda r: recall_at(r, 5, relevant),
        lambda r: average_precision(r, relevant),
        lambda r: ndcg_at([float(x) for x in r], 10, [1.0] * relevant),
        reciprocal_rank,
    ):
        assert 0 <= metric(relevance) <= metric(promoted) <= 1 + 1e-12


def test_answer_normalisation() -> None:
    assert normalise_answer("The  City of\nNew-York, a place.") == "city of newyork place"
    assert exact_match("Paris.", ["London", "the Paris"]) == 1.0
    assert exact_match("It is Paris.", ["Paris"]) == 0.0


def test_containment_is_by_whole_words() -> None:
    assert contains_answer("He lives in New York City today", ["new york city"]) == 1.0
    assert contains_answer("A party.", ["art"]) == 0.0
    assert contains_answer("anything", ["the", ""]) == 0.0


def test_token_f1_by_hand() -> None:
    # Two of three words shared with a two-word answer: P 2/3, R 1.
    assert token_f1("born in Warsaw", ["in Warsaw"]) == pytest.approx(0.8)
    assert token_f1("in Warsaw", ["Lyon", "Warsaw"]) == pytest.approx(2 / 3)
    assert token_f1("", ["x"]) == token_f1("x", []) == 0.0


@given(st.text(max_size=30), st.text(max_size=30))
def test_answer_metrics_are_symmetric_and_ordered(text: str, answer: str) -> None:
    assert token_f1(text, [answer]) == pytest.approx(token_f1(answer, [text]))
    if exact_match(text, [answer]) and normalise_answer(text):
        assert contains_answer(text, [answer]) == token_f1(text, [answer]) == 1.0


CITED = [
    CitedSentence("AB", (1, 2)),
    CitedSentence("A", (1, 3)),
    CitedSentence("A", (1, 4)),
    CitedSentence("C", (1,)),
    CitedSentence("A", ()),
    CitedSentence("B", (2, 10)),
]
DOCUMENTS = ["A", "B", "A", ""]


def test_citation_recall_and_precision_of_the_worked_answer() -> None:
    quality = citation_quality(CITED, DOCUMENTS, word_sets)
    assert 100 * quality.recall == pytest.approx(50.0)
    assert 100 * quality.precision == pytest.approx(71.43, abs=0.005)
    assert (quality.counted, quality.citations, quality.uncited, quality.out_of_range) == (5, 7, 1, 1)


def test_a_repeated_citation_counts_once_unless_as_the_official_script() -> None:
    twice = [CitedSentence("A", (1, 1))]
    assert citation_quality(twice, DOCUMENTS, word_sets).citations == 1
    assert citation_quality(twice, DOCUMENTS, word_sets, strict_official=True).citations == 2


def test_only_the_first_citations_are_used() -> None:
    quality = citation_quality([CitedSentence("B", (1, 3, 4, 2))], DOCUMENTS, word_sets)
    assert (quality.recall, quality.citations) == (0.0, 3)


def test_entailment_sees_each_pair_once_and_in_two_batches() -> None:
    batches: list[list[tuple[str, str]]] = []

    def recorded(pairs: Sequence[tuple[str, str]]) -> list[float]:
        batches.append(list(pairs))
        return word_sets(pairs)

    citation_quality(CITED * 3, DOCUMENTS, recorded)
    asked = [pair for batch in batches for pair in batch]
    assert len(batches) == 2
    assert len(asked) == len(set(asked))


def test_an_empty_answer_has_no_quality() -> None:
    quality = citation_quality([], DOCUMENTS, word_sets)
    assert (quality.recall, quality.precision, quality.sentences) == (0.0, 0.0, 0)

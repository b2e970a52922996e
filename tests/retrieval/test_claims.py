"""From scores to claims: figures by hand, intervals, comparisons."""

from __future__ import annotations

import pytest

from glassworks.foundations.statistics import proportion
from glassworks.retrieval.claims import answer_claims, citation_claims, rank_scores, retrieval_claims
from glassworks.retrieval.passages import Passage, Retrieved
from glassworks.retrieval.questions import Question
from glassworks.retrieval.samples import Sample, SampleCitation


def ranked(gold: int, length: int = 12) -> list[Retrieved]:
    """A ranking whose `gold`-th document is called "gold"."""
    names = [f"d{rank}" if rank != gold else "gold" for rank in range(1, length + 1)]
    return [Retrieved(Passage(f"{n}#0", n, "text"), 1.0, rank) for rank, n in enumerate(names, start=1)]


def sample(right: bool, right_without: bool, citations: int = 0, correct: int = 0) -> Sample:
    def scores(hit: bool) -> dict[str, float]:
        return dict.fromkeys(("accuracy", "token_f1", "exact_match"), float(hit))

    cited = [
        SampleCitation("s", 1, "t", "u", 0, 1, "q", 0.9, is_gold=None, holds_answer=at < correct)
        for at in range(citations)
    ]
    return Sample("i", "q", ("a",), (), (), "", "", scores(right_without), scores(right), 2, min(citations, 2),
                  tuple(cited), 0, False)  # fmt: skip


QUESTION = Question("q", "?", document_ids=("gold",))


def test_ranking_scores_by_hand() -> None:
    scores = rank_scores([QUESTION] * 3, [ranked(1), ranked(5), ranked(11)])
    assert (scores["recall@1"], scores["recall@5"], scores["recall@10"]) == ([1, 0, 0], [1, 1, 0], [1, 1, 0])
    assert scores["mrr@10"] == pytest.approx([1, 0.2, 0])
    assert scores["ndcg@10"] == pytest.approx([1, 0.386853, 0], abs=1e-6)


def test_a_retriever_is_compared_with_lexical_pair_by_pair() -> None:
    worse = rank_scores([QUESTION] * 8, [ranked(2)] * 8)
    better = rank_scores([QUESTION] * 8, [ranked(1)] * 8)
    claims = {c.metric: c for c in retrieval_claims({"lexical": worse, "dense": better}, "dense")}
    assert (claims["dense_recall@1"].value, claims["dense_recall@1"].baseline) == (1.0, 0.0)
    assert claims["lexical_recall@1"].baseline is None
    assert claims["lexical_recall@1"].interval == tuple(proportion(0, 8).interval)
    assert claims["dense_mrr@10_gain"].value == pytest.approx(0.5)
    assert claims["dense_recall@1_gain_p_value"].value == pytest.approx(2 / 2**8)
    assert not any("gain" in c.metric for c in retrieval_claims({"lexical": worse}, "lexical"))


def test_answers_are_compared_with_those_without_retrieval() -> None:
    samples = [sample(True, False)] * 6 + [sample(True, True)] * 2 + [sample(False, True)]
    claims = {c.metric: c for c in answer_claims(samples)}
    accuracy, gain = claims["answer_accuracy"], claims["answer_accuracy_gain"]
    assert (accuracy.value, accuracy.baseline, accuracy.n) == (pytest.approx(8 / 9), pytest.approx(3 / 9), 9)
    assert gain.value == pytest.approx(5 / 9)
    assert claims["closed_book_accuracy"].value == pytest.approx(3 / 9)


def test_one_answer_has_no_bootstrap_interval() -> None:
    claims = {c.metric: c for c in answer_claims([sample(True, False)])}
    assert claims["answer_token_f1"].interval is None
    assert claims["answer_accuracy"].interval is not None


def test_citations_are_counted_over_all_answers() -> None:
    claims = {
        c.metric: c for c in citation_claims([sample(True, True, 2, 1), sample(True, True, 1, 1), sample(True, True)])
    }
    assert (claims["citation_correctness"].value, claims["citation_correctness"].n) == (pytest.approx(2 / 3), 3)
    assert (claims["citation_coverage"].value, claims["citation_coverage"].n) == (pytest.approx(3 / 6), 6)
    assert list(citation_claims([])) == []

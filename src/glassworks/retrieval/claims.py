"""From scores a question to claims: what was measured about retrieval, answers, citations and the model's own text.

Pure: scores in, `Evidence` out, each with its interval, n and the figure that it is compared with; the verb adds
where and when. Shares have Wilson's interval, means a bootstrap interval, comparisons are paired by question.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from glassworks.foundations.evidence import Evidence
from glassworks.foundations.statistics import Estimate, bootstrap_mean, paired_difference, proportion
from glassworks.retrieval.metrics import ndcg_at, recall_at, reciprocal_rank
from glassworks.retrieval.passages import Retrieved
from glassworks.retrieval.perplexity import Perplexity, Throughput
from glassworks.retrieval.questions import Question
from glassworks.retrieval.samples import Sample

SYSTEM = "retrieval"
RECALL_AT = (1, 2, 5, 10)
RankScores = Mapping[str, Sequence[float]]
"""Metric -> one score a question, in [0, 1]."""

_RANKING_CLAIMS = {
    **{f"recall@{k}": f"Questions whose source is among the first {k} found" for k in RECALL_AT},
    "mrr@10": "Mean reciprocal rank of the source, 0 beyond the tenth",
    "ndcg@10": "nDCG of the first ten",
}
_ANSWER_CLAIMS = {
    "accuracy": "Answers that hold the known answer",
    "token_f1": "Token F1 of the answers against the known ones",
    "exact_match": "Answers that are exactly the known answer",
}


def rank_scores(questions: Sequence[Question], found: Sequence[Sequence[Retrieved]]) -> dict[str, list[float]]:
    """Every ranking metric of every question. found: the passages for each question, best first."""
    rows = [_ranking(question.relevance(hits)) for question, hits in zip(questions, found, strict=True)]
    return {metric: [row[metric] for row in rows] for metric in _RANKING_CLAIMS}


def _ranking(relevance: Sequence[bool]) -> dict[str, float]:
    recall = {f"recall@{k}": recall_at(relevance, k, 1) for k in RECALL_AT}
    return recall | {"mrr@10": reciprocal_rank(relevance, 10), "ndcg@10": ndcg_at(relevance, 10, [1.0])}


def retrieval_claims(scores: Mapping[str, RankScores], chosen: str) -> Iterator[Evidence]:
    """Each retriever's figures; the chosen one's are compared with lexical, pair by pair, where it is another.

    scores: retriever -> its scores, on the same questions in the same order.
    """
    lexical = scores["lexical"]
    for kind, own in scores.items():
        for metric, claim in _RANKING_CLAIMS.items():
            baseline = _mean(lexical[metric]) if kind != "lexical" else None
            estimate = _share(own[metric]) if metric.startswith("recall") else bootstrap_mean(own[metric])
            yield _claim(f"{claim} ({kind})", f"{kind}_{metric}", estimate, "share", baseline=baseline)
    if chosen != "lexical":
        for metric in ("recall@1", "recall@10", "mrr@10"):
            gain = f"{_RANKING_CLAIMS[metric]}: {chosen} minus lexical"
            yield from _paired_claims(gain, f"{chosen}_{metric}_gain", scores[chosen][metric], lexical[metric])


def answer_claims(samples: Sequence[Sample]) -> Iterator[Evidence]:
    """Answers with passages against answers without, on the same questions."""
    for metric, claim in _ANSWER_CLAIMS.items():
        without = [sample.without_scores[metric] for sample in samples]
        with_passages = [sample.scores[metric] for sample in samples]
        estimate = bootstrap_mean if metric == "token_f1" else _share
        yield _claim(f"{claim}, without retrieval", f"closed_book_{metric}", estimate(without), "share")
        yield _claim(
            f"{claim}, with retrieval", f"answer_{metric}", estimate(with_passages), "share", baseline=_mean(without)
        )
        if metric != "exact_match":
            yield from _paired_claims(f"{claim}: gain by retrieval", f"answer_{metric}_gain", with_passages, without)


def citation_claims(samples: Sequence[Sample]) -> Iterator[Evidence]:
    """How many sentences cite, and how many citations name a passage that is the gold one or holds the answer."""
    sentences = sum(sample.sentences for sample in samples)
    citations = [citation for sample in samples for citation in sample.citations]
    if sentences:
        cited = proportion(sum(sample.cited_sentences for sample in samples), sentences)
        yield _claim("Sentences that cite a passage", "citation_coverage", cited, "share")
    if citations:
        right = proportion(sum(bool(c.is_gold or c.holds_answer) for c in citations), len(citations))
        claim = "Citations whose passage is the right source or holds the known answer"
        yield _claim(claim, "citation_correctness", right, "share")


def text_claims(fit: Perplexity, speed: Throughput) -> Iterator[Evidence]:
    """The model on the store's own text: perplexity, and tokens a second read and written."""
    claim = "Perplexity of the model on passages of the store"
    yield _claim(claim, "perplexity", fit.per_token, "per token", better="lower")
    yield Evidence(
        SYSTEM, "Bits a byte of the model on passages of the store", "bits_per_byte", fit.bits_per_byte, "bits/byte",
        "lower", n=fit.per_token.n,
    )  # fmt: skip
    for claim, metric, estimate in (
        ("Prompt tokens read a second, one prompt at a time", "read_speed", speed.read),
        (f"Tokens written a second, {speed.rows} answers at a time", "write_speed", speed.written),
    ):
        yield _claim(claim, metric, estimate, "tokens/s")


def _paired_claims(claim: str, metric: str, ours: Sequence[float], theirs: Sequence[float]) -> Iterable[Evidence]:
    result = paired_difference(ours, theirs)
    yield _claim(claim, metric, Estimate(result.difference, result.interval, result.n), "share", baseline=0.0)
    chance = f"{claim}: chance of so large a difference if there were none"
    yield Evidence(SYSTEM, chance, f"{metric}_p_value", result.p_value, n=result.n, better="lower")


def _claim(
    claim: str,
    metric: str,
    estimate: Estimate,
    unit: str,
    *,
    better: Literal["higher", "lower"] = "higher",
    baseline: float | None = None,
) -> Evidence:
    low, high = estimate.interval
    interval = (low, high) if math.isfinite(low) and math.isfinite(high) else None  # one observation has none
    return Evidence(
        SYSTEM, claim, metric, estimate.value, unit, better, interval=interval, n=estimate.n, baseline=baseline
    )


def _share(scores: Sequence[float]) -> Estimate:
    return proportion(round(sum(scores)), len(scores))


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)

"""How good is a ranking, an answer, a citation? Pure functions of small lists and strings.

Rankings: recall, reciprocal rank, average precision and nDCG with linear gain and log2 discount. Answers:
exact match and token F1 after the SQuAD normalisation, and whether a known answer occurs in the text.
Citations: recall and precision of Gao et al. 2023, "Enabling Large Language Models to Generate Text with
Citations" (ALCE), section 4, for any entailment function. Knows no model, no datastore and no interval: means
and intervals are `foundations.statistics`.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Entailment = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""(premise, hypothesis) pairs -> one support score in [0, 1] each; a whole batch at once."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def recall_at(relevance: Sequence[bool], k: int, relevant: int) -> float:
    """Share of the `relevant` items that are among the first k; in [0, 1], 0 where nothing is relevant.

    relevance: [ranks], whether the item at each rank (best first) is relevant.
    """
    return sum(map(bool, relevance[:k])) / relevant if relevant else 0.0


def reciprocal_rank(relevance: Sequence[bool], k: int | None = None) -> float:
    """1 / rank of the first relevant item among the first k (all by default), else 0. relevance: [ranks]."""
    return next((1.0 / rank for rank, hit in enumerate(relevance[:k], start=1) if hit), 0.0)


def average_precision(relevance: Sequence[bool], relevant: int) -> float:
    """Mean, over the `relevant` items, of the precision at each one's rank (0 if not retrieved). [ranks]."""
    hits, total = 0, 0.0
    for rank, hit in enumerate(relevance, start=1):
        if hit:
            hits += 1
            total += hits / rank
    return total / relevant if relevant else 0.0


def ndcg_at(gains: Sequence[float], k: int, ideal: Sequence[float]) -> float:
    """Discounted gain of the first k over that of the best possible ranking, in [0, 1].

    gains: [ranks], gain of the item at each rank. ideal: gains of all relevant items, in any order.
    Linear gain, discount log2(rank + 1); 0 where no item has a gain.
    """

    def discounted(values: Sequence[float]) -> float:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(values[:k], start=1))

    best = discounted(sorted(ideal, reverse=True))
    return discounted(gains) / best if best else 0.0


def normalise_answer(text: str) -> str:
    """Lower case without punctuation, articles and surplus white space (the SQuAD normalisation)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(text: str, answers: Iterable[str]) -> float:
    """1.0 if the normalised text equals a normalised answer, else 0.0."""
    normalised = normalise_answer(text)
    return float(any(normalised == normalise_answer(answer) for answer in answers))


def contains_answer(text: str, answers: Iterable[str]) -> float:
    """1.0 if some known answer occurs in the text as whole words after normalisation, else 0.0.

    Whole words, where the usual substring accuracy would find "art" in "party". An answer that normalises to
    nothing is never found.
    """
    padded = f" {normalise_answer(text)} "
    wanted = (normalise_answer(answer) for answer in answers)
    return float(any(answer and f" {answer} " in padded for answer in wanted))


def token_f1(text: str, answers: Iterable[str]) -> float:
    """Best harmonic mean of word precision and recall against the known answers, in [0, 1]."""
    words = normalise_answer(text).split()

    def against(answer: str) -> float:
        wanted = normalise_answer(answer).split()
        shared = sum((Counter(words) & Counter(wanted)).values())
        return 2 * shared / (len(words) + len(wanted)) if shared else 0.0

    return max(map(against, answers), default=0.0)


class CitedSentence(NamedTuple):
    """A sentence without its marks, and the numbers it cites, from 1; numbers out of range are kept."""

    text: str
    citations: tuple[int, ...]


class CitationQuality(NamedTuple):
    """Citation recall and precision of one answer, in [0, 1], and the counts they come from."""

    recall: float
    precision: float
    sentences: int
    supported: int
    citations: int
    counted: int
    uncited: int
    out_of_range: int


def citation_quality(
    sentences: Sequence[CitedSentence],
    documents: Sequence[str],
    entails: Entailment,
    *,
    threshold: float = 0.5,
    at_most: int = 3,
    strict_official: bool = False,
) -> CitationQuality:
    """ALCE citation recall and precision of one answer.

    documents: premise of each number from 1, title and text. entails: asked in two batches of distinct
    pairs; a score >= threshold counts as support. Of each sentence the first `at_most` citations are used. A
    sentence that cites nothing or a number out of range is unsupported and adds no citation to the precision.
    A repeated number counts once; `strict_official` counts it each time, as the official script does.
    """
    used = [_usable(sentence.citations, len(documents), at_most, strict_official) for sentence in sentences]
    verdicts: dict[tuple[str, str], bool] = {}

    def pair(numbers: Sequence[int], text: str) -> tuple[str, str]:
        return "\n".join(documents[number - 1] for number in numbers), text

    def judge(pairs: Iterable[tuple[str, str]]) -> None:
        fresh = [p for p in dict.fromkeys(pairs) if p not in verdicts]
        if fresh:
            verdicts.update(zip(fresh, (s >= threshold for s in entails(fresh)), strict=True))

    cited = [(sentence.text, numbers) for sentence, numbers in zip(sentences, used, strict=True) if numbers]
    judge(pair(numbers, text) for text, numbers in cited)
    good = [(text, numbers) for text, numbers in cited if verdicts[pair(numbers, text)]]
    several = [(text, numbers, at) for text, numbers in good if len(numbers) > 1 for at in range(len(numbers))]
    judge(
        p
        for text, numbers, at in several
        for p in (pair(numbers[at : at + 1], text), pair(_without(numbers, at), text))
    )
    # A citation is superfluous if it does not support the sentence alone and the others do without it.
    superfluous = sum(
        not verdicts[pair(numbers[at : at + 1], text)] and verdicts[pair(_without(numbers, at), text)]
        for text, numbers, at in several
    )
    citations = sum(len(numbers) for _, numbers in cited)
    counted = sum(len(numbers) for _, numbers in good) - superfluous
    return CitationQuality(
        recall=len(good) / len(sentences) if sentences else 0.0,
        precision=counted / citations if citations else 0.0,
        sentences=len(sentences),
        supported=len(good),
        citations=citations,
        counted=counted,
        uncited=sum(not sentence.citations for sentence in sentences),
        out_of_range=sum(bool(s.citations) and not numbers for s, numbers in zip(sentences, used, strict=True)),
    )


def _usable(citations: Sequence[int], documents: int, at_most: int, repeats: bool) -> tuple[int, ...]:
    """The citations that count, or none at all if one of them is out of range."""
    if any(not 1 <= number <= documents for number in citations):
        return ()
    return tuple(citations if repeats else dict.fromkeys(citations))[:at_most]


def _without(numbers: Sequence[int], at: int) -> tuple[int, ...]:
    """The numbers without the one at position `at`."""
    return (*numbers[:at], *numbers[at + 1 :])

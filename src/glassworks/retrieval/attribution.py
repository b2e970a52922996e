"""Which passage, and which words of it, support each sentence of an answer?

Asai et al. 2024 (arXiv 2403.03187), "attributable". Post-hoc: every sentence is scored against every passage by
an `Entailment` function and cites the best ones above a threshold, or none. In-model: marks such as ``[2]`` that
the model wrote are read, and numbers that name no passage are kept apart. Either way a citation carries the
sentence of the passage that supports it best, with its code-point offsets in the source document.
Two entailments are here, word overlap weighted by rarity and encoder similarity; an NLI model has the same shape.
Knows no datastore and no language model. Sentence ends are found by rules for European and CJK punctuation.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from bm25s.stopwords import STOPWORDS_EN_PLUS

from glassworks.retrieval.metrics import Entailment
from glassworks.retrieval.passages import Passage

LEXICAL_THRESHOLD = 0.6
ENCODER_THRESHOLD = 0.5

_STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s$")
# Closing quotes, brackets and citation marks stay with the sentence that they follow.
_CLOSING = r"[\"'”’)\]»」』]*(?:[ \t]*\[\d+(?:\s*,\s*\d+)*\])*"
_SENTENCE_END = re.compile(rf"(?:[.!?…]+{_CLOSING}(?=\s|$)|[。！？]+{_CLOSING})|\n+")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“‘])(?:[^\W\d_]|(?:[^\W\d_]\.)+[^\W\d_]|Mrs?|Ms|Dr|Prof|St|Mt|Ft|Lt|Col|Gen|Sgt|Capt|Rev|Hon|vs)$"
)
_ABBREVIATION_OF_NUMBER = re.compile(r"\b(?:No|Nos|Vol|Fig|pp?|ca?|approx|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec)$")
_MARK = re.compile(r"[ \t]*\[(\d+(?:\s*,\s*\d+)*)\]")
_YEARS = range(1000, 2200)


@dataclass(frozen=True)
class Citation:
    """A passage that a sentence cites. number: from 1, in prompt order. score: its support in [0, 1].

    start, end: code points of the supporting sentence in the source document; quote: that sentence.
    """

    number: int
    score: float
    start: int
    end: int
    quote: str


@dataclass(frozen=True)
class AttributedSentence:
    """A sentence of an answer without marks. out_of_range: numbers the model cited that name no passage."""

    text: str
    citations: tuple[Citation, ...] = ()
    out_of_range: tuple[int, ...] = ()


class WordWeights(NamedTuple):
    """Rarity of words. weights: inverse document frequency by word, > 0; unseen: that of any other word."""

    weights: Mapping[str, float]
    unseen: float

    def total(self, words: Iterable[str]) -> float:
        """Summed weight of the words."""
        return sum(self.weights.get(word, self.unseen) for word in words)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Code-point spans [start, end) of the sentences, without the white space around them.

    A sentence ends at its punctuation or at a line break. An initial or abbreviation does not end one, nor does
    punctuation before a lower-case letter; a bare list number joins what follows.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if _ends_sentence(text, start, match):
            spans.append((start, match.end()))
            start = match.end()
    spans.append((start, len(text)))
    trimmed = []
    for low, high in spans:
        piece = text[low:high]
        if piece.strip():
            trimmed.append((low + len(piece) - len(piece.lstrip()), high - len(piece) + len(piece.rstrip())))
    return trimmed


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    if match.group().startswith("\n"):
        return True
    before, after = text[start : match.start()], text[match.end() :].lstrip()[:1]
    if after.islower() or not any(character.isalpha() for character in before):
        return False
    if not match.group().startswith("."):
        return True
    return not (_ABBREVIATION.search(before) or (after.isdigit() and _ABBREVIATION_OF_NUMBER.search(before)))


def content_words(text: str) -> list[str]:
    """The words that carry meaning, lower case and in order: no English stop words, no possessive ending."""
    words = (_POSSESSIVE.sub("", word.lower()) for word in _WORD.findall(text))
    return [word for word in words if word not in _STOP_WORDS]


def word_weights(texts: Iterable[str]) -> WordWeights:
    """Inverse document frequency of the content words of `texts`: ln(1 + (N - df + .5) / (df + .5)), as BM25."""
    documents, frequencies = 0, Counter[str]()
    for text in texts:
        documents += 1
        frequencies.update(set(content_words(text)))

    def weight(count: int) -> float:
        return math.log1p((documents - count + 0.5) / (count + 0.5))

    return WordWeights({word: weight(count) for word, count in frequencies.items()}, unseen=weight(0))


EQUAL_WEIGHTS = WordWeights({}, unseen=1.0)


def lexical_entailment(weights: WordWeights = EQUAL_WEIGHTS) -> Entailment:
    """Support = share of the hypothesis' content words, by weight, that the premise holds; in [0, 1].

    A hypothesis without content words asserts nothing that words can show: 0.
    """

    def entails(pairs: Sequence[tuple[str, str]]) -> list[float]:
        held: dict[str, set[str]] = {premise: set() for premise, _ in pairs}
        for premise, words in held.items():
            words.update(content_words(premise))
        return [_share(set(content_words(claim)), held[premise], weights) for premise, claim in pairs]

    return entails


def _share(wanted: set[str], held: set[str], weights: WordWeights) -> float:
    # Sorted, because a sum over a set depends in its last bits on the hash seed of the process.
    return weights.total(sorted(wanted & held)) / weights.total(sorted(wanted)) if wanted else 0.0


def encoder_entailment(encode: Callable[[Sequence[str]], np.ndarray]) -> Entailment:
    """Support = cosine of the two texts' vectors, negative ones as 0; in [0, 1].

    encode: texts -> [texts, dimensions], any length of vector; each distinct text is encoded once.
    """

    def entails(pairs: Sequence[tuple[str, str]]) -> list[float]:
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        vectors = np.asarray(encode(texts), dtype=np.float32)
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        row = dict(zip(texts, vectors, strict=True))
        return [float(np.clip(row[premise] @ row[claim], 0, 1)) for premise, claim in pairs]

    return entails


def premise(passage: Passage, text: str | None = None) -> str:
    """A passage, or a part `text` of it, as what a claim is checked against: title line, then text."""
    return f"Title: {passage.title}\n{passage.text if text is None else text}"


def cite(
    answer: str,
    passages: Sequence[Passage],
    entails: Entailment,
    *,
    question: str = "",
    threshold: float = LEXICAL_THRESHOLD,
    at_most: int = 1,
) -> list[AttributedSentence]:
    """Post-hoc citations: each sentence cites up to `at_most` passages whose support is >= threshold, best first.

    passages: number n is passages[n - 1]. Support is the lower of two: of the sentence alone, and of the question
    followed by the sentence. The second keeps a short answer ("Paris.") from citing whatever else names Paris;
    the first keeps an unsupported answer from riding on the question's words. Ties go to the lower number.
    """
    sentences = [answer[start:end] for start, end in sentence_spans(answer)]
    if not passages:
        return [AttributedSentence(sentence) for sentence in sentences]
    claims = [claim for sentence in sentences for claim in (sentence, f"{question} {sentence}".strip())]
    pairs = [(premise(passage), claim) for claim in claims for passage in passages]
    scores = np.asarray(entails(pairs), dtype=float).reshape(len(sentences), 2, len(passages)).min(axis=1)
    attributed = []
    for sentence, support in zip(sentences, scores, strict=True):
        best = [int(at) for at in np.argsort(-support, kind="stable")[:at_most] if support[at] >= threshold]
        found = [_citation(at + 1, passages[at], sentence, question, support[at], entails) for at in best]
        attributed.append(AttributedSentence(sentence, tuple(found)))
    return attributed


def read_citations(
    answer: str,
    passages: Sequence[Passage],
    entails: Entailment,
    *,
    question: str = "",
    ignore_years: bool = True,
) -> list[AttributedSentence]:
    """In-model citations: the marks ``[n]`` or ``[n, m]`` in each sentence, mapped to the passages.

    Each citation's score is the support of that passage for the sentence; nothing is judged or dropped. Numbers
    beyond the passages are listed apart. ignore_years: a bracketed four-digit year stays text.
    """
    attributed = []
    for start, end in sentence_spans(answer):
        text, numbers = parse_marks(answer[start:end], ignore_years=ignore_years)
        inside = [number for number in numbers if 1 <= number <= len(passages)]
        supports = entails([(premise(passages[number - 1]), text) for number in inside]) if inside else []
        found = [
            _citation(number, passages[number - 1], text, question, score, entails)
            for number, score in zip(inside, supports, strict=True)
        ]
        outside = tuple(number for number in numbers if not 1 <= number <= len(passages))
        attributed.append(AttributedSentence(text, tuple(found), outside))
    return attributed


def parse_marks(sentence: str, *, ignore_years: bool = True) -> tuple[str, tuple[int, ...]]:
    """A sentence without its citation marks, and the distinct numbers in them in order of first mention."""
    numbers: dict[int, None] = {}

    def take(match: re.Match[str]) -> str:
        found = [int(number) for number in match[1].split(",")]
        if ignore_years and len(found) == 1 and found[0] in _YEARS:
            return match.group()
        numbers.update(dict.fromkeys(found))
        return ""

    return _MARK.sub(take, sentence).strip(), tuple(numbers)


def _citation(
    number: int, passage: Passage, sentence: str, question: str, score: float, entails: Entailment
) -> Citation:
    start, end = supporting_span(passage, f"{question} {sentence}".strip(), entails)
    quote = passage.text[start:end]
    return Citation(number, float(score), passage.start + start, passage.start + end, quote)


def supporting_span(passage: Passage, claim: str, entails: Entailment) -> tuple[int, int]:
    """Code points [start, end) in `passage.text` of the sentence that supports the claim best, the first of ties."""
    spans = sentence_spans(passage.text) or [(0, len(passage.text))]
    scores = entails([(premise(passage, passage.text[start:end]), claim) for start, end in spans])
    return spans[int(np.argmax(np.asarray(scores)))]


def with_marks(pieces: Iterable[str], numbers: Callable[[str], Sequence[int]]) -> Iterator[str]:
    """A stream of text with citation marks put in at each sentence's end, as soon as that end is certain.

    numbers: sentence -> the numbers it cites. Joined and without marks, the output equals the joined input.
    """
    text, shown, marked = "", 0, 0
    for piece in pieces:
        text += piece
        spans = sentence_spans(text)
        for start, end in spans[marked:-1]:  # the last sentence may still grow
            yield text[shown:end] + _marks(numbers(text[start:end]))
            shown, marked = max(shown, end), marked + 1
        # White space is held back: a mark belongs before it.
        visible = shown + len(text[shown:].rstrip())
        if visible > shown:
            yield text[shown:visible]
            shown = visible
    for start, end in sentence_spans(text)[marked:]:
        yield text[shown:end] + _marks(numbers(text[start:end]))
        shown = max(shown, end)
    yield text[shown:]


def _marks(numbers: Sequence[int]) -> str:
    return "".join(f" [{number}]" for number in numbers)

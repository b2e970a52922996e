"""What is a system asked when it is measured? Questions of a file, or known items drawn from the store itself.

A file has one JSON object a line: ``question``, ``answer`` or ``answers``, and where known the gold source as
``titles`` or ``document_ids``. Without a file a question is a sentence of a passage drawn by seed, and finding that
passage is the task (known-item search): it needs no labels, but shares its words with the passage, so its figures
are upper bounds. Knows no model and no retriever.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glassworks.errors import MalformedRecord
from glassworks.foundations.data import read_jsonl
from glassworks.retrieval.attribution import WordWeights, content_words, sentence_spans
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.metrics import contains_answer
from glassworks.retrieval.passages import Passage, Retrieved
from glassworks.retrieval.rows import one_of

MOST_QUERY_WORDS = 32


@dataclass(frozen=True)
class Question:
    """A question. answers: known ones, if any. titles, document_ids, passage_ids: where the answer stands."""

    id: str
    text: str
    answers: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    document_ids: tuple[str, ...] = ()
    passage_ids: tuple[str, ...] = ()

    @property
    def has_gold(self) -> bool:
        """Whether it is known where the answer stands."""
        return bool(self.titles or self.document_ids or self.passage_ids)

    def is_gold(self, passage: Passage) -> bool:
        """Whether the passage is where the answer stands; by document id where given, else by title."""
        if self.passage_ids:
            return passage.id in self.passage_ids
        if self.document_ids:
            return passage.document_id in self.document_ids
        return passage.title in self.titles

    def is_answered_by(self, passage: Passage) -> bool:
        """Whether a known answer occurs in the passage or its title."""
        return bool(contains_answer(passage.indexed_text, self.answers))

    def relevance(self, found: Sequence[Retrieved]) -> list[bool]:
        """Whether each distinct document found, best first, is the first right one: at most one is True.

        Several gold sources are alternatives. Where none is known, the first passage that holds a known answer is
        what was looked for.
        """
        right = self.is_gold if self.has_gold else self.is_answered_by
        if self.has_gold and not self.passage_ids:
            # A long document has several passages; a reader who sees one of them has found it.
            best = {hit.passage.document_id: hit for hit in reversed(found)}
            found = sorted(best.values(), key=lambda hit: hit.rank)
        held = [right(hit.passage) for hit in found]
        return [hit and not any(held[:at]) for at, hit in enumerate(held)]


def read_questions(path: str) -> list[Question]:
    """The questions of a JSONL file or packaged name.

    Raises DataNotFound, or MalformedRecord with file:line where a question is empty or can be judged by nothing.
    """
    texts = (str, list)
    kinds: dict[str, type | tuple[type, ...]] = {"question": str, "answer": texts, "answers": texts, "titles": texts}
    kinds["document_ids"] = texts
    rows = read_jsonl(path, required=["question"], types=kinds)
    if not rows:
        raise MalformedRecord("the file holds no question", place=path)
    return [_question(row, f"{path}, question {number}", number) for number, row in enumerate(rows, start=1)]


def _question(row: Mapping[str, Any], place: str, number: int) -> Question:
    answers = _texts(row, "answers") or _texts(row, "answer")
    question = Question(
        str(row.get("id", number)), row["question"].strip(), answers, _texts(row, "titles"), _texts(row, "document_ids")
    )
    if not question.text:
        raise MalformedRecord("'question' is empty", place=place)
    if not (question.answers or question.has_gold):
        remedy = "Give 'answers', 'titles' or 'document_ids'; or leave the questions out to measure known items."
        raise MalformedRecord("nothing says what a right answer or source is", place=place, remedy=remedy)
    return question


def _texts(row: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = row.get(field) or ()
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def absent_gold(store: Datastore, questions: Iterable[Question]) -> list[str]:
    """Gold sources that the store does not hold: their questions cannot be found, whatever the retriever does."""
    titles = {title for question in questions if not question.document_ids for title in question.titles}
    documents = {document for question in questions for document in question.document_ids}
    held_titles = {p.title for p in store.passages(one_of("title", sorted(titles)))} if titles else set()
    return sorted((titles - held_titles) | (documents - store.fingerprints().keys()))


def draw_passages(store: Datastore, count: int, *, seed: int) -> list[Passage]:
    """Up to `count` passages of at least two content words, each with the same chance, whatever the store's size."""
    draw = random.Random(seed)
    drawn: list[Passage] = []
    seen = 0
    for passage in store.passages():
        if len(content_words(passage.text)) < 2:
            continue
        seen += 1
        if len(drawn) < count:
            drawn.append(passage)
        elif (at := draw.randrange(seen)) < count:
            drawn[at] = passage
    return drawn


def known_items(passages: Iterable[Passage], weights: WordWeights) -> list[Question]:
    """Each passage asked for by its sentence of most weight; without known answers."""
    return [Question(p.id, _telling_sentence(p.text, weights), passage_ids=(p.id,)) for p in passages]


def _telling_sentence(text: str, weights: WordWeights) -> str:
    """The sentence whose distinct content words weigh most, cut to a query's length."""
    sentences = [" ".join(text[start:end].split()[:MOST_QUERY_WORDS]) for start, end in sentence_spans(text)]
    return max(sentences, key=lambda sentence: weights.total(sorted(set(content_words(sentence)))))

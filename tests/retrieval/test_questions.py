"""Questions of a file and known items: what counts as right, what is refused, what a seed draws."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from glassworks.errors import MalformedRecord
from glassworks.retrieval.attribution import EQUAL_WEIGHTS, word_weights
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.passages import Passage, Retrieved
from glassworks.retrieval.questions import Question, absent_gold, draw_passages, known_items, read_questions


def passage(document: str, ordinal: int = 0, text: str = "some text here") -> Passage:
    return Passage(f"{document}#{ordinal}", document, text, title=document.upper())


def ranking(*passages: Passage) -> list[Retrieved]:
    return [Retrieved(p, 1.0 / rank, rank) for rank, p in enumerate(passages, start=1)]


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_document_counts_once_at_its_best_passage() -> None:
    found = ranking(passage("a"), passage("a", 1), passage("b"), passage("b", 1))
    assert Question("q", "?", document_ids=("b",)).relevance(found) == [False, True]
    assert Question("q", "?", titles=("B",)).relevance(found) == [False, True]


def test_several_sources_are_alternatives() -> None:
    found = ranking(passage("a"), passage("b"), passage("c"))
    assert Question("q", "?", document_ids=("c", "b")).relevance(found) == [False, True, False]


def test_a_known_item_is_its_passage_not_its_document() -> None:
    found = ranking(passage("a"), passage("a", 1))
    assert Question("q", "?", passage_ids=("a#1",)).relevance(found) == [False, True]


def test_without_sources_the_first_passage_that_holds_the_answer_counts() -> None:
    found = ranking(passage("a"), passage("b", text="It is Paris."), passage("c", text="Paris, too"))
    question = Question("q", "?", answers=("paris",))
    assert question.relevance(found) == [False, True, False]
    assert question.is_answered_by(found[1].passage)


def test_fields_may_be_one_text_or_many(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", {"question": " Who? ", "answer": "me"}, {"question": "B", "titles": ["x", "y"]})
    first, second = read_questions(path)
    assert (first.text, first.answers, first.has_gold, first.id) == ("Who?", ("me",), False, "1")
    assert second.titles == ("x", "y")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": " ", "answer": "x"}, "empty"),
        ({"question": "Why?"}, "nothing says"),
        ({"answer": "x"}, "question"),
        ({"question": "Why?", "answers": 3}, "answers"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused_by_place(tmp_path: Path, row: object, words: str) -> None:
    path = write(tmp_path / "q.jsonl", {"question": "Fine?", "answer": "yes"}, row)
    with pytest.raises(MalformedRecord, match=rf"q\.jsonl.*2.*{words}"):
        read_questions(path)


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedRecord, match="no question"):
        read_questions(write(tmp_path / "q.jsonl"))


@pytest.fixture
def store(tmp_path: Path) -> Datastore:
    store = Datastore.create(tmp_path / "store")
    texts = [f"Common words here. Rare word{n} and thing{n} stand there." for n in range(6)]
    store.add([passage(f"d{n}", text=text) for n, text in enumerate(texts)] + [passage("empty", text="the")])
    return store


def test_sources_that_are_not_stored_are_named(store: Datastore) -> None:
    questions = [Question("1", "?", titles=("D1", "Z")), Question("2", "?", document_ids=("d0", "zz"))]
    assert absent_gold(store, questions) == ["Z", "zz"]
    assert absent_gold(store, [Question("3", "?", answers=("x",))]) == []


def test_draws_are_fair_repeatable_and_skip_passages_without_words(store: Datastore) -> None:
    counts = Counter(p.document_id for seed in range(240) for p in draw_passages(store, 2, seed=seed))
    assert counts.keys() == {f"d{n}" for n in range(6)}
    assert all(55 < count < 105 for count in counts.values())
    assert draw_passages(store, 3, seed=1) == draw_passages(store, 3, seed=1)
    assert len(draw_passages(store, 99, seed=1)) == 6


def test_a_known_item_is_asked_for_by_its_telling_sentence(store: Datastore) -> None:
    weights = word_weights(p.text for p in store.passages())
    (item,) = known_items([passage("d3", text="Common words here. Rare word3 stands there.")], weights)
    assert (item.text, item.passage_ids, item.answers) == ("Rare word3 stands there.", ("d3#0",), ())
    (item,) = known_items([passage("d", text="many words " * 50)], EQUAL_WEIGHTS)
    assert len(item.text.split()) == 32

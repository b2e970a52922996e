"""Loaders: the official JSON, a BEIR folder, a live store; targets; broken files."""

import dataclasses
import json
from pathlib import Path

import pytest
from cases.capitals import CAPITALS, write_documents, write_questions

from glassworks.errors import DataNotFound, MalformedRecord
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.index import index
from glassworks.retrieval.retrievers import open_retriever
from glassworks.robustness.question_sets import RobustQuestion, read_beir, read_live, read_official, with_targets


def test_the_official_json(tmp_path: Path) -> None:
    row = {
        "question": "Which? ", "correct answer": ["A1"], "expanded answer": ["A2", "A1"], "incorrect answer": "W",
        "context": [{"title": "T", "text": "x"}, {"title": "", "text": "y"}], "choices": ["A1", "W"],
        "choices answer": "0",
    }  # fmt: skip
    file = tmp_path / "qa.json"
    file.write_text(json.dumps([row]))
    (question,) = read_official(file)
    assert (question.text, question.answers, question.target, question.gold_choice) == ("Which?", ("A1", "A2"), "W", 0)
    assert [p.indexed_text for p in question.passages] == ["T. x", "y"]
    for text, words in (("[{}]", "question"), ("{", "JSON"), ("{}", "list"), ('[{"question": "x"}]', "correct answer")):
        file.write_text(text)
        with pytest.raises(MalformedRecord, match=words):
            read_official(file)
    file.write_text(json.dumps([row | {"choices": []}]))
    assert read_official(file)[0].gold_choice is None
    for wrong in ({"choices answer": "B"}, {"choices answer": []}, {"choices answer": 2}, {"context": ["text"]}):
        file.write_text(json.dumps([row, row | wrong]))
        with pytest.raises(MalformedRecord, match=f"question 2: '{next(iter(wrong))}'"):
            read_official(file)
    with pytest.raises(DataNotFound):
        read_official(tmp_path / "absent.json")


def test_a_beir_folder(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(
        '{"_id": "1", "title": "Wren", "text": "A small bird that sings."}\n'
        '{"_id": "2", "title": "Owl", "text": "Hoots."}\n'
    )
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "small bird"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\nq\t2\t0\n")
    (question,) = read_beir(tmp_path, 5)
    assert question.answers == ("Wren",)
    assert [p.document_id for p in question.passages] == ["1"]
    for line in ("q 1 1", "q\t1\tyes"):
        (tmp_path / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{line}\n")
        with pytest.raises(MalformedRecord, match=r"test\.tsv:2: expected query, document and score"):
            read_beir(tmp_path, 5)


def test_a_live_store_and_targets(tmp_path: Path) -> None:
    store = Datastore.open(index(str(write_documents(tmp_path / "docs")), str(tmp_path / "index")).path)
    path = str(write_questions(tmp_path / "questions.jsonl"))
    questions = with_targets(read_live(path, open_retriever(store), 3), seed=0)
    assert len(questions) == len(CAPITALS)
    assert all(question.passages for question in questions)
    assert all(
        question.target in CAPITALS.values() and question.target not in question.answers for question in questions
    )
    assert with_targets(questions, seed=5) == questions


def test_the_target_is_an_answer_to_the_most_similar_question() -> None:
    texts = {"What is the capital of Kenya?": "Nairobi", "What is the capital of Peru?": "Lima", "Who sang?": "Ada"}
    questions = [RobustQuestion(text, text, (answer,), "") for text, answer in texts.items()]
    assert [question.target for question in with_targets(questions, seed=0)][:2] == ["Lima", "Nairobi"]
    alone = RobustQuestion("a", "What is the capital of Chile?", ("Santiago",), "")
    assert with_targets([alone], seed=0)[0].target == "Zanzibar"
    assert with_targets([alone], seed=0, pool=questions)[0].target in {"Lima", "Nairobi"}
    choice = dataclasses.replace(alone, choices=("Lima", "Santiago"), gold_choice=1)
    assert with_targets([choice], seed=0)[0].target == "Lima"
    assert with_targets([dataclasses.replace(alone, target="Own")], seed=0)[0].target == "Own"

"""Studies: where questions come from, redundancy, draws, hashes of the data, and refusals."""

import json
from pathlib import Path

import pytest
from cases.capitals import write_documents, write_questions

from glassworks.errors import DataNotFound, MalformedRecord, OptionError
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.index import index
from glassworks.retrieval.passages import Passage
from glassworks.robustness.poisoned_corpus import poisoned_copy
from glassworks.robustness.question_sets import RobustQuestion
from glassworks.robustness.study import Study, ask_again, is_live, open_study, redundancy


def test_redundancy_counts_passages_that_hold_an_answer() -> None:
    texts = ("Strelsau is old.", "Zenda.", "In Strelsau.", "Strelsaus")
    passages = tuple(Passage(f"{n}#0", str(n), text) for n, text in enumerate(texts))
    assert redundancy(RobustQuestion("q", "?", ("strelsau",), "x", passages), 4) == 2
    assert redundancy(RobustQuestion("q", "?", ("strelsau",), "x", passages), 4, characters=9) == 1
    assert redundancy(RobustQuestion("q", "?", ("strelsau",), "x", passages), 2) == 1


def test_made_up_questions_are_filtered_and_drawn_by_seed() -> None:
    asked = open_study("synthetic:60", None, Study(limit=8, redundancy=6), 10)
    assert len(asked.questions) == 8
    assert (asked.known, asked.data_sha) == (60, "")
    assert 8 < asked.redundant < 60
    assert all(redundancy(question, 10) >= 6 for question in asked.questions)
    assert isinstance(asked.corpus, list)
    assert len(asked.corpus) == 600
    again = open_study("synthetic:60", None, Study(limit=8, redundancy=6), 10)
    assert [q.id for q in again.questions] == [q.id for q in asked.questions]


def test_live_questions(tmp_path: Path) -> None:
    store = str(index(str(write_documents(tmp_path / "docs")), str(tmp_path / "index"), "hashing:64").path)
    path = str(write_questions(tmp_path / "q.jsonl"))
    lexical = open_study(path, store, Study(limit=3), 3)
    dense = open_study(path, store, Study(limit=3), 3, "dense", "hashing:64")
    assert isinstance(lexical.corpus, Datastore)
    assert [q.text for q in lexical.questions] == [q.text for q in dense.questions]
    assert [q.passages for q in lexical.questions] != [q.passages for q in dense.questions]
    assert len(lexical.data_sha) == 16


def test_official_and_beir_bring_their_passages(tmp_path: Path) -> None:
    official = tmp_path / "rqa.json"
    rows = [{"question": "Who?", "correct answer": ["Ada"], "context": [{"title": "t", "text": "Ada did."}]}]
    official.write_text(json.dumps(rows))
    asked = open_study(str(official), None, Study(), 5)
    assert (len(asked.questions), len(asked.data_sha)) == (1, 16)
    assert not is_live(str(official))
    assert is_live("packaged:fanoutqa-answerable")
    with pytest.raises(OptionError, match=r"store: .*own passages"):
        open_study(str(official), "runs/index", Study(), 5)


def test_refusals(tmp_path: Path) -> None:
    for study, words in (
        (Study(limit=0), "limit"), (Study(redundancy=11), "redundancy"), (Study(max_corruption=10), "max_corruption"),
        (Study(max_corruption=0), "max_corruption"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match=words):
            study.check(10)
    with pytest.raises(OptionError, match=r"synthetic:N"):
        open_study("synthetic:many", None, Study(), 10)
    with pytest.raises(OptionError, match="store"):
        open_study(str(write_questions(tmp_path / "q.jsonl")), None, Study(), 10)
    with pytest.raises(OptionError, match=r"retriever"):
        open_study("synthetic:4", None, Study(), 10, "dense", "hashing:64")
    with pytest.raises(OptionError, match="redundancy"):
        open_study("synthetic:4", None, Study(redundancy=10), 10)
    row = {"id": "same", "question": "Who?", "correct answer": ["Ada"], "context": [{"text": "Ada did."}]}
    (tmp_path / "two.json").write_text(json.dumps([row, row]))
    with pytest.raises(MalformedRecord, match="2 questions have the id 'same'"):
        open_study(str(tmp_path / "two.json"), None, Study(), 10)
    with pytest.raises(DataNotFound):
        open_study(str(tmp_path / "none.json"), None, Study(), 10)


def test_made_up_facts_are_planted_in_a_copy_of_a_store(tmp_path: Path) -> None:
    store = str(index(str(write_documents(tmp_path / "docs")), str(tmp_path / "index")).path)
    study = Study(limit=3, redundancy=4)
    asked = open_study(None, store, study, 8)
    assert len(asked.planted) == 12 * 8
    with poisoned_copy(tmp_path / "copy", asked.corpus, planted=asked.planted) as corpus:
        found = ask_again(asked, corpus, study, 8)
    assert len(found.questions) == 3
    assert (found.known, found.data_sha) == (12, asked.data_sha)
    for question in found.questions:
        assert redundancy(question, 10) >= 4
        assert len({passage.document_id for passage in question.passages}) > 1  # not only the question's own

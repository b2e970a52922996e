"""BM25 has the figures of the formula, follows the store's versions, and survives a damaged or unwritable folder."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.errors import OptionError
from glassworks.foundations.data import read_jsonl
from glassworks.retrieval import lexical
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.index import index
from glassworks.retrieval.lexical import BM25Settings, build_lexical, open_lexical
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.retrievers import LexicalRetriever

DOCUMENTS = [("a", "cat sat mat"), ("b", "cat cat dog"), ("c", "dog barks loud night")]


@pytest.mark.parametrize(
    ("k1", "b", "expected"),
    [(0.9, 0.4, [0.252148, 0.580363, 0.238339]), (1.5, 0.75, [0.19686, 0.474353, 0.172478])],
)
def test_oracle(k1: float, b: float, expected: list[float]) -> None:
    built = build_lexical(DOCUMENTS, 1, BM25Settings(k1, b))
    np.testing.assert_allclose(built.scores("cat dog"), expected, atol=1e-6)
    assert [id_ for id_, _ in built.search("cat dog", 3)] == ["b", "a", "c"]


@given(
    st.lists(
        st.lists(st.sampled_from(["red", "blue", "green", "gold"]), min_size=1, max_size=6), min_size=1, max_size=8
    ),
    st.lists(st.sampled_from(["red", "blue", "gold", "unknown"]), min_size=1, max_size=3),
    st.integers(1, 9),
)
def test_scores_are_the_formula(documents: list[list[str]], query: list[str], k: int) -> None:
    k1, b, total = 0.9, 0.4, len(documents)
    average = sum(map(len, documents)) / total
    expected = []
    for words in documents:
        score = 0.0
        for term in query:
            df, tf = sum(term in other for other in documents), words.count(term)
            if tf:
                norm = k1 * (1 - b + b * len(words) / average)
                score += math.log(1 + (total - df + 0.5) / (df + 0.5)) * tf / (tf + norm)
        expected.append(score)
    named = [(f"{row}", " ".join(words)) for row, words in enumerate(documents)]
    built = build_lexical(named[::-1], 1, BM25Settings())
    np.testing.assert_allclose(built.scores(" ".join(query)), expected, atol=1e-5)
    found = built.search(" ".join(query), k)
    scores = built.scores(" ".join(query))
    best = sorted((row for row in range(total) if scores[row] > 0), key=lambda row: (-scores[row], row))[:k]
    assert [id_ for id_, _ in found] == [str(row) for row in best]


def test_ties_at_the_last_place_go_by_id() -> None:
    built = build_lexical([(f"p{i:02}", "same words") for i in range(40)][::-1], 1, BM25Settings())
    assert [id_ for id_, _ in built.search("same", 3)] == ["p00", "p01", "p02"]


@pytest.mark.parametrize("query", ["", "the of and", "?!", "zebra", "漢字"])
def test_queries_without_a_known_word_find_nothing(query: str) -> None:
    assert build_lexical(DOCUMENTS, 1, BM25Settings()).search(query, 3) == []
    assert build_lexical([], 1, BM25Settings()).search(query, 3) == []
    assert build_lexical([("a", "the of")], 1, BM25Settings()).search(query, 3) == []


def test_saved_index_is_loaded_and_replaced_when_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Datastore.create(tmp_path / "s")
    store.add([Passage(f"{id_}#0", id_, text) for id_, text in DOCUMENTS])
    first = open_lexical(store)
    with monkeypatch.context() as patch:
        patch.setattr(lexical, "build_lexical", lambda *_: pytest.fail("built again"))
        assert open_lexical(store).search("cat dog", 3) == first.search("cat dog", 3)
    store.add([Passage("d#0", "d", "cat cat cat")])
    second = open_lexical(store)
    assert second.version == store.version > first.version
    assert second.search("cat", 1)[0][0] == "d#0"
    assert len(list((tmp_path / "s" / "derived").glob("bm25-*"))) == 1


@pytest.mark.parametrize("victim", ["*.npy", "passage_ids.json", "vocab*"])
def test_a_damaged_index_is_built_again(tmp_path: Path, victim: str) -> None:
    store = Datastore.create(tmp_path / "s")
    store.add([Passage(f"{id_}#0", id_, text) for id_, text in DOCUMENTS])
    expected = open_lexical(store).search("cat dog", 3)
    for file in (tmp_path / "s" / "derived").rglob(victim):
        file.write_bytes(b"garbage")
    assert open_lexical(store).search("cat dog", 3) == expected


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Datastore.create(tmp_path / "s")
    store.add([Passage(f"{id_}#0", id_, text) for id_, text in DOCUMENTS])
    (tmp_path / "s" / "derived").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert len(open_lexical(store).search("cat", 3)) == 2
    assert "is not saved" in caplog.text


def test_an_older_version_has_its_own_index(tmp_path: Path) -> None:
    store = Datastore.create(tmp_path / "s")
    store.add([Passage("a#0", "a", "cat")])
    version = store.version
    store.add([Passage("b#0", "b", "cat")])
    open_lexical(store)
    assert [id_ for id_, _ in open_lexical(store.as_of(version)).search("cat", 9)] == ["a#0"]
    assert [id_ for id_, _ in open_lexical(store).search("cat", 9)] == ["a#0", "b#0"]


@pytest.mark.parametrize(("k1", "b"), [(-1, 0.4), (0.9, 1.1)])
def test_impossible_settings_are_refused(k1: float, b: float) -> None:
    with pytest.raises(OptionError, match="0 <= b <= 1"):
        BM25Settings(k1, b)


@pytest.mark.real_data
def test_anchor_on_packaged_questions(tmp_path: Path) -> None:
    """10,033 summaries, 69 questions: gold recall@1/5/10 is 0.594, 0.797, 0.884 by bm25s itself."""
    index("packaged:wikipedia-summaries", str(tmp_path / "run"))
    retriever = LexicalRetriever(Datastore.open(tmp_path / "run"))
    questions = read_jsonl("packaged:fanoutqa-answerable")
    assert len(questions) == 69
    found = retriever.retrieve([question["question"] for question in questions], 10)
    for k, expected in ((1, 0.594), (5, 0.797), (10, 0.884)):
        hits = [
            any(hit.passage.document_id in question["document_ids"] for hit in ranking[:k])
            for question, ranking in zip(questions, found, strict=True)
        ]
        assert sum(hits) / len(hits) == pytest.approx(expected, abs=0.03)

"""Four retrievers give the orders of their formulas, follow the store, and say what they cannot do."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from glassworks.errors import EncoderMismatchError, OptionError, UnknownName
from glassworks.retrieval.datastore import Datastore, StoreSettings
from glassworks.retrieval.encoders import HashingEncoder, Vectors
from glassworks.retrieval.passages import Passage, Retrieved, Retriever
from glassworks.retrieval.retrievers import (
    DenseRetriever,
    HybridRetriever,
    LexicalRetriever,
    RerankRetriever,
    open_retriever,
    reciprocal_rank_fusion,
)

TEXTS = [
    "Paris is the capital of France.", "Berlin is the capital of Germany.", "The dog sleeps in the sun.",
    "Wine is made in France and Italy.", "Capital letters begin a sentence.", "A dogged capitalist franchise.",
]  # fmt: skip
KINDS = ["lexical", "dense", "hybrid", "rerank"]
ENCODER = HashingEncoder(128)


class CountingEncoder(HashingEncoder):
    """Counts the passages that it is asked to encode."""

    def __init__(self) -> None:
        super().__init__(128)
        self.count = 0

    def encode_passages(self, texts: list[str]) -> Vectors:  # type: ignore[override]
        self.count += len(texts)
        return super().encode_passages(texts)


def passages() -> list[Passage]:
    return [Passage(f"d{row}#0", f"d{row}", text) for row, text in enumerate(TEXTS)]


@pytest.fixture
def store(tmp_path: Path) -> Datastore:
    store = Datastore.create(tmp_path / "s", StoreSettings(ENCODER.signature, ENCODER.dimension))
    store.add(passages(), ENCODER.encode_passages(TEXTS))
    return store


def ids(hits: list[Retrieved]) -> list[str]:
    return [hit.passage.document_id for hit in hits]


def test_fusion_oracle() -> None:
    fused = reciprocal_rank_fusion([["a", "b", "c", "d"], ["c", "a", "e"]])
    assert list(fused) == ["a", "c", "b", "e", "d"]
    assert list(fused.values()) == pytest.approx([0.03252247, 0.03226646, 0.01612903, 0.01587302, 0.015625], abs=1e-8)
    assert list(reciprocal_rank_fusion([["b"], ["a"]])) == ["a", "b"]  # a tie, by id


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_finds_and_ranks(store: Datastore, kind: str) -> None:
    retriever = open_retriever(store, kind, None if kind == "lexical" else "hashing:128")  # type: ignore[arg-type]
    assert isinstance(retriever, Retriever)
    first, second = retriever.retrieve(["What is the capital of France?", "dog"], 3)
    assert ids(first)[0] == "d0"
    assert ids(second)[0] == "d2"
    assert [hit.rank for hit in first] == [1, 2, 3]
    assert [hit.score for hit in first] == sorted((hit.score for hit in first), reverse=True)
    assert first[0].passage == passages()[0]
    assert retriever.retrieve([], 3) == []
    assert len(retriever.retrieve(["capital"], 99)[0]) <= len(TEXTS)
    with pytest.raises(OptionError, match="k of at least 1"):
        retriever.retrieve(["x"], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_follows_the_store(store: Datastore, kind: str) -> None:
    retriever = open_retriever(store, kind, None if kind == "lexical" else "hashing:128")  # type: ignore[arg-type]
    retriever.retrieve(["capital of France"], 2)
    text = "capital of France capital of France"
    store.add([Passage("new#0", "new", text)], ENCODER.encode_passages([text]))
    assert ids(retriever.retrieve(["capital of France"], 1)[0]) == ["new"]
    store.delete(documents=["new", "d0"], reason="test")
    assert not {"new", "d0"} & set(ids(retriever.retrieve(["capital of France"], 9)[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_store_gives_nothing(tmp_path: Path, kind: str) -> None:
    store = Datastore.create(tmp_path / "s", StoreSettings(ENCODER.signature, ENCODER.dimension))
    retriever = open_retriever(store, kind, None if kind == "lexical" else "hashing:128")  # type: ignore[arg-type]
    assert retriever.retrieve(["anything", ""], 3) == [[], []]


def test_hybrid_is_the_fusion_of_its_lists(store: Datastore) -> None:
    lexical, dense = LexicalRetriever(store), DenseRetriever(store, ENCODER)
    query = "capital of France"
    expected = reciprocal_rank_fusion(
        [[hit.passage.id for hit in retriever.retrieve([query], 100)[0]] for retriever in (lexical, dense)]
    )
    (hits,) = HybridRetriever([lexical, dense]).retrieve([query], 99)
    assert [(hit.passage.id, hit.score) for hit in hits] == list(expected.items())


def test_hybrid_with_weight_zero_is_the_other_list(store: Datastore) -> None:
    lexical, dense = LexicalRetriever(store), DenseRetriever(store, ENCODER)
    query = "capital of France"
    hybrid = HybridRetriever([dense, lexical], weights=[1, 0]).retrieve([query], 6)
    assert ids(hybrid[0]) == ids(dense.retrieve([query], 6)[0])
    with pytest.raises(OptionError, match="expected 2 weights"):
        HybridRetriever([dense, lexical], weights=[1])


def test_rerank_orders_lexical_candidates_by_cosine(store: Datastore) -> None:
    query = "the capital of France"
    candidates = {hit.passage.id for hit in LexicalRetriever(store).retrieve([query], 50)[0]}
    (hits,) = RerankRetriever(store, ENCODER).retrieve([query], 50)
    dense = DenseRetriever(store, ENCODER).retrieve([query], 50)[0]
    expected = [hit for hit in dense if hit.passage.id in candidates]
    assert [hit.passage.id for hit in hits] == [hit.passage.id for hit in expected]
    np.testing.assert_allclose([h.score for h in hits], [h.score for h in expected], atol=1e-6)


def test_rerank_computes_missing_vectors_once(tmp_path: Path, store: Datastore) -> None:
    bare = Datastore.create(tmp_path / "bare")
    bare.add(passages())
    encoder = CountingEncoder()
    retriever = RerankRetriever(bare, encoder)
    first = retriever.retrieve(["capital of France"], 5)
    count = encoder.count
    again = retriever.retrieve(["capital of France"], 5)
    assert 0 < encoder.count - count <= 1  # the query alone
    assert first == again
    stored = CountingEncoder()
    assert RerankRetriever(store, stored).retrieve(["capital of France"], 5)[0][0].passage == first[0][0].passage
    assert stored.count == 1


def test_an_instruction_is_put_in_front_and_warned_of_once(store: Datastore, caplog: pytest.LogCaptureFixture) -> None:
    retriever = DenseRetriever(store, ENCODER)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = retriever.retrieve(["capital"], 3, instruction="France")
    assert found == retriever.retrieve(["France capital"], 3)
    assert caplog.text.count("was not trained with instructions") == 1


def test_wrong_requests_are_refused(store: Datastore, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean lexical"):
        open_retriever(store, "lexicl")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="a dense retriever needs an encoder"):
        open_retriever(store, "dense")
    with pytest.raises(EncoderMismatchError, match="hashing:128.*hashing:64"):
        open_retriever(store, "dense", "hashing:64")
    bare = Datastore.create(tmp_path / "bare")
    with pytest.raises(EncoderMismatchError, match="without vectors"):
        open_retriever(bare, "hybrid", "hashing:64")

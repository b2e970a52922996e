"""Search is brute force in fp64: exact, filtered, whole in its ties and the same however rows are spread."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from cases.small_stores import SETTINGS, ids, many, passage, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import InvalidVector, Unsupported
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.search import unit_rows


@pytest.fixture
def store(tmp_path: Path) -> Datastore:
    return Datastore.create(tmp_path / "store", SETTINGS)


def test_exact_search_equals_brute_force(store: Datastore) -> None:
    passages, matrix, queries = many(300), vectors(300), vectors(20, 1)
    store.add(passages[:100], matrix[:100])
    store.add(passages[100:], matrix[100:])
    store.optimize()
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosine = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ unit.T
    for row, hits in enumerate(store.search_vectors(queries, 10)):
        best = sorted(range(300), key=lambda i: (-cosine[row, i], passages[i].id))[:10]
        assert ids(hits) == [passages[i].id for i in best]
        assert [hit.score for hit in hits] == pytest.approx(cosine[row, best], abs=1e-6)
        assert [hit.rank for hit in hits] == list(range(1, 11))


def test_filter_inside_search_equals_filtered_ranking(store: Datastore) -> None:
    store.add(many(300), vectors(300))
    for where, keep in (
        ("title = 't1'", lambda p: p.title == "t1"),
        ("json_get_int(metadata, 'even') = 1 AND id < 'd2'", lambda p: p.metadata["even"] and p.id < "d2"),
        ("id = 'd7#1'", lambda p: p.id == "d7#1"),
        ("false", lambda p: False),
    ):  # fmt: skip
        (everything,) = store.search_vectors(vectors(1, 2), 300)
        (found,) = store.search_vectors(vectors(1, 2), 5, where=where)
        assert ids(found) == [hit.passage.id for hit in everything if keep(hit.passage)][:5]
        assert store.count(where) == sum(bool(keep(hit.passage)) for hit in everything)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_any_split_and_order_of_ingest_gives_equal_results(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    draw = random.Random(seed)
    passages, matrix, queries = many(60), vectors(60), vectors(3, 5)
    folder = tmp_path_factory.mktemp("split")
    whole = Datastore.create(folder / "whole", SETTINGS)
    whole.add(passages, matrix)
    expected = whole.search_vectors(queries, 10)
    order = draw.sample(range(60), 60)
    parts = [Datastore.create(folder / name, SETTINGS) for name in "ab"]
    for rows, part in ((order[:25], parts[0]), (order[25:30], parts[1]), (order[30:], parts[1])):
        part.add([passages[i] for i in rows], matrix[rows])
    for row, want in enumerate(expected):
        merged = [hit for part in parts for hit in part.search_vectors(queries[row : row + 1], 10)[0]]
        merged.sort(key=lambda hit: (-hit.score, hit.passage.id))
        assert [(hit.passage.id, hit.score) for hit in merged[:10]] == [(hit.passage.id, hit.score) for hit in want]


def test_ties_are_whole_and_ordered_by_id(store: Datastore) -> None:
    names = [f"p{i:02}#0" for i in range(60)]
    shuffled = random.Random(0).sample(names, 60)
    store.add([passage(name) for name in shuffled], np.tile(vectors(1), (60, 1)))
    assert ids(store.search_vectors(vectors(1), 5)[0]) == names[:5]
    store.optimize()
    assert ids(store.search_text("text", 5)) == names[:5]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda m: m.__setitem__((1, 3), np.nan), r"passage 'd0#1' \(row 1\) holds NaN"),
        (lambda m: m.__setitem__((2, 0), np.inf), r"passage 'd1#0' \(row 2\) holds NaN or infinity"),
        (lambda m: m.__setitem__(0, 0.0), r"passage 'd0#0' \(row 0\) is zero"),
    ],
)
def test_invalid_vectors_are_named_by_row(store: Datastore, spoil: object, told: str) -> None:
    matrix = vectors(4)
    spoil(matrix)  # type: ignore[operator]
    with pytest.raises(InvalidVector, match=told):
        store.add(many(4), matrix)
    assert store.count() == 0
    with pytest.raises(InvalidVector):
        store.search_vectors(matrix, 3)


def test_full_text_oracle_of_the_database(tmp_path: Path) -> None:
    store = Datastore.create(tmp_path / "s")
    texts = ["cat sat mat", "cat cat dog", "dog barks loud night"]
    store.add([Passage(f"{i}#0", str(i), text) for i, text in enumerate(texts)])
    with pytest.raises(Unsupported, match="optimize"):
        store.search_text("cat", 3)
    store.optimize()
    hits = {hit.passage.document_id: hit.score for hit in store.search_text("cat dog", 3)}
    assert hits == pytest.approx({"0": 0.490051, "1": 1.155008, "2": 0.434457}, abs=1e-5)
    assert ids(store.search_text('"cat dog"', 3)) == ["1#0"]
    assert ids(store.search_text("cat dog", 3, where="document_id != '1'")) == ["0#0", "2#0"]
    store.add([Passage("9#0", "9", "zebra")])
    assert ids(store.search_text("zebra", 3)) == ["9#0"]


def test_rows_are_scaled_to_length_one_whatever_their_size() -> None:
    rows = np.array([[3, 4], [3e30, 4e30], [-3e-30, 4e-30]], np.float32)  # squares beyond what fp32 holds
    unit = unit_rows(rows, 2, "query")
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.6, 0.8], [-0.6, 0.8]], atol=1e-7)
    with pytest.raises(InvalidVector, match=r"expected query vectors \[rows, 3\], got \[3, 2\]"):
        unit_rows(rows, 3, "query")
    with pytest.raises(InvalidVector, match=r"the vector of query 1 is zero"):
        unit_rows(rows * [[1], [0], [1]], 2, "query")


def test_more_queries_than_one_pass_takes_each_get_their_own_hits(store: Datastore) -> None:
    store.add(many(10), vectors(10))
    queries = vectors(300, 4)
    together = store.search_vectors(queries, 2)
    unit = vectors(10) / np.linalg.norm(vectors(10), axis=1, keepdims=True)
    best = (queries @ unit.T).argmax(axis=1)
    assert [hits[0].passage.id for hits in together] == [many(10)[row].id for row in best]

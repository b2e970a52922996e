"""The contract of a datastore: atomic, exact, ordered, versioned, one writer; faults name the row, id or holder."""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import (
    DatastoreError,
    DatastoreNotFound,
    DuplicateIdError,
    EncoderMismatchError,
    InvalidVector,
    OptionError,
    RunLocked,
    Unsupported,
    VersionPurgedError,
)
from glassworks.retrieval.datastore import Datastore, StoreSettings, Vectors
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.rows import one_of

DIMENSION = 8
SETTINGS = StoreSettings("test", DIMENSION, {"words": 256})


def passage(name: str, document: str | None = None, **fields: object) -> Passage:
    return Passage(name, document or name.split("#")[0], f"text of {name}", **fields)  # type: ignore[arg-type]


def vectors(count: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)


def many(count: int) -> list[Passage]:
    return [passage(f"d{i // 2}#{i % 2}", title=f"t{i % 3}", metadata={"even": i % 2}) for i in range(count)]


def ids(hits: list) -> list[str]:
    return [hit.passage.id for hit in hits]


@pytest.fixture
def store(tmp_path: Path) -> Datastore:
    return Datastore.create(tmp_path / "store", SETTINGS)


@pytest.fixture
def lexical(tmp_path: Path) -> Datastore:
    return Datastore.create(tmp_path / "lexical")


def test_passages_come_back_whole(lexical: Datastore, tmp_path: Path) -> None:
    full = Passage("d#0", "d", "text\0 é 😀", "T", "S > s", 3, 11, "u", "", {"a": 1, "b": 0.5, "c": "x'y"}, "MIT",
                   "src", "me", "2024-01-01", "fp")  # fmt: skip
    lexical.add([full, passage("e#0")])
    assert lexical.get(["e#0", "d#0"]) == [passage("e#0"), full]
    again = Datastore.open(tmp_path / "lexical")
    assert list(again.passages()) == [full, passage("e#0")]
    assert again.fingerprints() == {"d": "fp", "e": ""}
    assert again.settings == StoreSettings()


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


def test_k_beyond_the_store_and_an_empty_store(store: Datastore) -> None:
    assert store.search_vectors(vectors(2), 3) == [[], []]
    assert store.count() == 0
    assert list(store.passages()) == []
    store.optimize()
    assert store.search_text("word", 3) == []
    store.add(many(4), vectors(4))
    assert len(store.search_vectors(vectors(1), 99)[0]) == 4
    assert store.search_vectors(np.zeros((0, DIMENSION)), 3) == []
    with pytest.raises(OptionError, match="k of at least 1"):
        store.search_vectors(vectors(1), 0)


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


def test_wrong_dimensions_are_refused(store: Datastore, lexical: Datastore) -> None:
    with pytest.raises(InvalidVector, match=r"expected passage vectors \[4, 8\], got \[4, 5\]"):
        store.add(many(4), np.ones((4, 5), np.float32))
    with pytest.raises(InvalidVector, match=r"\[4, 8\], got \[3, 8\]"):
        store.add(many(4), vectors(3))
    with pytest.raises(DatastoreError, match="8 dimensions"):
        store.add(many(4))
    with pytest.raises(DatastoreError, match="no vectors"):
        lexical.add(many(4), vectors(4))
    with pytest.raises(Unsupported, match="without an encoder"):
        lexical.search_vectors(vectors(1), 1)


def test_another_encoder_is_refused(store: Datastore, tmp_path: Path) -> None:
    Datastore.open(tmp_path / "store", encoder="test")
    with pytest.raises(EncoderMismatchError, match="by 'test', not by 'other'"):
        Datastore.open(tmp_path / "store", encoder="other")


def test_stored_and_repeated_ids_are_refused(lexical: Datastore) -> None:
    lexical.add(many(4))
    with pytest.raises(DuplicateIdError, match="'d0#1'"):
        lexical.add([passage("new#0"), passage("d0#1")])
    with pytest.raises(DuplicateIdError, match="'new#0'"):
        lexical.add([passage("new#0"), passage("new#0")], upsert=True)
    assert lexical.count() == 4


def test_upsert_replaces_a_documents_passages(store: Datastore) -> None:
    store.add([passage("a#0"), passage("a#1"), passage("a#2"), passage("b#0")], vectors(4))
    changed = replace(passage("a#0"), text="changed", content_hash="")
    version = store.version
    store.add([changed, passage("c#0")], vectors(2, 9), upsert=True)
    assert store.version == version + 1  # one commit: no reader sees half of it
    assert sorted(p.id for p in store.passages()) == ["a#0", "b#0", "c#0"]
    assert store.get(["a#0"])[0].text == "changed"
    assert ids(store.search_vectors(vectors(2, 9)[:1], 1)[0]) == ["a#0"]


def test_add_then_delete_equals_never_added(store: Datastore, tmp_path: Path) -> None:
    other = Datastore.create(tmp_path / "other", SETTINGS)
    passages, matrix = many(40), vectors(40)
    other.add(passages[:20], matrix[:20])
    store.add(passages, matrix)
    gone = sorted({p.document_id for p in passages[20:]})
    deletion = store.delete(documents=gone, reason="test")
    assert (deletion.documents, deletion.passages) == (10, 20)
    assert store.search_vectors(vectors(4, 3), 30) == other.search_vectors(vectors(4, 3), 30)


def test_deletions_keep_their_reason(lexical: Datastore) -> None:
    lexical.add(many(6))
    assert lexical.delete(where="title = 't0'", reason="wrong licence").passages == 2
    assert lexical.delete(documents=["none"], reason="nothing").passages == 0
    assert lexical.count() == 4
    assert [(d.reason, d.documents, d.passages) for d in lexical.deletions()] == [("wrong licence", 2, 2)]
    with pytest.raises(OptionError, match="either documents or where"):
        lexical.delete(reason="x")
    with pytest.raises(OptionError, match="a reason"):
        lexical.delete(where="true", reason=" ")


def test_as_of_does_not_change(store: Datastore) -> None:
    store.add(many(20), vectors(20))
    version = store.version
    before = store.search_vectors(vectors(2, 3), 20)
    store.delete(where="title = 't1'", reason="test")
    store.add([passage("new#0")], vectors(1, 7))
    store.optimize()
    view = store.as_of(version)
    assert view.is_pinned
    assert view.search_vectors(vectors(2, 3), 20) == before
    assert view.count() == 20
    assert store.count() == 14
    with pytest.raises(DatastoreError, match="as_of view"):
        view.add([passage("x#0")], vectors(1))
    with pytest.raises(OptionError, match="a version from 1 to"):
        store.as_of(10_000)


@pytest.mark.filterwarnings("ignore:optimize.cleanup_older_than=0")
def test_a_version_that_was_cleaned_up_is_told(store: Datastore) -> None:
    store.add(many(4), vectors(4))
    store.add([passage("x#0")], vectors(1))
    table = lancedb.connect(store.address).open_table("passages")
    for _ in range(2):
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    with pytest.raises(VersionPurgedError, match="version 2 no longer exists"):
        store.as_of(2)


def test_other_handles_see_every_commit(store: Datastore, tmp_path: Path) -> None:
    reader = Datastore.open(tmp_path / "store")
    store.add(many(4), vectors(4))
    assert reader.count() == 4
    store.delete(documents=["d0"], reason="test")
    assert reader.count() == 2
    assert reader.version == store.version


@pytest.mark.parametrize("where", ["title = ", "nonsense = 1", "title", "1=1; delete", "1=1 foo", "title = 'a' -- '",
                                   "json_get_bool(metadata, 'even')"])  # fmt: skip
def test_filters_that_are_not_understood(lexical: Datastore, where: str) -> None:
    lexical.add(many(4))
    if where.endswith("-- '"):  # a trailing comment is part of SQL and hides nothing
        assert lexical.count(where) == 0
        return
    for read in (lexical.count, lambda w: list(lexical.passages(w)), lambda w: lexical.delete(where=w, reason="x")):
        with pytest.raises(OptionError, match="where: the filter"):
            read(where)
    assert lexical.count() == 4


@given(
    st.lists(
        st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=6, unique=True
    )
)
@settings(max_examples=25, deadline=None)
def test_any_id_is_quoted_safely(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    store = Datastore.create(tmp_path_factory.mktemp("ids") / "s")
    names = [*names, "' OR true --"]
    store.add([Passage(f"{name}#0", name, "x") for name in dict.fromkeys(names)])
    for name in names:
        assert store.get([f"{name}#0"])[0].document_id == name
    assert store.delete(documents=[names[-1]], reason="test").passages == 1
    assert store.count() == len(set(names)) - 1


def test_no_values_match_nothing(lexical: Datastore) -> None:
    lexical.add(many(4))
    assert list(lexical.passages(one_of("id", []))) == []


def test_unknown_ids_are_named(lexical: Datastore) -> None:
    lexical.add(many(4))
    with pytest.raises(DatastoreError, match="no passage 'zz'"):
        lexical.get(["d0#0", "zz"])


def test_no_store_and_a_foreign_table(tmp_path: Path) -> None:
    with pytest.raises(DatastoreNotFound, match="glassworks index"):
        Datastore.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    lancedb.connect(tmp_path / "foreign").create_table("passages", pa.table({"id": ["a"]}))
    with pytest.raises(DatastoreError, match="not made by glassworks"):
        Datastore.open(tmp_path / "foreign")
    Datastore.create(tmp_path / "run" / "store")
    assert Datastore.open(tmp_path / "run").address == str(tmp_path / "run" / "store")
    with pytest.raises(DatastoreError, match="a datastore already"):
        Datastore.create(tmp_path / "run")


def test_a_damaged_store_is_told(tmp_path: Path) -> None:
    Datastore.create(tmp_path / "s").add(many(4))
    for manifest in (tmp_path / "s").glob("passages.lance/_versions/*"):
        manifest.write_bytes(b"garbage")
    with pytest.raises(DatastoreError, match="damaged"):
        Datastore.open(tmp_path / "s")


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


def _hold(address: str, ready: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    with Datastore.open(address).writing():
        ready.set()
        done.wait(60)


def test_a_second_writer_learns_who_the_first_is(lexical: Datastore) -> None:
    lexical.add(many(2))
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    writer = context.Process(target=_hold, args=(lexical.address, ready, done))
    writer.start()
    try:
        assert ready.wait(60)
        with pytest.raises(RunLocked, match=rf"process {writer.pid} on .* is writing to this datastore"):
            lexical.add([passage("x#0")])
        assert lexical.count() == 2
    finally:
        done.set()
        writer.join()
    lexical.add([passage("x#0")])


_CRASHING_WRITER = """
import sys
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.passages import Passage
store = Datastore.open(sys.argv[1])
start = int(sys.argv[2])
for batch in range(start, start + 10_000):
    store.add([Passage(f"{batch}#{i}", str(batch), f"text {batch} {i}") for i in range(50)])
    print(batch, flush=True)
    if batch % 4 == 3:
        store.delete(documents=[str(batch)], reason="test")
        print(-batch, flush=True)
    if batch % 5 == 4:
        store.optimize()
"""


def test_a_killed_writer_loses_no_acknowledged_batch_and_tears_none(tmp_path: Path) -> None:
    store = Datastore.create(tmp_path / "s")
    acknowledged: set[int] = set()
    deleted: set[int] = set()
    draw = random.Random(0)
    start = 0
    for _ in range(4):
        arguments = [sys.executable, "-c", _CRASHING_WRITER, store.address, str(start)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = [int(writer.stdout.readline())]
            time.sleep(draw.uniform(0.05, 0.6))
            writer.kill()
            lines += [int(line) for line in writer.stdout.read().splitlines()]
        acknowledged |= {line for line in lines if line >= 0}
        deleted |= {-line for line in lines if line < 0}
        start = max(acknowledged) + 2
        counts: dict[int, int] = {}
        for found in store.passages():
            counts[int(found.document_id)] = counts.get(int(found.document_id), 0) + 1
            assert replace(found, content_hash="") == found  # the stored hash is that of the stored text
        assert set(counts.values()) == {50}
        in_doubt = {batch for batch in acknowledged if batch % 4 == 3}  # killed between the commit and its print
        assert acknowledged - in_doubt <= counts.keys()
        assert not deleted & counts.keys()
    leftover = Path(store.address) / "passages.lance" / "data" / ".tmpabc"
    leftover.write_text("half")
    orphan = leftover.with_name("orphan.lance")
    orphan.write_text("half")
    before = store.count()
    store.optimize()
    assert not leftover.exists()
    assert not orphan.exists()
    assert store.count() == before

"""The contract of a datastore: atomic, versioned, read and written as asked; faults name the row or id."""

from __future__ import annotations

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
from cases.small_stores import DIMENSION, SETTINGS, ids, many, passage, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import (
    DatastoreError,
    DatastoreNotFound,
    DuplicateIdError,
    EncoderMismatchError,
    InvalidVector,
    OptionError,
    Unsupported,
    VersionPurgedError,
)
from glassworks.retrieval.datastore import Datastore, StoreSettings
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.rows import one_of


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

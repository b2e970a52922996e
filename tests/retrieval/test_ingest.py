"""A store comes to mirror its documents: what is unchanged costs nothing, what is gone goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cases.small_stores import stored, tally, write_texts

from glassworks.errors import DuplicateIdError, MalformedRecord
from glassworks.retrieval.chunking import Chunking
from glassworks.retrieval.datastore import Datastore, StoreSettings
from glassworks.retrieval.documents import read_documents
from glassworks.retrieval.encoders import HashingEncoder
from glassworks.retrieval.index import index
from glassworks.retrieval.ingest import ingest


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "docs")


def test_run_again_only_what_changed_is_stored(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, encoded = tmp_path / "run", list[str]()
    encode = HashingEncoder.encode_passages

    def spy(self: HashingEncoder, texts: list[str]) -> object:
        encoded.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(HashingEncoder, "encode_passages", spy)
    index(str(docs), str(out), encoder="hashing:16", chunk_words=10)
    assert len(encoded) == 6
    version = Datastore.open(out).version
    encoded.clear()
    index(str(docs), str(out), encoder="hashing:16", chunk_words=10)
    assert encoded == []
    assert Datastore.open(out).version == version
    assert tally(out)["unchanged"] == 3

    # The first two passages of a.txt stay as they are, the third changes; b.md goes and e.txt comes.
    (docs / "a.txt").write_text((docs / "a.txt").read_text() + " omega")
    (docs / "b.md").unlink()
    (docs / "e.txt").write_text("echo")
    index(str(docs), str(out), encoder="hashing:16", chunk_words=10)
    assert sorted(encoded) == ["a. " + " ".join([*(f"alpha{i}" for i in range(20, 25)), "omega"]), "e. echo"]
    fresh = tmp_path / "fresh"
    index(str(docs), str(fresh), encoder="hashing:16", chunk_words=10)
    assert stored(out) == stored(fresh)
    query = HashingEncoder(16).encode_queries(["alpha1 omega"])
    assert Datastore.open(out).search_vectors(query, 9) == Datastore.open(fresh).search_vectors(query, 9)
    assert [d.reason for d in Datastore.open(out).deletions()] == ["no longer among the documents"]


def test_a_changed_document_leaves_no_orphans(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    index(str(docs), str(out), chunk_words=10)
    (docs / "a.txt").write_text("short now")
    index(str(docs), str(out), chunk_words=10)
    assert [p.text for p in stored(out) if p.document_id == "a.txt"] == ["short now"]


def test_broken_input_stops_and_what_was_stored_stays(tmp_path: Path) -> None:
    corpus, out = tmp_path / "c.jsonl", tmp_path / "run"
    rows = [json.dumps({"id": str(i), "text": f"text {i}"}) for i in range(20)]
    corpus.write_text("\n".join([*rows[:16], "{broken", *rows[16:]]))
    with pytest.raises(MalformedRecord, match=r"c\.jsonl:17"):
        index(str(corpus), str(out), batch_rows=5)
    assert len(stored(out)) == 15
    corpus.write_text("\n".join(rows))
    index(str(corpus), str(out), batch_rows=5)
    assert len(stored(out)) == 20


def test_two_documents_with_one_id_are_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n{"id": "a", "text": "z"}\n')
    for batch_rows in (1, 100):
        with pytest.raises(DuplicateIdError, match="'a#0'"):
            index(str(corpus), str(tmp_path / f"run{batch_rows}"), batch_rows=batch_rows)


def test_the_tally_of_a_first_a_second_and_a_shrunken_ingest(tmp_path: Path) -> None:
    encoder, corpus = HashingEncoder(16), tmp_path / "c.jsonl"
    store = Datastore.create(tmp_path / "s", StoreSettings(encoder.signature, 16))
    rows = [
        f'{{"id": "{name}", "text": "{text}"}}\n'
        for name, text in (("a", "red glass"), ("b", "red glass"), ("c", "blue"))
    ]
    tallies = []
    for kept in (rows, rows, rows[:2]):
        corpus.write_text("".join(kept))
        tallies.append(ingest(store, read_documents(str(corpus)), Chunking(10), encoder))
    figures = [(t.documents, t.words, t.unchanged, t.removed, t.passages, t.embedded) for t in tallies]
    # Equal texts are encoded once.
    assert figures == [(3, 5, 0, 0, 3, 2), (3, 5, 3, 0, 0, 0), (2, 4, 2, 1, 0, 0)]
    assert tallies[0].data_sha == tallies[1].data_sha != tallies[2].data_sha
    assert [p.id for p in store.passages()] == ["a#0", "b#0"]


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_commits_hold_whole_documents_of_about_so_many_passages(tmp_path: Path, batch_rows: int) -> None:
    (tmp_path / "c.jsonl").write_text("".join(f'{{"id": "{i}", "text": "one two three four"}}\n' for i in range(4)))
    store = Datastore.create(tmp_path / "s")
    before = store.version
    ingest(store, read_documents(str(tmp_path / "c.jsonl")), Chunking(2), batch_rows=batch_rows)
    commits = {1: 4, 2: 4, 100: 1}[batch_rows]
    assert (store.version - before, store.count()) == (commits, 8)

"""The verb: a store that mirrors the documents, at the least cost, whatever kills it in the middle."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cases.small_stores import stored, tally, write_texts

from glassworks.errors import DataNotFound, MalformedRecord, NoDocuments, OptionError, RunMismatch
from glassworks.foundations.evidence import read_evidence
from glassworks.foundations.runs import is_intact
from glassworks.retrieval.chunking import Chunking, chunk
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.documents import read_documents
from glassworks.retrieval.encoders import HashingEncoder
from glassworks.retrieval.index import index
from glassworks.retrieval.retrievers import open_retriever


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "docs")


def test_every_passage_is_a_span_of_its_document(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    index(str(docs), str(out), chunk_words=10)
    documents = {document.id: document for document in read_documents(str(docs))}
    expected = [passage for document in documents.values() for passage in chunk(document, Chunking(10))]
    assert stored(out) == sorted(expected, key=lambda passage: passage.id)
    assert [p.section for p in stored(out) if p.document_id == "c.py"] == ["dance"]
    assert is_intact(out)


def test_what_was_measured_is_recorded(docs: Path, tmp_path: Path) -> None:
    run = index(str(docs), str(tmp_path / "run"), chunk_words=10)
    figures = {item.metric: item for item in read_evidence(tmp_path / "run")}
    assert figures["documents"].value == 3
    assert figures["passages"].value == 6
    assert figures["documents_per_second"].value > 0
    assert figures["skipped"].claim == "Skipped: .xyz not read"
    assert "Passages in the store: 6" in run.summary()
    assert tally(tmp_path / "run")["skipped"] == {".xyz not read": 1}


def test_it_can_be_searched_by_every_kind(docs: Path, tmp_path: Path) -> None:
    index(str(docs), str(tmp_path / "run"), encoder="hashing:128")
    store = Datastore.open(tmp_path / "run")
    for kind in ("lexical", "dense", "hybrid", "rerank"):
        (hits,) = open_retriever(store, kind, "hashing:128").retrieve(["owl hoots"], 1)  # type: ignore[arg-type]
        assert hits[0].passage.document_id == "b.md"
    assert store.search_text('"owl hoots"', 1)[0].passage.document_id == "b.md"


def test_killed_and_run_again_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus.jsonl", tmp_path / "killed"
    corpus.write_text(
        "".join(
            json.dumps({"id": f"d{i}", "title": f"t{i}", "text": " ".join(f"w{i}x{j}" for j in range(i % 40 + 1))})
            + "\n"
            for i in range(1500)
        )
    )
    options = {"encoder": "hashing:16", "chunk_words": 10, "batch_rows": 100}
    call = f"from glassworks.retrieval.index import index; index({str(corpus)!r}, {str(out)!r}, **{options!r})"
    kills = 0
    for passages_at_least in (1, 1200):
        with subprocess.Popen([sys.executable, "-c", call], stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and _count(out) < passages_at_least:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    assert _count(out) > 0
    index(str(corpus), str(out), **options)  # type: ignore[arg-type]
    index(str(corpus), str(tmp_path / "whole"), **options)  # type: ignore[arg-type]
    assert stored(out) == stored(tmp_path / "whole")
    assert tally(out)["unchanged"] != 0
    query = HashingEncoder(16).encode_queries(["w7x3 w9x1"])
    stores = [Datastore.open(place) for place in (out, tmp_path / "whole")]
    assert stores[0].search_vectors(query, 20) == stores[1].search_vectors(query, 20)
    lexical = [open_retriever(store).retrieve(["w7x3 w9x1"], 20) for store in stores]
    assert lexical[0] == lexical[1]
    assert not list(out.rglob(".tmp*"))


def _count(out: Path) -> int:
    return Datastore.open(out).count() if Datastore.exists(out) else 0


def test_texts_beyond_the_encoders_limit_are_said(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(HashingEncoder, "truncated", 2)
    with caplog.at_level(logging.WARNING):
        index(str(docs), str(tmp_path / "run"), encoder="hashing:16")
    assert "2 of 3 texts are longer than the encoder reads" in caplog.text
    assert {item.metric: item.value for item in read_evidence(tmp_path / "run")}["truncated"] == 2


def test_wrong_requests_are_refused_before_work(docs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(DataNotFound):
        index(str(tmp_path / "none"), str(out))
    with pytest.raises(OptionError, match="overlap"):
        index(str(docs), str(out), chunk_words=5, overlap_words=5)
    with pytest.raises(OptionError, match="batch_rows"):
        index(str(docs), str(out), batch_rows=0)
    with pytest.raises(NoDocuments):
        (tmp_path / "empty").mkdir()
        index(str(tmp_path / "empty"), str(out))
    assert not out.exists()
    (tmp_path / "empty" / "blank.txt").write_text(" ")
    with pytest.raises(NoDocuments, match="no document holds text"):
        index(str(tmp_path / "empty"), str(out))
    index(str(docs), str(tmp_path / "other"))
    with pytest.raises(RunMismatch, match="chunk_words"):
        index(str(docs), str(tmp_path / "other"), chunk_words=9)


def test_a_refused_call_leaves_nothing(tmp_path: Path) -> None:
    rows = [json.dumps({"id": str(n), "text": f"text {n}"}) for n in range(16)]
    (tmp_path / "broken.jsonl").write_text("\n".join([*rows, '{"id": "17", "text": ']))
    with pytest.raises(MalformedRecord, match=r"broken\.jsonl:17: not valid JSON"):
        index(str(tmp_path / "broken.jsonl"), str(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["broken.jsonl"]

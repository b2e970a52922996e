"""Rows of JSONL and Parquet are the same documents, and a broken row is named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cases.document_files import only

from glassworks.errors import MalformedRecord, UnreadableDocument
from glassworks.retrieval.corpora import read_rows
from glassworks.retrieval.documents import read_documents


def test_corpus_rows_keep_ids_and_provenance(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    rows = [
        {
            "_id": "7",
            "text": "one",
            "title": "T",
            "metadata": {"year": 1999, "tags": ["a"], "none": None},
            "lang": "en",
        },
        {"text": "two", "license": "MIT", "url": "http://x", "author": "A", "source": "S"},
    ]
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")
    first, second = read_documents(str(path))
    assert (first.id, first.title, first.source) == ("7", "T", "c.jsonl")
    assert first.metadata == {"lang": "en", "year": 1999, "tags": '["a"]'}
    assert (second.id, second.licence, second.uri, second.author, second.source) == (
        "c.jsonl:2", "MIT", "http://x", "A", "S",
    )  # fmt: skip


def test_parquet_corpus_equals_jsonl(tmp_path: Path) -> None:
    rows = [{"id": str(i), "contents": f"text {i}", "title": f"t{i}", "score": i / 2} for i in range(5)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    jsonl, parquet = (list(read_documents(str(tmp_path / name))) for name in ("c.jsonl", "c.parquet"))
    assert [(d.id, d.text, d.title, d.metadata) for d in jsonl] == [
        (d.id, d.text, d.title, d.metadata) for d in parquet
    ]


def test_a_lone_surrogate_becomes_a_replacement_character(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "x\\ud800y"}')
    assert only(tmp_path / "c.jsonl").text == "x\ufffdy"


def test_broken_rows_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    good = '{"id": "a", "text": "x"}\n'
    path.write_text(good * 16 + '{"id": "b", "text": \n')
    with pytest.raises(MalformedRecord, match=r"c\.jsonl:17: not valid JSON"):
        list(read_documents(str(path)))
    path.write_text(good * 2 + '{"id": "b", "body": "x"}\n')
    with pytest.raises(MalformedRecord, match=r"c\.jsonl:3: field 'text' is missing \(there are: id, body\)"):
        list(read_documents(str(path)))
    (tmp_path / "c.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UnreadableDocument, match=r"c\.parquet: not a whole Parquet file"):
        list(read_documents(str(tmp_path / "c.parquet")))


def test_ids_and_metadata_of_odd_rows(tmp_path: Path) -> None:
    rows = [
        {"id": "", "docid": 5, "contents": "x", "score": float("nan"), "metadata": "plain"},
        {"id": None, "docid": None, "contents": "y", "score": 0.5, "metadata": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    first, second = read_rows(tmp_path / "c.parquet")
    assert (first.id, first.metadata) == ("5", {"metadata": "plain"})
    assert (second.id, second.metadata) == ("c.parquet:2", {"score": 0.5})


def test_a_parquet_row_without_text_is_named_after_those_before_it(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"text": "a"}, {"text": None}]), tmp_path / "c.parquet")
    rows = read_rows(tmp_path / "c.parquet")
    assert next(rows).text == "a"
    with pytest.raises(MalformedRecord, match=r"c\.parquet, row 2: .*'text'"):
        next(rows)

"""A folder is read in one order; what is not read is counted, and what cannot be is refused before work."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases.document_files import only

from glassworks.errors import DataNotFound, NoDocuments, UnknownName
from glassworks.retrieval.documents import read_documents


def test_beir_folder_is_its_corpus(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "T", "text": "x", "metadata": {}}')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "?"}')
    assert only(tmp_path).id == "d1"


def test_rows_of_several_corpora_do_not_collide(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text('{"id": "1", "text": "x"}')
    assert [document.id for document in read_documents(str(tmp_path))] == ["a.jsonl/1", "b.jsonl/1"]


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    for name in ("a.txt", "b.xyz", "c.xyz", "Makefile", ".hidden.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "blank.txt").write_text(" \n ")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "d.txt").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "twin.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "dead.txt").symlink_to(tmp_path / "nowhere")
    documents = read_documents(str(tmp_path))
    assert [document.id for document in documents] == ["a.txt"]
    assert documents.skipped == {
        ".xyz not read": 2, "no extension": 1, "hidden": 1, "no text": 1,
        "link to a file in the same folder": 1, "broken link or not a file": 1,
    }  # fmt: skip


def test_huge_files_are_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassworks.retrieval.documents.MAX_FILE_BYTES", 3 * 1024**2)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "huge.txt").write_bytes(b"x" * (3 * 1024**2 + 1))
    documents = read_documents(str(tmp_path))
    assert [document.id for document in documents] == ["a.txt"]
    assert documents.skipped == {"larger than 3 MiB": 1}


def test_order_and_ids_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("b/z.txt", "b/a.txt", "a.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    first, second = ([d.id for d in read_documents(str(tmp_path))] for _ in range(2))
    assert first == second
    assert sorted(first) == ["a.txt", "b/a.txt", "b/z.txt", "c.txt"]


def test_nothing_to_read_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no such file or folder"):
        read_documents(str(tmp_path / "none"))
    with pytest.raises(NoDocuments, match="the folder is empty"):
        read_documents(str(tmp_path))
    (tmp_path / "a.xyz").write_text("x")
    with pytest.raises(NoDocuments, match=r"1 \.xyz not read.*Files that are read end in .*\.md .*\.pdf .*\.txt"):
        read_documents(str(tmp_path))
    with pytest.raises(UnknownName):
        read_documents("packaged:wikipedia-sumaries")


@pytest.mark.real_data
def test_packaged_summaries_are_documents() -> None:
    first = next(read_documents("packaged:wikipedia-summaries"))
    assert first.source == "packaged:wikipedia-summaries"
    assert first.licence == "CC BY-SA 4.0"
    assert first.uri.startswith("https://en.wikipedia.org/")

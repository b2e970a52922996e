"""Bytes become text by their own account of themselves, and are never guessed at."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases.document_files import only

from glassworks.errors import UnreadableDocument
from glassworks.retrieval.documents import read_documents
from glassworks.retrieval.text_files import decode, line_starts, storable


def test_text_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_bytes("Grüße\r\n\tsecond".encode())
    document = only(tmp_path)
    assert (document.id, document.title, document.text) == ("a/notes.txt", "notes", "Grüße\r\n\tsecond")
    assert document.uri.startswith("file:///")
    assert document.retrieved_at.endswith("+00:00")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_believed(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("naïve 😀".encode(encoding))
    assert only(tmp_path).text == "naïve 😀"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"plain \x00 binary", "NUL byte at offset 6"),
        ("café".encode("latin-1"), "byte 0xe9 at offset 3"),
        (b"\xff\xfea\x00b", "UTF-16 text, found byte 0x62 at offset 4"),
    ],
)
def test_other_bytes_are_refused_by_offset(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(UnreadableDocument, match=rf"a\.txt: .*{told}"):
        list(read_documents(str(tmp_path)))
    documents = read_documents(str(tmp_path), on_unreadable="skip")
    assert list(documents) == []
    assert documents.skipped == {"unreadable": 1}


@pytest.mark.parametrize(
    ("text", "starts"), [("", [0, 0]), ("a\nb", [0, 2, 3]), ("a\r\nb\rc\n", [0, 3, 5, 7, 7]), ("\n\r", [0, 1, 2, 2])]
)
def test_lines_start_after_each_kind_of_line_end(text: str, starts: list[int]) -> None:
    assert line_starts(text) == starts


def test_a_declared_encoding_yields_to_a_mark_and_to_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for data, text in (("é".encode(), "é"), ("é".encode("utf-16"), "é"), (b"\xe9", "é")):
        path.write_bytes(data)
        assert decode(path, "iso-8859-1") == text


def test_halves_of_a_character_are_joined_and_lone_ones_replaced() -> None:
    assert storable("x\ud83d\ude00y\udc00") == "x😀y\ufffd"
    assert storable("é😀\n") == "é😀\n"

"""Every format gives text whose sections stand where they say; what cannot be read is named, counted or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter

from glassworks.errors import DataNotFound, MalformedRecord, NoDocuments, UnknownName, UnreadableDocument
from glassworks.retrieval.documents import read_documents
from glassworks.retrieval.markup import nest, read_html, read_markdown
from glassworks.retrieval.passages import Document


def only(path: Path) -> Document:
    (document,) = read_documents(str(path))
    return document


def spans(document: Document) -> dict[str, str]:
    return {section.title: document.text[section.start : section.end] for section in document.sections}


def minimal_pdf(pages: list[str]) -> bytes:
    """A PDF of one line a page, written by hand: objects, cross-reference table, trailer."""
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for page, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * page} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF"
    return data + f"xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode()


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


def test_markdown_sections_nest(tmp_path: Path) -> None:
    text = "intro\r\n\r\n# Top *one*\r\na\r\n## Deep\r\nb\r\n```\n# no heading\n```\nSetext\n===\nc\n> # quoted\n"
    (tmp_path / "a.md").write_bytes(text.encode())
    document = only(tmp_path)
    assert document.text == text
    assert document.title == "Top one"
    found = spans(document)
    assert list(found) == ["Top one", "Deep", "Setext"]
    assert found["Top one"].startswith("# Top *one*\r\na")
    assert found["Top one"].endswith("```\n")
    assert found["Deep"].startswith("## Deep\r\nb")
    assert found["Setext"] == "Setext\n===\nc\n> # quoted\n"


@given(st.text(alphabet="#ab \r\n\t`>-=1.\0é😀", max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_markdown_has_sections_inside_it(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("markdown") / "a.md"
    path.write_bytes(text.replace("\0", "").encode())
    extracted = read_markdown(path)
    for section in extracted.sections:
        assert 0 <= section.start < section.end <= len(extracted.text)
        first = section.title.split()[0]
        assert first in extracted.text[section.start : section.end] or "`" in extracted.text


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["a", "b", ""])), max_size=12))
def test_sections_nest_like_their_levels(levels: list[tuple[int, str]]) -> None:
    headings = [(level, title, 10 * at) for at, (level, title) in enumerate(levels)]
    length = 10 * len(levels)
    expected = []
    for at, (level, title, start) in enumerate(headings):
        ends = [later for other, _, later in headings[at + 1 :] if other <= level]
        if title:
            expected.append((title, start, ends[0] if ends else length))
    assert [(s.title, s.start, s.end) for s in nest(headings, length)] == expected


def test_html_gives_visible_text_only(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<html><head><title> The\n page </title><style>p{}</style></head><body><h1>Big <b>one</b></h1>"
        "<p>First<br>line &amp; more</p>tail<script>no()</script><div hidden>no</div>"
        "<div style='display: none'>no</div><h2>Small</h2><pre>a\n  b</pre><!-- no --><ul><li>x<li>y</ul></body></html>"
    )
    document = only(tmp_path)
    assert document.title == "The page"
    assert document.text == "Big one\nFirst\nline & more\ntail\nSmall\na\n  b\nx\ny"
    assert spans(document) == {"Big one": document.text, "Small": "Small\na\n  b\nx\ny"}


def test_html_may_declare_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b'<meta charset="iso-8859-1"><p>caf\xe9</p>')
    assert only(tmp_path).text == "café"
    (tmp_path / "a.html").write_bytes(b'<meta charset="nonsense"><p>caf\xe9</p>')
    with pytest.raises(UnreadableDocument, match="'nonsense', which is unknown"):
        only(tmp_path)


def test_html_nested_deeper_than_python_recurses(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<div>" * 3000 + "deep" + "</div>" * 3000)
    assert read_html(path).text == "deep"


def test_pdf_pages_are_sections(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(minimal_pdf(["First page", "", "Third page"]))
    document = only(tmp_path)
    assert spans(document) == {"page 1": "First page", "page 3": "Third page"}
    assert document.metadata == {"pages": 3}


def test_damaged_and_encrypted_pdfs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.4 not really")
    with pytest.raises(UnreadableDocument, match=r"a\.pdf: the PDF is damaged"):
        only(tmp_path)
    writer = PdfWriter()
    writer.add_blank_page(72, 72)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(path)
    with pytest.raises(UnreadableDocument, match=r"a\.pdf: the PDF is encrypted"):
        only(tmp_path)


def test_python_definitions_are_sections(tmp_path: Path) -> None:
    text = "import os\r\n\r\n@cache\r\ndef f():\r\n    return 1\r\n\r\nclass C:\r\n    def g(self): ...\r\n"
    (tmp_path / "a.py").write_bytes(text.encode())
    document = only(tmp_path)
    assert spans(document) == {
        "f": "@cache\r\ndef f():\r\n    return 1\r\n",
        "C": "class C:\r\n    def g(self): ...\r\n",
    }
    assert document.metadata == {"language": "Python"}
    (tmp_path / "a.py").write_text("def broken(:\n")
    assert only(tmp_path).sections == ()


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

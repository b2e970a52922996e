"""Pages of a PDF are its sections; what cannot be followed is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases.document_files import minimal_pdf, only, spans
from pypdf import PdfWriter

from glassworks.errors import UnreadableDocument
from glassworks.retrieval.pdf import read_pdf


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


def test_title_and_joined_pages_of_a_pdf_that_opens_without_a_password(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(minimal_pdf(["First page", "", "Third page"]))
    writer = PdfWriter(clone_from=path)
    writer.add_metadata({"/Title": " On glass "})
    writer.encrypt("", owner_password="secret", algorithm="RC4-128")
    writer.write(path)
    read = read_pdf(path)
    assert (read.title, read.text) == ("On glass", "First page\n\n\n\nThird page")
    assert [(s.title, s.start, s.end) for s in read.sections] == [("page 1", 0, 10), ("page 3", 14, 24)]

"""Pages of a PDF are its sections; what cannot be followed is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases.document_files import minimal_pdf, only, spans
from pypdf import PdfWriter

from glassworks.errors import UnreadableDocument


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

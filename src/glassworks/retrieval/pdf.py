"""What text does a PDF hold, and on which page?

Pages are sections ("page 3") of the text that pypdf extracts, pages joined by a blank line; offsets count in that
text. A scanned page has no text and so no section. Knows no layout and no pictures.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from glassworks.errors import UnreadableDocument
from glassworks.retrieval.passages import Section
from glassworks.retrieval.text_files import Extracted, storable

logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every repaired cross-reference


def read_pdf(path: Path) -> Extracted:
    """A PDF file. Raises UnreadableDocument where it is encrypted or its bytes cannot be followed."""
    texts: list[str] = []
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableDocument("the PDF is encrypted", place=str(path), remedy="Save a copy without a password.")
        for page in reader.pages:
            texts.append(storable(page.extract_text()))
        title = storable(str((reader.metadata and reader.metadata.title) or "")).strip()
    except UnreadableDocument:
        raise
    except (PyPdfError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError,
            AssertionError, ArithmeticError) as error:  # fmt: skip  # whatever broken bytes make pypdf raise
        raise UnreadableDocument(
            f"the PDF is damaged after page {len(texts)} ({error})",
            place=str(path),
            remedy="Repair it (qpdf, mutool clean) or take it out of the folder.",
        ) from error
    return _joined(texts, title)


def _joined(texts: list[str], title: str) -> Extracted:
    sections, offset = [], 0
    for page, text in enumerate(texts, start=1):
        if text.strip():
            sections.append(Section(f"page {page}", offset, offset + len(text)))
        offset += len(text) + 2
    return Extracted("\n\n".join(texts), title, tuple(sections), {"pages": len(texts)})

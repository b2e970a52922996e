"""Which documents lie at this path, and what text do they hold?

Input: a file or a folder of text, Markdown, HTML, PDF, source code, JSONL or Parquet, or the name of a packaged text
(`packaged:wikipedia-summaries`). Output: a stream of `Document`, in an order that does not change from run to run.
Offsets of sections refer to `Document.text`, the extracted text. Ids are paths relative to the folder, or the corpus
rows' own ids. Whatever is not read is counted by reason in `Documents.skipped`. Knows nothing of passages or stores.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from glassworks.errors import DataNotFound, NoDocuments, UnreadableDocument
from glassworks.foundations.packaged import PREFIX, packaged_path
from glassworks.retrieval.corpora import read_rows
from glassworks.retrieval.markup import read_html, read_markdown
from glassworks.retrieval.passages import Document
from glassworks.retrieval.pdf import read_pdf
from glassworks.retrieval.source_code import LANGUAGES, read_source
from glassworks.retrieval.text_files import Extracted, Reader, decode

MAX_FILE_BYTES = 256 * 1024**2
"""A single file (not a corpus, which is streamed) above this is skipped: it is held in memory several times over."""

OnUnreadable = Literal["stop", "skip"]


def _read_plain(path: Path) -> Extracted:
    return Extracted(decode(path))


READERS: dict[str, Reader] = {
    **dict.fromkeys((".txt", ".text", ".rst", ".adoc", ".org", ".tex"), _read_plain),
    **dict.fromkeys((".md", ".markdown"), read_markdown),
    **dict.fromkeys((".html", ".htm", ".xhtml"), read_html),
    **dict.fromkeys(LANGUAGES, read_source),
    ".pdf": read_pdf,
}
CORPORA: dict[str, Callable[[Path], Iterator[Document]]] = {".jsonl": read_rows, ".parquet": read_rows}


class Documents(Iterator[Document]):
    """A stream of documents, read once.

    files: how many files will be read. skipped: reason -> how many files or rows; complete at the end of the stream.
    """

    def __init__(self, place: str, files: list[Path], root: Path, skipped: Counter[str], on_unreadable: OnUnreadable):
        self.place, self.files, self.skipped = place, len(files), skipped
        self._root, self._on_unreadable = root, on_unreadable
        self._stream = self._read(files)

    def __next__(self) -> Document:
        return next(self._stream)

    def _read(self, files: Iterable[Path]) -> Iterator[Document]:
        for file in files:
            try:
                for document in self._read_file(file):
                    if document.text.strip():
                        yield document
                    else:
                        self.skipped["no text"] += 1
            except UnreadableDocument:
                if self._on_unreadable == "stop":
                    raise
                self.skipped["unreadable"] += 1

    def _read_file(self, file: Path) -> Iterator[Document]:
        suffix, name = file.suffix.lower(), file.relative_to(self._root).as_posix()
        if suffix not in CORPORA:
            yield _from_file(file, name)
            return
        collection = self.place if self.place.startswith(PREFIX) else file.name
        for document in CORPORA[suffix](file):
            # Rows of several corpora in one folder may share ids; a corpus by itself keeps its own.
            id_ = document.id if self.files == 1 else f"{name}/{document.id}"
            yield replace(document, id=id_, source=document.source or collection)


def read_documents(path: str, *, on_unreadable: OnUnreadable = "stop") -> Documents:
    """The documents at `path`: a file, a folder (read recursively), a BEIR folder, or `packaged:NAME`.

    on_unreadable: stop at a file whose bytes are not what its name says, or skip and count it.
    Hidden files and folders are left out, links are followed once. Raises DataNotFound and NoDocuments at once,
    UnreadableDocument and MalformedRecord when the stream reaches the file or row.
    """
    root = packaged_path(path) if path.startswith(PREFIX) else Path(path)
    if not root.exists():
        raise DataNotFound("no such file or folder", place=path, remedy="Check the path of the documents.")
    skipped: Counter[str] = Counter()
    if root.is_dir():
        files = [root / "corpus.jsonl"] if _is_beir(root) else list(_walk(root, skipped))
    else:
        files, root = [root], root.parent
    kept = [file for file in files if _is_wanted(file, skipped)]
    if not kept:
        raise NoDocuments(
            f"nothing here can be read ({_told(skipped) or 'the folder is empty'})",
            place=path,
            remedy=f"Files that are read end in {' '.join(sorted([*READERS, *CORPORA]))}.",
        )
    return Documents(path, kept, root, skipped, on_unreadable)


def _from_file(file: Path, name: str) -> Document:
    text, title, sections, metadata = READERS[file.suffix.lower()](file)
    changed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    return Document(
        id=name,
        text=text,
        title=title or file.stem,
        uri=file.resolve().as_uri(),
        sections=sections,
        metadata=metadata,
        retrieved_at=changed.isoformat(timespec="seconds"),
    )


def _walk(root: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Files below `root` in order of path; a folder or file reached a second time through a link is left out."""
    seen: set[Path] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(place, name)
            if name.startswith("."):
                skipped["hidden"] += 1
            elif not file.is_file():
                skipped["broken link or not a file"] += 1
            elif file.is_symlink() and (target := file.resolve()) and target.is_relative_to(root.resolve()):
                skipped["link to a file in the same folder"] += 1
            else:
                yield file


def _is_wanted(file: Path, skipped: Counter[str]) -> bool:
    suffix = file.suffix.lower()
    if suffix not in READERS and suffix not in CORPORA:
        skipped[f"{suffix} not read" if suffix else "no extension"] += 1
        return False
    if suffix in READERS and file.stat().st_size > MAX_FILE_BYTES:
        skipped[f"larger than {MAX_FILE_BYTES // 1024**2} MiB"] += 1
        return False
    return True


def _is_beir(root: Path) -> bool:
    return (root / "corpus.jsonl").is_file() and (root / "queries.jsonl").is_file()


def _told(skipped: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())

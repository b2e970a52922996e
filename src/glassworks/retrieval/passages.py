"""What is stored, found and cited: Document, Section, Passage, Retrieved, and the two doors of retrieval.

Asai et al. 2024 (arXiv 2403.03187), "attributable": every passage carries where it came from (document, URI,
licence, source, time, content hash, character span), so that an answer can be checked and a source removed.
Offsets count Unicode code points of `Document.text`, the text extracted from the source, not bytes of a file:
`document.text[passage.start : passage.end] == passage.text` holds for every passage.
`Retriever` finds passages; `PassageReader` is a model that attends to them without a prompt.
This module knows no file format, no database and no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

MetadataValue = str | int | float
Metadata = Mapping[str, MetadataValue]


def text_hash(text: str) -> str:
    """SHA-256 of `text`, 64 hexadecimal digits; lone surrogates, which UTF-8 cannot hold, are kept apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Section:
    """A titled part of a document: code points [start, end) of `Document.text`, its heading included."""

    title: str
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """One source: extracted text and where it came from.

    id: unique in a corpus and stable (a relative path, or the id of a corpus row). sections: in order of
    start, a subsection after the section that holds it. licence, source, author: as the source states them,
    else ""; source is the collection that the document belongs to. retrieved_at: ISO 8601 time at which the
    source was fetched or last changed, else "".
    """

    id: str
    text: str
    title: str = ""
    uri: str = ""
    sections: tuple[Section, ...] = ()
    metadata: Metadata = field(default_factory=dict, hash=False)
    licence: str = ""
    source: str = ""
    author: str = ""
    retrieved_at: str = ""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the text alone: the same words under another name have the same hash."""
        return text_hash(self.text)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything but `retrieved_at`; while it stays the same, nothing is to be stored anew."""
        parts = [self.id, self.text, self.title, self.uri, self.licence, self.source, self.author]
        parts += [f"{s.title}\0{s.start}\0{s.end}" for s in self.sections]
        return text_hash(json.dumps([*parts, sorted(self.metadata.items())]))


@dataclass(frozen=True)
class Passage:
    """A span of one document, with its provenance.

    id: `<document id>#<ordinal>`, ordinals from 0. section: titles from the outermost section inwards, joined
    by " > ". start, end: the span in `Document.text`, code points. `end` and `content_hash` (SHA-256 of the
    text) are filled in when they are left out. fingerprint: `Document.fingerprint` of the version of the
    document that the passage was cut from.
    """

    id: str
    document_id: str
    text: str
    title: str = ""
    section: str = ""
    start: int = 0
    end: int = -1
    uri: str = ""
    content_hash: str = ""
    metadata: Metadata = field(default_factory=dict, hash=False)
    licence: str = ""
    source: str = ""
    author: str = ""
    retrieved_at: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.end < 0:
            object.__setattr__(self, "end", self.start + len(self.text))
        if not self.content_hash:
            object.__setattr__(self, "content_hash", text_hash(self.text))

    @property
    def indexed_text(self) -> str:
        """What every index sees: `title. text`, or the text alone where there is no title."""
        return f"{self.title}. {self.text}" if self.title else self.text


class Retrieved(NamedTuple):
    """A passage found for a query. score: higher is better, in the retriever's own unit; rank: from 1."""

    passage: Passage
    score: float
    rank: int


@runtime_checkable
class Retriever(Protocol):
    """Finds passages for queries."""

    def retrieve(self, queries: Sequence[str], k: int, *, instruction: str | None = None) -> list[list[Retrieved]]:
        """The best `k` passages for each query, best first, ties by passage id; fewer if fewer are stored.

        instruction: what the passages are wanted for, in words ("Find text that refutes the claim").
        """
        ...


@runtime_checkable
class PassageReader(Protocol):
    """A model that attends to passages inside its layers, so that they take no room in the prompt."""

    def read(
        self, prompts: Sequence[str], passages: Sequence[Sequence[Passage]], *, max_new_tokens: int = 64
    ) -> list[str]:
        """One continuation for each prompt, given that prompt's own passages (best first)."""
        ...

"""Where does one passage end and the next begin?

Fixed windows of words (256 in the datastores of Asai et al. 2024, section 4, and MassiveDS; 100 for question
answering), or whole sentences packed up to that many words, closed at a section's end where the next section would not
fit. Passages never cross documents, the last short one is kept, and every span is exact:
`document.text[p.start : p.end] == p.text`. A word is a run of non-space characters, at most 200 of them; scripts
written without spaces count a character as a word. Knows no tokenizer and no encoder.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from glassworks.errors import OptionError
from glassworks.retrieval.passages import Document, Passage

# Kana, Han, Thai, Lao, Khmer, Myanmar: written without spaces between words.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]{{1,200}}")
_SENTENCE_END = re.compile(r"""(?:[.!?…][)"'\]”’»]*(?=\s)|[。！？]|\n\s*\n)""")
_ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|cf|al|No|Fig|Eq|e\.g|i\.e))\.$")

Mode = Literal["words", "sentences"]
Span = tuple[int, int]


@dataclass(frozen=True)
class Chunking:
    """How documents are cut. words: most words a passage holds. overlap: words that two neighbours share."""

    words: int = 256
    overlap: int = 0
    mode: Mode = "words"

    def __post_init__(self) -> None:
        if self.words < 1:
            raise OptionError(f"expected at least 1 word, got {self.words}", place="chunk_words")
        if not 0 <= self.overlap < self.words:
            raise OptionError(
                f"expected 0 <= overlap < {self.words} (chunk_words), got {self.overlap}",
                place="overlap_words",
                remedy="A fifth of chunk_words is much already.",
            )


def chunk(document: Document, chunking: Chunking = Chunking()) -> list[Passage]:
    """The passages of a document in order; none where it holds no word."""
    words = [match.span() for match in _WORD.finditer(document.text)]
    windows = _fixed(len(words), chunking) if chunking.mode == "words" else _packed(document, words, chunking)
    fingerprint = document.fingerprint
    return [
        Passage(
            id=f"{document.id}#{ordinal}",
            document_id=document.id,
            text=document.text[words[first][0] : words[last - 1][1]],
            title=document.title,
            section=_section_path(document, words[first][0]),
            start=words[first][0],
            end=words[last - 1][1],
            uri=document.uri,
            metadata=document.metadata,
            licence=document.licence,
            source=document.source,
            author=document.author,
            retrieved_at=document.retrieved_at,
            fingerprint=fingerprint,
        )
        for ordinal, (first, last) in enumerate(windows)
    ]


def count_words(text: str) -> int:
    """How many words `text` holds, as `Chunking.words` counts them."""
    return len(_WORD.findall(text))


def _section_path(document: Document, offset: int) -> str:
    return " > ".join(s.title for s in document.sections if s.start <= offset < s.end)


def _fixed(total: int, chunking: Chunking) -> Iterator[Span]:
    """Windows of word indices [first, last); the last one may be short but always brings a new word."""
    first = 0
    while first < total:
        last = min(first + chunking.words, total)
        yield first, last
        if last == total:
            return
        first = last - chunking.overlap


def _packed(document: Document, words: list[Span], chunking: Chunking) -> Iterator[Span]:
    """Windows of whole sentences, closed before a section that would not fit whole; overlap repeats sentences."""
    starts = [start for start, _ in words]
    opened = {bisect_left(starts, section.start) for section in document.sections}
    sections = sorted(opened | {len(words)})
    sentences = _sentences(document.text, starts, opened, chunking.words)
    first, seen = 0, list[int]()
    for start, end in sentences:
        splits = start in opened and sections[bisect_right(sections, start)] - first > chunking.words
        if start > first and (splits or end - first > chunking.words):
            yield first, start
            room = min(chunking.overlap, chunking.words - (end - start))
            repeated = bisect_left(seen, max(start - room, first + 1))
            first = seen[repeated] if repeated < len(seen) else start
        seen.append(start)
    if words:
        yield first, len(words)


def _sentences(text: str, starts: list[int], opened: set[int], limit: int) -> Iterator[Span]:
    """Sentences as word indices [first, last); none crosses a section's start or is longer than `limit` words."""
    ends = (match.end() for match in _SENTENCE_END.finditer(text))
    cuts = {bisect_left(starts, end) for end in ends if not _ABBREVIATION.search(text, max(0, end - 8), end)}
    edges = sorted({*cuts, *opened, 0, len(starts)})
    for start, end in pairwise(edges):
        yield from ((at, min(at + limit, end)) for at in range(start, end, limit))

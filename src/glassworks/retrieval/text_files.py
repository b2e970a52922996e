"""How do the bytes of a text file become text, and when is a file not what its name says?

UTF-8, or UTF-16/32 where a byte order mark says so; HTML may declare its own encoding. Nothing is guessed: Latin-1
accepts any bytes, so a guess would turn a broken file into quiet nonsense. A NUL byte means a binary file. Knows no
document format; `Extracted` is what every format's reader returns.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from glassworks.errors import UnreadableDocument
from glassworks.retrieval.passages import Metadata, Section

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LINE_END = re.compile(r"\r\n|\r|\n")


class Extracted(NamedTuple):
    """What a reader takes out of one file; sections are spans of `text` in code points."""

    text: str
    title: str = ""
    sections: tuple[Section, ...] = ()
    metadata: Metadata = MappingProxyType({})


Reader = Callable[[Path], Extracted]


def decode(path: Path, declared: str | None = None) -> str:
    """The text of a file. declared: the encoding that the file itself names, tried where UTF-8 fails.

    Raises UnreadableDocument with the offending byte and its offset.
    """
    data = path.read_bytes()
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode(data, encoding, path)
    if (zero := data.find(b"\0")) >= 0:
        raise UnreadableDocument(
            f"expected text, found a binary file (NUL byte at offset {zero})",
            place=str(path),
            remedy="Rename it to what it is, or take it out of the folder.",
        )
    if declared:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return _decode(data, declared, path)
    return _decode(data, "utf-8", path)


def _decode(data: bytes, encoding: str, path: Path) -> str:
    try:
        return data.decode(encoding)
    except LookupError:
        problem = f"declares the encoding '{encoding}', which is unknown"
    except UnicodeDecodeError as error:
        byte = data[error.start : error.start + 1].hex()
        problem = f"expected {encoding.upper()} text, found byte 0x{byte} at offset {error.start}"
    raise UnreadableDocument(
        problem,
        place=str(path),
        remedy="Convert it to UTF-8 (iconv -f ENCODING -t UTF-8), or take it out of the folder.",
    )


def storable(text: str) -> str:
    """`text` with lone surrogates, which no UTF-8 store can hold, replaced by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def line_starts(text: str) -> list[int]:
    """Offset of each line's first character, and the length of the text at the end; lines end in LF, CR or CRLF."""
    starts = [0, *(match.end() for match in _LINE_END.finditer(text))]
    return [*starts, len(text)]

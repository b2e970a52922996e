"""How are rows of a JSONL or Parquet corpus documents?

One row a document: `text` or `contents`; id in `id`, `_id` (BEIR), `docid` or `doc_id`, else the row's number;
`title`; `metadata` (a mapping) and every other column of plain values. `uri`/`url`, `licence`/`license`, `source`,
`author`, `retrieved_at` are provenance. Rows are streamed, so a corpus may be larger than memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from glassworks.errors import UnreadableDocument
from glassworks.foundations.data import check_fields, iterate_jsonl
from glassworks.retrieval.passages import Document, MetadataValue
from glassworks.retrieval.text_files import storable

_TEXT = ("text", "contents")
_ID = ("id", "_id", "docid", "doc_id")
_PROVENANCE = {
    "title": ("title",),
    "uri": ("uri", "url"),
    "licence": ("licence", "license"),
    "source": ("source",),
    "author": ("author",),
    "retrieved_at": ("retrieved_at",),
}
_TAKEN = frozenset([*_TEXT, *_ID, "metadata", *(name for names in _PROVENANCE.values() for name in names)])


def read_rows(path: Path) -> Iterator[Document]:
    """The documents of a .jsonl or .parquet corpus, in file order.

    Raises MalformedRecord with file:line for a broken or incomplete row, UnreadableDocument for a broken Parquet.
    """
    rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _jsonl_rows(path)
    for number, row in enumerate(rows, start=1):
        yield _document(row, f"{path.name}:{number}")


def _jsonl_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    types = dict.fromkeys(_TEXT, str)
    first = next(iterate_jsonl(path, types=types), {})
    text = next((name for name in _TEXT if name in first), _TEXT[0])
    yield from iterate_jsonl(path, required=[text], types=types)


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    number = 0
    try:
        with pq.ParquetFile(path) as table:
            text = next((name for name in _TEXT if name in table.schema_arrow.names), _TEXT[0])
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    check_fields(row, [text], f"{path}, row {number}", types={text: str})
                    yield row
    except (pa.ArrowException, OSError) as error:
        raise UnreadableDocument(
            f"not a whole Parquet file, after row {number} ({error})", place=str(path), remedy="Write it again."
        ) from error


def _document(row: Mapping[str, Any], default_id: str) -> Document:
    text = next(row[name] for name in _TEXT if row.get(name) is not None)
    nested = row.get("metadata")
    metadata = {str(name): value for name, value in row.items() if name not in _TAKEN}
    metadata |= nested if isinstance(nested, Mapping) else {"metadata": nested}
    id_ = next((row[name] for name in _ID if row.get(name) is not None and row[name] != ""), default_id)
    provenance = {field: _first(row, names) for field, names in _PROVENANCE.items()}
    return Document(
        id=storable(str(id_)),
        text=storable(text),
        title=provenance["title"],
        uri=provenance["uri"],
        licence=provenance["licence"],
        source=provenance["source"],
        author=provenance["author"],
        retrieved_at=provenance["retrieved_at"],
        metadata={storable(name): plain for name, value in metadata.items() if (plain := _plain(value)) is not None},
    )


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    value = next((row[name] for name in names if row.get(name) is not None), "")
    return storable(value if isinstance(value, str) else str(_plain(value)))


def _plain(value: object) -> MetadataValue | None:
    """A metadata value as it is stored; lists and objects as JSON, nulls and NaN left out."""
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else None
    if value is None:
        return None
    return storable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))

"""How does a passage lie in a table, and how are filters over it written safely?

One Arrow row a passage; metadata is a JSON column, so `json_get_string(metadata, 'topic') = 'Arts'` filters by it.
Knows the schema and SQL quoting, and no database handle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glassworks.retrieval.passages import Passage

_TEXTS = (
    "id", "document_id", "text", "title", "section", "uri", "content_hash", "licence", "source", "author",
    "retrieved_at", "fingerprint",
)  # fmt: skip
COLUMNS = (*_TEXTS, "start", "end", "metadata")
"""What `where` may name, besides the vector."""


def schema(dimension: int, metadata: Mapping[str, str]) -> pa.Schema:
    """The table's columns, with a vector column of fp32 [dimension] unless dimension is 0; metadata: the table's."""
    fields = [pa.field(name, pa.string()) for name in _TEXTS]
    fields += [pa.field("start", pa.int64()), pa.field("end", pa.int64()), pa.field("metadata", pa.json_(pa.utf8()))]
    if dimension:
        fields.append(pa.field("vector", pa.list_(pa.float32(), dimension)))
    return pa.schema(fields, metadata=dict(metadata))


def to_table(passages: Sequence[Passage], vectors: NDArray[np.float32] | None) -> pa.Table:
    """Rows for `passages`; vectors: [passages, dimension], or None for a table without a vector column."""
    columns: dict[str, Any] = {name: [getattr(passage, name) for passage in passages] for name in COLUMNS[:-1]}
    encoded = [json.dumps(dict(passage.metadata), allow_nan=False) for passage in passages]
    columns["metadata"] = pa.array(encoded, pa.json_(pa.utf8()))
    if vectors is not None:
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    # Not the schema that an opened table shows: there metadata is binary, and rows would go in unconverted.
    return pa.table(columns, schema=schema(0 if vectors is None else vectors.shape[1], {}))


def to_passages(table: pa.Table | pa.RecordBatch) -> list[Passage]:
    """The passages of rows that hold every one of `COLUMNS`; other columns are ignored."""
    rows = table.select(list(COLUMNS)).to_pylist()
    return [Passage(**{**row, "metadata": json.loads(row["metadata"])}) for row in rows]


def to_vectors(table: pa.Table | pa.RecordBatch) -> NDArray[np.float32]:
    """The vectors of rows, [rows, dimension]."""
    column = table.column("vector")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    width = column.type.list_size
    parts = [np.asarray(chunk.flatten()).reshape(-1, width) for chunk in chunks]
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)


def one_of(column: str, values: Iterable[str]) -> str:
    """SQL: `column` is one of `values`. Values are quoted, so that none can end the literal it stands in."""
    literals = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({literals})" if literals else "false"

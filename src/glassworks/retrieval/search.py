"""Which rows are nearest to a query, exactly and always in the same order?

Cosine over unit vectors, or the database's full-text score, on one LanceDB table. The database picks candidates in
fp32; the final scores are fp64 dot products, so that the order does not depend on how rows are spread over files.
A tie at the last place is widened until it is whole, then cut by passage id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.table import Table
from numpy.typing import NDArray

from glassworks.errors import InvalidVector
from glassworks.retrieval.passages import Retrieved
from glassworks.retrieval.rows import COLUMNS, to_passages, to_vectors

_MARGIN = 8  # more candidates than asked for, since fp32 may misorder near ties
_QUERIES = 256  # a pass over the table
_SAME = 1e-6  # fp32 scores this close may be ties


def unit_rows(
    vectors: NDArray[np.floating[Any]], dimension: int, what: str, names: Sequence[str] | None = None
) -> NDArray[np.float32]:
    """Rows of `vectors` [rows, dimension] scaled to length 1 in fp32.

    Raises InvalidVector naming the row (`names` where given) that is NaN, infinite, zero or of another dimension.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.shape[1] != dimension or (names is not None and len(names) != len(vectors)):
        expected = f"[{'rows' if names is None else len(names)}, {dimension}]"
        raise InvalidVector(f"expected {what} vectors {expected}, got {list(vectors.shape)}", place="vectors")
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1))
    if (bad := np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))).size:
        row = int(bad[0])
        problem = "is zero" if lengths[row] == 0 else "holds NaN or infinity"
        name = f"{what} {row}" if names is None else f"{what} '{names[row]}' (row {row})"
        raise InvalidVector(f"the vector of {name} {problem}", place="vectors")
    unit: NDArray[np.float32] = (wide / lengths[:, None]).astype(np.float32)
    return unit


def nearest(table: Table, queries: NDArray[np.float32], k: int, condition: str | None) -> list[list[Retrieved]]:
    """The k rows of highest cosine for each of the unit `queries` [queries, dimension]."""
    found: list[list[Retrieved]] = []
    for first in range(0, len(queries), _QUERIES):
        block = queries[first : first + _QUERIES]
        rows = _vector_rows(table, block, k + _MARGIN, condition=condition)
        for index, query in enumerate(block):
            own = rows.filter(pa.compute.equal(rows.column("query_index"), index))
            own = _whole_tie(own, k, partial(_vector_rows, table, query[None], condition=condition), "_distance")
            scores = (to_vectors(own).astype(np.float64) * query.astype(np.float64)).sum(axis=1)
            found.append(ranked(own, scores, k))
    return found


def words_found(table: Table, query: str, k: int, condition: str | None) -> list[Retrieved]:
    """The k rows of highest full-text score that hold a word of `query`."""

    def rows(limit: int) -> pa.Table:
        search = table.search(query, query_type="fts").select([*COLUMNS, "_score"]).limit(limit)
        return (search.where(condition, prefilter=True) if condition else search).to_arrow()

    own = _whole_tie(rows(k + _MARGIN), k, rows, "_score")
    return ranked(own, np.asarray(own.column("_score"), dtype=np.float64), k)


def ranked(rows: pa.Table, scores: NDArray[np.float64], k: int) -> list[Retrieved]:
    """The k best of `rows` by `scores` [rows], ties by id, ranks from 1."""
    ids = rows.column("id").to_pylist()
    order = sorted(range(len(ids)), key=lambda row: (-scores[row], ids[row]))[:k]
    passages = to_passages(rows.take(order)) if order else []
    ordered = zip(passages, order, strict=True)
    return [Retrieved(passage, float(scores[row]), rank) for rank, (passage, row) in enumerate(ordered, start=1)]


def _vector_rows(table: Table, queries: NDArray[np.float32], limit: int, *, condition: str | None) -> pa.Table:
    query: Any = table.search(list(queries))  # the method for vectors is not on the class it is declared to return
    search = query.distance_type("cosine").bypass_vector_index()
    search = search.select([*COLUMNS, "vector", "_distance"]).limit(limit)
    rows = (search.where(condition, prefilter=True) if condition else search).to_arrow()
    if "query_index" not in rows.column_names:  # a lone query has none
        rows = rows.append_column("query_index", pa.array(np.zeros(rows.num_rows, np.int32)))
    return rows


def _whole_tie(rows: pa.Table, k: int, fetch: Callable[[int], pa.Table], column: str) -> pa.Table:
    """`rows`, sorted by `column`, or more of them where the k-th value goes on beyond the last row."""
    limit = k + _MARGIN
    while rows.num_rows >= limit:
        values = rows.column(column)
        if abs(values[k - 1].as_py() - values[limit - 1].as_py()) > _SAME:
            break
        limit *= 2
        rows = fetch(limit)
    return rows

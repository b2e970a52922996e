"""Where do passages live, and what is promised about them? A LanceDB table with versions, behind one contract.

Asai et al. 2024 (arXiv 2403.03187) ask for a store that grows, corrects and forgets. A batch is stored whole or not
at all and survives a kill; a re-ingested document replaces its old passages in the same commit; readers see the
newest version, and `as_of` opens an older one; one process writes at a time. Vectors are unit fp32 and optional.
Search is exact, filters apply inside it, equal scores are ordered by passage id. `where` filters are SQL conditions
over `rows.COLUMNS`. Knows no encoder (vectors come with the passages) and no document format.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS, BTree
from lancedb.table import Table
from numpy.typing import NDArray

from glassworks.errors import (
    DatastoreError,
    DatastoreNotFound,
    DuplicateIdError,
    EncoderMismatchError,
    OptionError,
    Unsupported,
    UserError,
    VersionPurgedError,
)
from glassworks.retrieval.passages import Passage, Retrieved
from glassworks.retrieval.rows import COLUMNS, one_of, schema, to_passages, to_table, to_vectors
from glassworks.retrieval.search import nearest, unit_rows, words_found
from glassworks.retrieval.writer_lock import WriterLock

TABLE, DELETIONS, STORE_FOLDER = "passages", "deletions", "store"
_SETTINGS = "glassworks"
# Compaction keeps every version, so that `as_of` holds.
_FOREVER = timedelta(days=36_500)
_FULL_TEXT = FTS(stem=False, remove_stop_words=False, with_position=True)
_DELETIONS_SCHEMA = pa.schema(
    [("reason", pa.string()), ("documents", pa.int64()), ("passages", pa.int64()), ("version", pa.int64()),
     ("when", pa.string())]
)  # fmt: skip

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class StoreSettings:
    """What was fixed when a store was made. encoder: its signature, "" for a store without vectors."""

    encoder: str = ""
    dimension: int = 0
    chunking: Mapping[str, str | int] = field(default_factory=dict)


class Deletion(NamedTuple):
    """What a deletion removed. version: the table's before it; when: ISO 8601, UTC."""

    reason: str
    documents: int
    passages: int
    version: int
    when: str


class Datastore:
    """Passages at one address, opened by `Datastore.create` or `Datastore.open`.

    address: folder or URI of the database. settings: what was fixed when it was made.
    """

    def __init__(self, address: str, connection: lancedb.DBConnection, table: Table, *, pinned: bool = False) -> None:
        self.address, self.settings = address, _read_settings(table, address)
        self._connection, self._table, self._pinned = connection, table, pinned
        self._lock = None if _is_remote(address) else WriterLock(Path(address))

    @classmethod
    def exists(cls, address: str | Path) -> bool:
        """Whether there is a store in this run folder, database folder or at this URI."""
        return _find(str(address)) is not None

    @classmethod
    def create(cls, address: str | Path, settings: StoreSettings = StoreSettings()) -> Datastore:
        """An empty store at a folder or URI. Raises DatastoreError where there is one already."""
        address = str(address)
        if _find(address):
            raise DatastoreError("there is a datastore already", place=address, remedy="Open it, or choose another.")
        encoded = json.dumps(
            {"encoder": settings.encoder, "dimension": settings.dimension, "chunking": dict(settings.chunking)}
        )
        connection = _connect(address)
        table = connection.create_table(TABLE, schema=schema(settings.dimension, {_SETTINGS: encoded}))
        return cls(address, connection, table)

    @classmethod
    def open(cls, address: str | Path, *, encoder: str | None = None) -> Datastore:
        """The store in a run folder, a database folder or at a URI. encoder: the signature it must have.

        Raises DatastoreNotFound, or EncoderMismatchError where its vectors are another encoder's.
        """
        found = _find(str(address))
        if found is None:
            raise DatastoreNotFound(
                "no datastore here", place=str(address), remedy="Make one: glassworks index DOCS --out FOLDER."
            )
        connection = _connect(found)
        try:
            store = cls(found, connection, connection.open_table(TABLE))
        except (ValueError, RuntimeError, OSError) as error:
            if isinstance(error, UserError):
                raise
            raise DatastoreError(f"the datastore is damaged ({error})", place=found, remedy="Index again.") from error
        if encoder is not None:
            store.check_encoder(encoder)
        return store

    @property
    def version(self) -> int:
        """The version that reads see; every commit raises it."""
        return int(self._table.version)

    @property
    def is_pinned(self) -> bool:
        """Whether this is a view of one version, which never changes."""
        return self._pinned

    def as_of(self, version: int) -> Datastore:
        """A view of an older version that stays the same whatever is written later. Raises VersionPurgedError."""
        table = self._connection.open_table(TABLE)
        latest = int(table.version)
        if not 1 <= version <= latest:
            raise OptionError(f"expected a version from 1 to {latest}, got {version}", place=self.address)
        try:
            table.checkout(version)
            table.count_rows()
        except (ValueError, RuntimeError) as error:
            raise VersionPurgedError(f"version {version} no longer exists", place=self.address) from error
        return Datastore(self.address, self._connection, table, pinned=True)

    def check_encoder(self, signature: str) -> None:
        """Raise EncoderMismatchError unless the stored vectors are those of the encoder with this signature."""
        if self.settings.encoder == signature:
            return
        held = f"by '{self.settings.encoder}'" if self.settings.encoder else "without vectors"
        raise EncoderMismatchError(
            f"the store was made {held}, not by '{signature}'",
            place=self.address,
            remedy="Search with the store's encoder, or index again with this one.",
        )

    def count(self, where: str | None = None) -> int:
        """How many passages there are, or satisfy `where`."""
        with self._told(where):
            return int(self._table.count_rows(_condition(where)))

    def get(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with these ids, in this order. Raises DatastoreError naming an id that is not stored."""
        found = {passage.id: passage for passage in self.passages(one_of("id", set(ids)))}
        for id_ in ids:
            if id_ not in found:
                raise DatastoreError(f"no passage '{id_}' in version {self.version}", place=self.address)
        return [found[id_] for id_ in ids]

    def passages(self, where: str | None = None) -> Iterator[Passage]:
        """All passages, or those that satisfy `where`, streamed in the order they are stored in."""
        for batch in self._batches(where, list(COLUMNS)):
            yield from to_passages(batch)

    def vectors(self, where: str | None = None) -> Iterator[tuple[list[str], Vectors]]:
        """Ids and vectors [rows, dimension] of passages, batch by batch. Raises Unsupported without vectors."""
        self._need_vectors()
        for batch in self._batches(where, ["id", "vector"]):
            yield batch.column("id").to_pylist(), to_vectors(batch)

    def fingerprints(self) -> dict[str, str]:
        """Document id -> fingerprint of the version of the document that is stored."""
        found: dict[str, str] = {}
        for batch in self._batches(None, ["document_id", "fingerprint"]):
            found.update(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
        return found

    def search_vectors(
        self, queries: NDArray[np.floating[Any]], k: int, *, where: str | None = None
    ) -> list[list[Retrieved]]:
        """The k passages of highest cosine for each query [queries, dimension]; exact, ties by id.

        Raises InvalidVector naming the query's row, Unsupported on a store without vectors.
        """
        self._need_vectors()
        unit = unit_rows(queries, self.settings.dimension, "query")
        with self._told(where):
            return nearest(self._table, unit, _positive(k), _condition(where))

    def search_text(self, query: str, k: int, *, where: str | None = None) -> list[Retrieved]:
        """The database's own full-text search of passage texts (k1 1.2, b 0.75); `"..."` finds a phrase.

        Its statistics are those of the last `optimize`. Raises Unsupported on a version older than its index.
        """
        if not any(index.index_type == "FTS" for index in self._table.list_indices()):
            raise Unsupported("full-text search before the first optimize()", "LanceDB")
        with self._told(where):
            return words_found(self._table, query, _positive(k), _condition(where))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write over several calls. Raises RunLocked, naming the process that writes now."""
        if self._pinned:
            raise DatastoreError("an as_of view cannot be written to", place=self.address)
        if self._lock is None:
            yield
            return
        with self._lock.held() as is_first:
            if is_first:
                _remove_leftovers(Path(self.address))
            yield

    def add(self, passages: Sequence[Passage], vectors: Vectors | None = None, *, upsert: bool = False) -> int:
        """Store passages as one commit and return the new version. vectors: [passages, dimension].

        upsert: passages of documents that are stored already are replaced, all of them in this commit; without it
        a stored id raises DuplicateIdError. Raises InvalidVector naming the row. Nothing is stored on an error.
        """
        if (vectors is None) != (self.settings.dimension == 0):
            held = f"of {self.settings.dimension} dimensions" if self.settings.dimension else "no"
            raise DatastoreError(f"the store holds {held} vectors; passages must come so", place=self.address)
        if not passages:
            return self.version
        self._refuse_repeated([passage.id for passage in passages])
        if vectors is not None:
            vectors = unit_rows(vectors, self.settings.dimension, "passage", [passage.id for passage in passages])
        rows = to_table(passages, vectors)
        with self.writing():
            column = "document_id" if upsert else "id"
            stored = self._stored(column, {getattr(passage, column) for passage in passages})
            if not stored:
                self._table.add(rows)
            elif upsert:
                merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
                merge.when_not_matched_by_source_delete(one_of("document_id", sorted(stored))).execute(rows)
            else:
                raise _duplicate(min(stored), self.address)
        return self.version

    def delete(self, *, documents: Sequence[str] | None = None, where: str | None = None, reason: str) -> Deletion:
        """Delete whole documents, or passages that satisfy `where`; readers miss them at once.

        reason: why, kept in `deletions()`. An `as_of` view of an older version still shows them.
        """
        if (documents is None) == (where is None):
            raise OptionError("expected either documents or where", place="delete")
        if not reason.strip():
            raise OptionError("expected a reason for the deletion", place="delete")
        condition = one_of("document_id", documents) if documents is not None else where
        with self.writing(), self._told(where):
            batches = self._batches(condition, ["document_id"])
            removed = [id_ for batch in batches for id_ in batch.column(0).to_pylist()]
            when = datetime.now(UTC).isoformat(timespec="seconds")
            deletion = Deletion(reason, len(set(removed)), len(removed), self.version, when)
            if removed:
                self._record(deletion)  # before the deed, so that no deletion is without its reason
                self._table.delete(f"({condition}\n)")
        return deletion

    def deletions(self) -> list[Deletion]:
        """Every deletion in order, with its reason; the last may have been cut short where its writer was killed."""
        if DELETIONS not in _tables(self._connection):
            return []
        return [Deletion(**row) for row in self._connection.open_table(DELETIONS).to_arrow().to_pylist()]

    def optimize(self) -> None:
        """Merge small batches, bring the indexes up to date and remove files that no version refers to."""
        with self.writing():
            indexed = {index.columns[0] for index in self._table.list_indices()}
            for column, config in (("id", BTree()), ("document_id", BTree()), ("text", _FULL_TEXT)):
                if column not in indexed:
                    self._table.create_index(column, config=config)
            self._table.optimize(cleanup_older_than=_FOREVER, delete_unverified=self._lock is not None)

    def _batches(self, where: str | None, columns: list[str]) -> Iterator[pa.RecordBatch]:
        query = self._table.search().select(columns)
        with self._told(where):
            if (condition := _condition(where)) is not None:
                query = query.where(condition)
            yield from query.to_batches()

    def _stored(self, column: str, values: set[str]) -> set[str]:
        batches = self._batches(one_of(column, sorted(values)), [column])
        return {value for batch in batches for value in batch.column(0).to_pylist()}

    def _refuse_repeated(self, ids: list[str]) -> None:
        seen: set[str] = set()
        for id_ in ids:
            if id_ in seen:
                raise _duplicate(id_, self.address)
            seen.add(id_)

    def _record(self, deletion: Deletion) -> None:
        rows = pa.Table.from_pylist([deletion._asdict()], schema=_DELETIONS_SCHEMA)
        if DELETIONS in _tables(self._connection):
            self._connection.open_table(DELETIONS).add(rows)
        else:
            self._connection.create_table(DELETIONS, rows)

    def _need_vectors(self) -> None:
        if not self.settings.dimension:
            raise Unsupported("vector search", f"The store {self.address}, made without an encoder,")

    @contextmanager
    def _told(self, where: str | None) -> Iterator[None]:
        """Turn the database's complaint about a caller's filter into one that names the filter."""
        try:
            yield
        except (ValueError, RuntimeError) as error:
            is_about_filter = any(sign in str(error) for sign in ("Invalid input", "Error applying filter"))
            if where is None or isinstance(error, UserError) or not is_about_filter:
                raise
            raise OptionError(
                f"the filter {where!r} is not understood ({str(error).splitlines()[0]})",
                place="where",
                remedy=f"Write a SQL condition over {', '.join(COLUMNS)}.",
            ) from error


def _connect(address: str) -> lancedb.DBConnection:
    # Interval 0: every read sees the newest commit, whichever process made it.
    return lancedb.connect(address, read_consistency_interval=timedelta(0))


def _is_remote(address: str) -> bool:
    return "://" in address


def _find(address: str) -> str | None:
    """Where the database at or below `address` is, or None. Looks before it connects: connecting makes a folder."""
    if _is_remote(address):
        return address if TABLE in _tables(_connect(address)) else None
    folders = (Path(address), Path(address) / STORE_FOLDER)
    return next((str(folder) for folder in folders if (folder / f"{TABLE}.lance" / "_versions").is_dir()), None)


def _tables(connection: lancedb.DBConnection) -> list[str]:
    return list(connection.list_tables().tables)


def _read_settings(table: Table, address: str) -> StoreSettings:
    encoded = (table.schema.metadata or {}).get(_SETTINGS.encode())
    if encoded is None:
        raise DatastoreError("this LanceDB table was not made by glassworks", place=address, remedy="Index again.")
    return StoreSettings(**json.loads(encoded))


def _condition(where: str | None) -> str | None:
    # Unparenthesised, the database reads only the first of "a = 1; b" or "a = 1 b" and ignores the rest. The line
    # end closes a trailing comment.
    return None if where is None else f"({where}\n)"


def _positive(k: int) -> int:
    if k < 1:
        raise OptionError(f"expected k of at least 1, got {k}", place="k")
    return k


def _duplicate(id_: str, address: str) -> DuplicateIdError:
    return DuplicateIdError(
        f"the id '{id_}' is already there", place=address, remedy="Give ids once, or pass upsert=True to replace."
    )


def _remove_leftovers(folder: Path) -> None:
    """Half-written files of a writer that was killed; only the holder of the lock may call this."""
    for leftover in folder.glob("*.lance/**/.tmp*"):
        leftover.unlink(missing_ok=True)

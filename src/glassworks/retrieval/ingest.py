"""How does a stream of documents come to mirror itself in a store, at the least cost?

A document whose fingerprint is stored already costs nothing more; a changed one replaces its passages in one commit,
and passages whose title and text are the same keep their vectors; one that is gone is removed. Each commit holds
whole documents, so a killed ingest loses at most one batch and doubles nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from glassworks.errors import NoDocuments
from glassworks.retrieval.chunking import Chunking, chunk, count_words
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.documents import Documents
from glassworks.retrieval.encoders import Encoder, Vectors
from glassworks.retrieval.passages import Passage
from glassworks.retrieval.rows import one_of

_REMOVED_AT_ONCE = 1000


@dataclass
class Tally:
    """What an ingest did.

    documents, words: read. unchanged: documents that were stored already; removed: documents that are gone.
    passages: stored anew. embedded: texts encoded, truncated: those longer than the encoder reads. skipped: reason ->
    files or rows. data_sha: 16 hexadecimal digits over all documents. seconds: wall time.
    """

    documents: int = 0
    words: int = 0
    unchanged: int = 0
    removed: int = 0
    passages: int = 0
    embedded: int = 0
    truncated: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    data_sha: str = ""
    seconds: float = 0.0


def ingest(
    store: Datastore, documents: Documents, cut: Chunking, encoder: Encoder | None = None, batch_rows: int = 4096
) -> Tally:
    """Make `store` hold exactly `documents`, in commits of about `batch_rows` passages.

    Raises NoDocuments where none holds text, DuplicateIdError where two share an id; what was stored stays.
    """
    tally, started, digest = Tally(), time.perf_counter(), hashlib.sha256()
    known = store.fingerprints()
    batch = _Batch(store, encoder, tally)
    for document in tqdm(documents, desc="indexing", unit=" documents", mininterval=0.5):
        fingerprint = document.fingerprint
        digest.update(fingerprint.encode())
        tally.documents += 1
        tally.words += count_words(document.text)
        before = known.pop(document.id, None)
        if before == fingerprint:
            tally.unchanged += 1
            continue
        (batch.new if before is None else batch.changed).extend(chunk(document, cut))
        if len(batch.new) + len(batch.changed) >= batch_rows:
            batch.commit()
    if not tally.documents:
        told = ", ".join(f"{count} {reason}" for reason, count in documents.skipped.items())
        raise NoDocuments(f"no document holds text ({told})", place=documents.place)
    batch.commit()
    gone = sorted(known)
    for first in range(0, len(gone), _REMOVED_AT_ONCE):
        part = gone[first : first + _REMOVED_AT_ONCE]
        tally.removed += store.delete(documents=part, reason="no longer among the documents").documents
    tally.skipped, tally.data_sha = dict(documents.skipped), digest.hexdigest()[:16]
    tally.truncated = encoder.truncated if encoder else 0
    tally.seconds = time.perf_counter() - started
    return tally


class _Batch:
    """Passages waiting for a commit: of documents that are new, and of changed ones that replace what is stored."""

    def __init__(self, store: Datastore, encoder: Encoder | None, tally: Tally) -> None:
        self._store, self._encoder, self._tally = store, encoder, tally
        self.new: list[Passage] = []
        self.changed: list[Passage] = []

    def commit(self) -> None:
        """Store what waits: new documents in one commit, changed ones in another."""
        if self.new:
            self._store.add(self.new, self._vectors(self.new, {}))
        if self.changed:
            self._store.add(self.changed, self._vectors(self.changed, self._stored_vectors()), upsert=True)
        self._tally.passages += len(self.new) + len(self.changed)
        self.new, self.changed = [], []

    def _vectors(self, passages: Sequence[Passage], vectors: dict[str, Vectors]) -> Vectors | None:
        if self._encoder is None:
            return None
        texts = list({passage.indexed_text: None for passage in passages if passage.indexed_text not in vectors})
        vectors = {**vectors, **dict(zip(texts, self._encoder.encode_passages(texts), strict=True))}
        self._tally.embedded += len(texts)
        return np.stack([vectors[passage.indexed_text] for passage in passages])

    def _stored_vectors(self) -> dict[str, Vectors]:
        """Indexed text -> vector of the passages that are about to be replaced."""
        if self._encoder is None:
            return {}
        condition = one_of("document_id", sorted({passage.document_id for passage in self.changed}))
        texts = {passage.id: passage.indexed_text for passage in self._store.passages(condition)}
        stored = self._store.vectors(condition)
        return {texts[id_]: vector for ids, rows in stored for id_, vector in zip(ids, rows, strict=True)}

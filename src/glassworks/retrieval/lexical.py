"""Which passages share rare words with a query? BM25, as an index derived from one version of a store.

Lucene form (retrieval.md section 3): sum over query terms of ln(1 + (N - df + .5) / (df + .5)) * tf / (tf + k1 (1 - b +
b len / avg)), k1 = 0.9, b = 0.4, English stop words, no stemming, over `title. text`. The database's own full text
fixes k1 = 1.2, so bm25s holds the index; it is saved beside the store under the version it was built from and
rebuilt when the store has moved on. Scores are fp32; ties go by passage id.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bm25s
import filelock
import numpy as np
from numpy.typing import NDArray

from glassworks.errors import OptionError
from glassworks.foundations.files import atomic_write
from glassworks.retrieval.datastore import Datastore

logger = logging.getLogger(__name__)

DERIVED_FOLDER = "derived"
_IDS = "passage_ids.json"


@dataclass(frozen=True)
class BM25Settings:
    """k1 >= 0: how fast repeats of a word saturate. b in [0, 1]: how much long passages are discounted."""

    k1: float = 0.9
    b: float = 0.4

    def __post_init__(self) -> None:
        if self.k1 < 0 or not 0 <= self.b <= 1:
            raise OptionError(f"expected k1 >= 0 and 0 <= b <= 1, got k1 = {self.k1}, b = {self.b}", place="BM25")


class LexicalIndex:
    """BM25 over the passages of one version of a store. ids: passage ids, sorted; version: the store's."""

    def __init__(self, ids: list[str], engine: bm25s.BM25 | None, version: int) -> None:
        self.ids, self.version, self._engine = ids, version, engine

    def scores(self, query: str) -> NDArray[np.float32]:
        """The BM25 score of every passage, [passages] in order of `ids`; 0 where no word is shared."""
        # bm25s files its own empty token under a number beyond its tables and fails on a query without tokens.
        tokens = [token for token in _tokens([query])[0] if token and self._engine and token in self._engine.vocab_dict]
        if self._engine is None or not tokens:
            return np.zeros(len(self.ids), np.float32)
        scores: NDArray[np.float32] = self._engine.get_scores(tokens)
        return scores

    def search(self, query: str, k: int) -> list[tuple[str, float]]:
        """The k best (passage id, score), best first, ties by id; only passages that share a word with the query."""
        scores = self.scores(query)
        # All at or above the k-th score, so that a tie at the last place is whole; the stable sort cuts it by id.
        floor = np.partition(scores, -k)[-k] if k < len(scores) else 0
        kept = np.flatnonzero((scores >= floor) & (scores > 0))
        best = kept[np.argsort(-scores[kept], kind="stable")][:k]
        return [(self.ids[row], float(scores[row])) for row in best]


def build_lexical(passages: Sequence[tuple[str, str]], version: int, settings: BM25Settings) -> LexicalIndex:
    """An index over (id, text) pairs in any order."""
    ordered = sorted(passages)
    tokens = _tokens([text for _, text in ordered])
    engine = None
    if any(tokens):
        engine = bm25s.BM25(method="lucene", k1=settings.k1, b=settings.b)
        engine.index(tokens, show_progress=False)
    return LexicalIndex([id_ for id_, _ in ordered], engine, version)


def open_lexical(store: Datastore, settings: BM25Settings = BM25Settings()) -> LexicalIndex:
    """The index of the store's present version: the saved one, or a new one that replaces it.

    A view of an older version, a store on another machine and a folder that cannot be written get one in memory.
    """
    folder = None if store.is_pinned or "://" in store.address else Path(store.address) / DERIVED_FOLDER
    version = store.version
    name = f"bm25-k1={settings.k1:g}-b={settings.b:g}-version={version}"
    if folder is not None and (saved := _load(folder / name, version)) is not None:
        return saved
    index = build_lexical([(p.id, p.indexed_text) for p in store.as_of(version).passages()], version, settings)
    if folder is not None:
        try:
            _save(index, folder, name)
        except OSError as error:
            logger.warning("%s: the lexical index is not saved (%s); it is built at every start", folder, error)
    return index


def _tokens(texts: list[str]) -> list[list[str]]:
    tokens: list[list[str]] = bm25s.tokenize(
        texts, stopwords="en", stemmer=None, return_ids=False, show_progress=False, allow_empty=False
    )
    return tokens


def _load(folder: Path, version: int) -> LexicalIndex | None:
    try:
        ids = json.loads((folder / _IDS).read_text(encoding="utf-8"))
        has_words = any(folder.glob("*.npy"))
        return LexicalIndex(ids, bm25s.BM25.load(str(folder), mmap=True) if has_words else None, version)
    except (OSError, ValueError, KeyError):  # absent or damaged: it can always be built again
        return None


def _save(index: LexicalIndex, folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    with filelock.FileLock(folder / ".lock"), atomic_write(folder / name) as temporary:
        temporary.mkdir()
        (temporary / _IDS).write_text(json.dumps(index.ids, ensure_ascii=False), encoding="utf-8")
        if index._engine is not None:
            index._engine.save(str(temporary), show_progress=False)
        settings = name.rpartition("-version=")[0]
        for stale in folder.glob(f"{settings}-version=*"):
            shutil.rmtree(stale, ignore_errors=True)

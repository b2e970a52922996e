"""Which passages answer this question? Four ways over one store, behind `Retriever`.

Lexical: BM25. Dense: cosine of an encoder. Hybrid: reciprocal rank fusion, sum over lists of 1 / (60 + rank) (Cormack
et al. 2009). Rerank: lexical candidates ordered by the encoder's cosine, which costs no search over vectors. Every
retriever follows the store: what is added or deleted is found or missed by the next call. Knows no language model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from glassworks.errors import OptionError, UnknownName
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.encoders import Encoder, Vectors, instructed, open_encoder
from glassworks.retrieval.lexical import BM25Settings, LexicalIndex, open_lexical
from glassworks.retrieval.passages import Passage, Retrieved, Retriever
from glassworks.retrieval.rows import one_of

logger = logging.getLogger(__name__)

Kind = Literal["lexical", "dense", "hybrid", "rerank"]
RRF = 60


class LexicalRetriever:
    """BM25 over `title. text`. An instruction adds its words to the query, which BM25 cannot tell apart."""

    def __init__(self, store: Datastore, settings: BM25Settings = BM25Settings()) -> None:
        self._store, self._settings = store, settings
        self._index: LexicalIndex | None = None
        self._warn_once = _InstructionWarning("BM25 has no notion of an instruction")

    def retrieve(self, queries: Sequence[str], k: int, *, instruction: str | None = None) -> list[list[Retrieved]]:
        """The k passages of highest BM25 score that share a word with each query, ties by id."""
        self._warn_once(instruction)
        index = self._current()
        found = [index.search(instructed(query, instruction), _positive(k)) for query in queries]
        wanted = {id_ for hits in found for id_, _ in hits}
        passages = {p.id: p for p in self._store.as_of(index.version).passages(one_of("id", sorted(wanted)))}
        return [_ranks([(passages[id_], score) for id_, score in hits]) for hits in found]

    def _current(self) -> LexicalIndex:
        if self._index is None or self._index.version != self._store.version:
            self._index = open_lexical(self._store, self._settings)
        return self._index


class DenseRetriever:
    """Exact cosine search over the stored vectors. Raises EncoderMismatchError unless they are this encoder's."""

    def __init__(self, store: Datastore, encoder: Encoder) -> None:
        store.check_encoder(encoder.signature)
        self._store, self._encoder = store, encoder
        self._warn_once = _InstructionWarning.of(encoder)

    def retrieve(self, queries: Sequence[str], k: int, *, instruction: str | None = None) -> list[list[Retrieved]]:
        """The k passages of highest cosine for each query, ties by id."""
        self._warn_once(instruction)
        vectors = self._encoder.encode_queries(queries, instruction=instruction)
        return self._store.search_vectors(vectors, _positive(k)) if len(queries) else []


class HybridRetriever:
    """Reciprocal rank fusion of several retrievers. depth: how many of each are fused; weights: one a retriever."""

    def __init__(
        self, retrievers: Sequence[Retriever], *, depth: int = 100, weights: Sequence[float] | None = None
    ) -> None:
        self._retrievers, self._depth = tuple(retrievers), depth
        self._weights = tuple(weights) if weights is not None else (1.0,) * len(self._retrievers)
        if len(self._weights) != len(self._retrievers) or min(self._weights, default=0) < 0:
            raise OptionError(
                f"expected {len(self._retrievers)} weights of at least 0, got {self._weights}", place="weights"
            )

    def retrieve(self, queries: Sequence[str], k: int, *, instruction: str | None = None) -> list[list[Retrieved]]:
        """The k passages of highest fused score for each query, ties by id."""
        depth = max(self._depth, _positive(k))
        lists = [retriever.retrieve(queries, depth, instruction=instruction) for retriever in self._retrievers]
        return [self._fuse(found, k) for found in zip(*lists, strict=True)]

    def _fuse(self, found: Sequence[Sequence[Retrieved]], k: int) -> list[Retrieved]:
        passages = {hit.passage.id: hit.passage for hits in found for hit in hits}
        scores = reciprocal_rank_fusion([[hit.passage.id for hit in hits] for hits in found], weights=self._weights)
        return _ranks([(passages[id_], score) for id_, score in scores.items()][:k])


class RerankRetriever:
    """The lexical retriever's candidates in order of the encoder's cosine. candidates: how many are looked at.

    Stored vectors are used where they are this encoder's; others are computed and remembered by content.
    """

    def __init__(self, store: Datastore, encoder: Encoder, *, candidates: int = 50) -> None:
        self._store, self._encoder, self._candidates = store, encoder, candidates
        self._lexical = LexicalRetriever(store)
        self._is_stored = store.settings.encoder == encoder.signature
        self._vectors: dict[str, Vectors] = {}
        self._warn_once = _InstructionWarning.of(encoder)

    def retrieve(self, queries: Sequence[str], k: int, *, instruction: str | None = None) -> list[list[Retrieved]]:
        """The k candidates of highest cosine for each query, ties by id."""
        self._warn_once(instruction)
        if not queries:
            return []
        found = self._lexical.retrieve(queries, max(self._candidates, _positive(k)))
        passages = {hit.passage.id: hit.passage for hits in found for hit in hits}
        vectors = self._passage_vectors(passages)
        asked = self._encoder.encode_queries(queries, instruction=instruction).astype(np.float64)
        return [
            _best([(hit.passage, float((vectors[hit.passage.id] * query).sum())) for hit in hits], k)
            for hits, query in zip(found, asked, strict=True)
        ]

    def _passage_vectors(self, passages: Mapping[str, Passage]) -> dict[str, Vectors]:
        if self._is_stored:
            batches = self._store.vectors(one_of("id", sorted(passages)))
            return {id_: vector for ids, vectors in batches for id_, vector in zip(ids, vectors, strict=True)}
        new = sorted({p.indexed_text for p in passages.values()} - self._vectors.keys())
        self._vectors.update(zip(new, self._encoder.encode_passages(new), strict=True))
        return {id_: self._vectors[passage.indexed_text] for id_, passage in passages.items()}


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[str]], *, weights: Sequence[float] | None = None, constant: int = RRF
) -> dict[str, float]:
    """Ids -> sum over rankings of weight / (constant + rank), rank from 1; best first, ties by id."""
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights or (1.0,) * len(rankings), strict=True):
        for rank, id_ in enumerate(ranking, start=1):
            scores[id_] = scores.get(id_, 0.0) + weight / (constant + rank)
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))


def open_retriever(store: Datastore, kind: Kind = "lexical", encoder: str | None = None) -> Retriever:
    """A retriever of this kind over the store. encoder: its name, for every kind but lexical.

    Raises OptionError where a needed encoder is missing, EncoderMismatchError where it is not the store's.
    """
    if kind not in ("lexical", "dense", "hybrid", "rerank"):
        raise UnknownName("retriever", kind, ("lexical", "dense", "hybrid", "rerank"), place="kind")
    if kind == "lexical":
        return LexicalRetriever(store)
    if encoder is None:
        raise OptionError(
            f"a {kind} retriever needs an encoder", place="encoder", remedy="Name one, such as packaged:minilm."
        )
    opened = open_encoder(encoder)
    if kind == "rerank":
        return RerankRetriever(store, opened)
    dense = DenseRetriever(store, opened)
    return dense if kind == "dense" else HybridRetriever([LexicalRetriever(store), dense])


class _InstructionWarning:
    """Says once that an instruction is merely put in front of the query. reason: "" where the model reads it."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    @classmethod
    def of(cls, encoder: Encoder) -> _InstructionWarning:
        return cls("" if encoder.takes_instructions else "this encoder was not trained with instructions")

    def __call__(self, instruction: str | None) -> None:
        if instruction and self._reason:
            logger.warning("%s: it is put in front of the query as plain words", self._reason)
            self._reason = ""


def _best(scored: list[tuple[Passage, float]], k: int) -> list[Retrieved]:
    return _ranks(sorted(scored, key=lambda item: (-item[1], item[0].id))[:k])


def _ranks(scored: Sequence[tuple[Passage, float]]) -> list[Retrieved]:
    return [Retrieved(passage, score, rank) for rank, (passage, score) in enumerate(scored, start=1)]


def _positive(k: int) -> int:
    if k < 1:
        raise OptionError(f"expected k of at least 1, got {k}", place="k")
    return k

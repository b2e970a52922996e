"""What is retrieved once hostile documents stand in the corpus? They are added for real, to a copy of the store.

PoisonedRAG (Zou et al. 2024): hostile documents are cut, indexed and, where the store holds vectors, embedded like any
other, and compete for the top k by score. `PoisonedCorpus` works on a store of its own, made from an indexed store or
from loose passages, so that nothing is ever added to the user's. In: hostile documents and questions. Out: the passages
that are read. Knows no model and no attack.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from glassworks.errors import OptionError
from glassworks.retrieval.chunking import Chunking, chunk
from glassworks.retrieval.datastore import Datastore, StoreSettings
from glassworks.retrieval.encoders import open_encoder
from glassworks.retrieval.passages import Document, Passage, Retriever
from glassworks.retrieval.retrievers import Kind, open_retriever

SPARE = 32
"""How many hits of a question may be meant for others before it is asked again."""


class PoisonedCorpus:
    """A store that hostile documents are added to and removed from. store: a copy that belongs to this object."""

    def __init__(self, store: Datastore, kind: Kind = "lexical", encoder: str | None = None) -> None:
        self.store, self._kind, self._encoder = store, kind, encoder

    def add(self, passages: Sequence[Passage]) -> None:
        """Store passages, embedded where the store holds vectors."""
        if not passages:
            return
        vectors = None
        if self.store.settings.dimension:
            assert self._encoder is not None  # `check_poisonable`
            vectors = open_encoder(self._encoder).encode_passages([passage.indexed_text for passage in passages])
        self.store.add(passages, vectors)

    def retrieve(
        self, questions: Mapping[str, str], hostile: Mapping[str, Sequence[Document]], k: int
    ) -> dict[str, tuple[Passage, ...]]:
        """The k best passages of each question, by its id, while its hostile documents are in the store.

        hostile: documents by question. Those of all questions are added at once, so that the store is indexed once;
        what was written against another question is left out of a question's passages.
        """
        owner = {document.id: id_ for id_, own in hostile.items() for document in own}
        cut = Chunking(**self.store.settings.chunking)  # type: ignore[arg-type]
        passages = [passage for own in hostile.values() for document in own for passage in chunk(document, cut)]
        self.add(passages)
        retriever = open_retriever(self.store, self._kind, self._encoder)
        found = dict.fromkeys(questions, ()) | dict(self._best(retriever, questions, owner, k))
        if passages:
            self.store.delete(documents=list(owner), reason="the next attack is tried on the corpus as it was")
        return found

    @staticmethod
    def _best(
        retriever: Retriever, questions: Mapping[str, str], owner: Mapping[str, str], k: int
    ) -> Iterator[tuple[str, tuple[Passage, ...]]]:
        """The k best passages of each question that were not written against another one.

        A few more than k are asked for; only questions whose hits are mostly meant for others ask for more again.
        """
        size, waiting = k + SPARE * bool(owner), list(questions)
        while waiting:
            short = []
            hits = retriever.retrieve([questions[id_] for id_ in waiting], size)
            for id_, ranked in zip(waiting, hits, strict=True):
                meant = [hit.passage for hit in ranked if owner.get(hit.passage.document_id, id_) == id_]
                if len(meant) < k and len(ranked) == size:
                    short.append(id_)
                else:
                    yield id_, tuple(meant[:k])
            size, waiting = 4 * size, short


def check_poisonable(store: Datastore, encoder: str | None) -> None:
    """Raise OptionError unless hostile documents can be added to a copy of the store."""
    if "://" in store.address:
        raise OptionError(
            f"the store {store.address} is not on this machine, so no copy of it can be poisoned",
            place="attacks.delivery", remedy="Use insert, or copy the store here.",
        )  # fmt: skip
    if store.settings.dimension and encoder is None:
        raise OptionError(
            f"the store holds vectors of {store.settings.encoder}, which hostile documents need too",
            place="encoder", remedy="Name that encoder.",
        )  # fmt: skip
    if store.settings.dimension:
        assert encoder is not None
        store.check_encoder(open_encoder(encoder).signature)


@contextmanager
def poisoned_copy(
    folder: Path, origin: Datastore | Iterable[Passage], kind: Kind = "lexical", encoder: str | None = None,
    planted: Sequence[Passage] = (),
) -> Iterator[PoisonedCorpus]:  # fmt: skip
    """A copy, in `folder`, of a store or of loose passages; removed at the end. Equal ids are one passage.

    planted: passages that are put into the copy for good. Raises OptionError as `check_poisonable`.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    try:
        if isinstance(origin, Datastore):
            check_poisonable(origin, encoder)
            shutil.copytree(origin.address, folder)
            store = Datastore.open(folder)
        else:
            store = Datastore.create(folder, StoreSettings())
            store.add(list({passage.id: passage for passage in origin}.values()))
        corpus = PoisonedCorpus(store, kind, encoder)
        corpus.add(planted)
        yield corpus
    finally:
        shutil.rmtree(folder, ignore_errors=True)

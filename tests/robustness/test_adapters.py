"""Retrievers of other libraries: their own where they are installed, and objects with the methods of theirs."""

from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from glassworks.robustness.adapters import from_haystack, from_langchain, from_llama_index
from glassworks.robustness.robust_rag import RobustRAG
from glassworks.robustness.scripted_reader import ScriptedReader

TEXTS = ["The capital of Ruritania is Strelsau."] * 4 + ["Glass is made of sand."]
ASKED = "What is the capital of Ruritania?"


def check(finder: Any) -> None:
    answer = RobustRAG(ScriptedReader(), finder, k=5).answer(ASKED)
    assert (answer.text, answer.citations) == ("strelsau", (1, 2, 3, 4))
    assert RobustRAG(ScriptedReader(), finder, k=4).certify(ASKED, 0).certified


def test_langchain_itself() -> None:
    class Fixed(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Any]:
            return [Document(page_content=text, metadata={"source": f"s{n}"}) for n, text in enumerate(TEXTS)]

    check(from_langchain(Fixed()))
    assert from_langchain(Fixed())(ASKED, 2)[1].document_id == "s1"


def test_llama_index_nodes() -> None:
    def retrieve(question: str) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(node=SimpleNamespace(get_content=lambda text=text: text, metadata={"title": ""}), score=1.0)
            for text in TEXTS
        ]

    check(from_llama_index(SimpleNamespace(retrieve=retrieve)))


def test_haystack_components() -> None:
    def run(top_k: int, query: str = "", query_embedding: Any = None) -> dict[str, Any]:
        assert query or query_embedding
        return {"documents": [SimpleNamespace(content=text, meta={}) for text in TEXTS[:top_k]]}

    check(from_haystack(SimpleNamespace(run=run)))
    check(from_haystack(SimpleNamespace(run=run), embed=lambda text: [1.0]))


def test_llama_index_itself() -> None:
    core = pytest.importorskip("llama_index.core", reason="llama-index-core is not installed")
    documents = [core.Document(text=text, metadata={"file_name": f"f{n}"}) for n, text in enumerate(TEXTS)]
    index = core.VectorStoreIndex.from_documents(documents, embed_model=core.MockEmbedding(embed_dim=4))
    finder = from_llama_index(index.as_retriever(similarity_top_k=5))
    assert RobustRAG(ScriptedReader(), finder, k=5).answer(ASKED).text == "strelsau"
    assert {passage.document_id for passage in finder(ASKED, 5)} == {f"f{n}" for n in range(5)}
    assert len(finder(ASKED, 2)) == 2


def test_haystack_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    haystack = pytest.importorskip("haystack", reason="haystack-ai is not installed")
    from haystack.components.retrievers.in_memory import InMemoryBM25Retriever, InMemoryEmbeddingRetriever
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    store = InMemoryDocumentStore()
    store.write_documents(
        [haystack.Document(content=text, id=f"d{n}", embedding=[1.0, n / 10]) for n, text in enumerate(TEXTS)]
    )
    check(from_haystack(InMemoryBM25Retriever(store)))
    check(from_haystack(InMemoryEmbeddingRetriever(store), embed=lambda text: [1.0, 0.0]))
    assert {passage.document_id for passage in from_haystack(InMemoryBM25Retriever(store))(ASKED, 5)} == {
        f"d{n}" for n in range(5)
    }

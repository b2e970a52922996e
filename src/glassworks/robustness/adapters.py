"""How do retrievers of other libraries plug into RobustRAG? One function each, from their documents to passages.

`RobustRAG(model, from_langchain(retriever))`: LangChain retrievers (`invoke`, `page_content`), LlamaIndex retrievers
(`retrieve`, nodes with scores) and Haystack retriever components (`run(query=...)`, or `query_embedding` where an
embedder is given). The libraries are not imported: what is used of them is their objects' own methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glassworks.retrieval.passages import Passage
from glassworks.robustness.robust_rag import Finder


def from_langchain(retriever: Any) -> Finder:
    """A LangChain retriever (anything with `invoke(query)` that gives documents)."""
    return lambda question, k: [
        _passage(number, document.page_content, document.metadata, getattr(document, "id", None))
        for number, document in enumerate(retriever.invoke(question)[:k])
    ]


def from_llama_index(retriever: Any) -> Finder:
    """A LlamaIndex retriever (anything with `retrieve(query)` that gives nodes with scores)."""
    return lambda question, k: [
        _passage(number, found.node.get_content(), found.node.metadata, getattr(found.node, "node_id", None))
        for number, found in enumerate(retriever.retrieve(question)[:k])
    ]


def from_haystack(retriever: Any, embed: Callable[[str], Any] | None = None) -> Finder:
    """A Haystack retriever component. embed: query -> vector, for retrievers by embedding."""

    def find(question: str, k: int) -> list[Passage]:
        asked = {"query": question} if embed is None else {"query_embedding": embed(question)}
        found = retriever.run(**asked, top_k=k)["documents"]
        return [
            _passage(number, document.content or "", document.meta, getattr(document, "id", None))
            for number, document in enumerate(found)
        ]

    return find


def _passage(number: int, text: str, metadata: Mapping[str, Any] | None, own_id: str | None) -> Passage:
    """One found text. Its document's name is what the metadata call it, else the library's id of the text itself."""
    held = metadata or {}
    names = (held.get(key) for key in ("id", "source", "file_path", "file_name", "url"))
    name = str(next((found for found in names if found), None) or own_id or f"document-{number}")
    uri = str(held.get("url") or held.get("source") or held.get("file_path") or "")
    return Passage(f"{name}#{number}", name, text, str(held.get("title") or ""), uri=uri)

"""The path from a question and its passages to an attributed answer, shared by `ask` and `measure`.

What a prompt may hold for a given model, how the answer's sentences are tied to the passages in it, and the record
of a passage that was read. In: an open store, an open model, retrieved passages. Out: prompts, attributed sentences
and sources. Prints and measures nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from glassworks.errors import DatastoreError, OptionError, TemplateError
from glassworks.foundations.data import file_sha
from glassworks.foundations.generation import LanguageModel, Prompt, StepwiseModel
from glassworks.retrieval.attribution import (
    ENCODER_THRESHOLD,
    LEXICAL_THRESHOLD,
    AttributedSentence,
    WordWeights,
    cite,
    encoder_entailment,
    lexical_entailment,
    read_citations,
    word_weights,
)
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.encoders import open_encoder
from glassworks.retrieval.fusion_input import CountTokens, FusedPrompt, closed_book, fuse
from glassworks.retrieval.metrics import Entailment
from glassworks.retrieval.passages import Retrieved

Citing = Literal["words", "encoder", "model"]

# A server does not say how long its context is; this much every current model has.
SERVER_CONTEXT = 4096
# Rarity of words is estimated from so many passages: enough to tell common words from rare ones.
WEIGHTED_PASSAGES = 2000


@dataclass(frozen=True)
class Source:
    """A passage that was in the prompt. number: from 1, in prompt order. score: the retriever's, in its own unit.

    start, end: code points of the passage in its document. text: what the model saw.
    """

    number: int
    passage_id: str
    document_id: str
    title: str
    section: str
    uri: str
    start: int
    end: int
    score: float
    text: str


class Support(NamedTuple):
    """How sentences are tied to passages. marked: by the model's own marks, scored but not judged by `entails`."""

    entails: Entailment
    threshold: float
    marked: bool = False

    def attribute(self, text: str, fused: FusedPrompt, question: str) -> list[AttributedSentence]:
        """The sentences of an answer with what they cite among the passages of the prompt."""
        if self.marked:
            return read_citations(text, fused.passages, self.entails, question=question)
        return cite(text, fused.passages, self.entails, question=question, threshold=self.threshold)


def open_support(store: Datastore, citing: Citing, encoder: str | None = None) -> Support:
    """The support function that `citing` names; word rarity comes from the first passages of the store.

    Raises OptionError where an encoder is needed and not named.
    """
    if citing == "encoder":
        if encoder is None:
            raise OptionError("citing by an encoder needs an encoder", place="encoder", remedy="Name one.")
        return Support(encoder_entailment(open_encoder(encoder).encode_passages), ENCODER_THRESHOLD)
    return Support(lexical_entailment(store_weights(store)), LEXICAL_THRESHOLD, marked=citing == "model")


def store_sha(store: Datastore, questions: str | None) -> str:
    """16 hexadecimal digits over the stored documents and the file of questions, if there is one."""
    held = json.dumps(sorted(store.fingerprints().items()))
    asked = file_sha(questions) if questions else ""
    return hashlib.sha256(f"{held}{asked}".encode()).hexdigest()[:16]


def store_weights(store: Datastore) -> WordWeights:
    """Rarity of words, estimated from the first passages of the store."""
    known = itertools.islice(store.passages(), WEIGHTED_PASSAGES)
    return word_weights(passage.indexed_text for passage in known)


def open_filled_store(address: str) -> Datastore:
    """The store at an address. Raises DatastoreNotFound, or DatastoreError where it holds no passage."""
    store = Datastore.open(address)
    if not store.count():
        raise DatastoreError("the store holds no passage", place=address, remedy="Index some documents into it.")
    return store


def checked_question(question: str) -> str:
    """The question without surrounding white space. Raises OptionError where nothing is left."""
    if not question.strip():
        raise OptionError("expected a question, received an empty text", place="question")
    return question.strip()


def fused_prompt(
    question: str,
    found: Sequence[Retrieved],
    model: LanguageModel,
    max_new_tokens: int,
    *,
    cite_in_answer: bool = False,
) -> FusedPrompt:
    """The prompt for this model with the passages found, best first, within its context; closed-book without any."""
    chat, count, system = model.chat, token_counter(model), takes_system_role(model)
    if not found:
        return closed_book(question, chat=chat, count_tokens=count, system_role=system)
    return fuse(
        question, [hit.passage for hit in found], chat=chat, count_tokens=count, system_role=system,
        budget=prompt_room(model, max_new_tokens), cite_in_answer=cite_in_answer,
    )  # fmt: skip


def takes_system_role(model: LanguageModel) -> bool:
    """Whether conversations may open with a system message; some templates refuse it. Servers are taken to."""
    if not (model.chat and isinstance(model, StepwiseModel)):
        return True
    try:
        model.encode([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])
    except TemplateError:
        return False
    return True


def token_counter(model: LanguageModel) -> CountTokens:
    """How many tokens a prompt has: exactly for a model that runs here, a high estimate for a server."""

    def estimated(prompt: Prompt) -> int:
        texts = [prompt] if isinstance(prompt, str) else [message["content"] for message in prompt]
        return sum(len(text) // 3 + 16 for text in texts)

    return (lambda prompt: len(model.encode(prompt))) if isinstance(model, StepwiseModel) else estimated


def prompt_room(model: LanguageModel, max_new_tokens: int) -> int:
    """Tokens that a prompt may have so that the answer still fits the model's context."""
    context = getattr(model, "context", SERVER_CONTEXT)
    return (context or sys.maxsize) - max_new_tokens


def stop_texts(model: LanguageModel) -> tuple[str, ...]:
    """A base model goes on with questions of its own after the line of its answer; a chat model stops by itself."""
    return () if model.chat else ("\n",)


def sources_of(fused: FusedPrompt, found: Sequence[Retrieved]) -> tuple[Source, ...]:
    """The passages of a prompt, numbered as in it, with the scores they were found with."""
    scores = {hit.passage.id: hit.score for hit in found}
    return tuple(
        Source(n, p.id, p.document_id, p.title, p.section, p.uri, p.start, p.end, scores[p.id], p.text)
        for n, p in enumerate(fused.passages, start=1)
    )

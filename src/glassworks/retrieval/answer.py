"""Verb `ask`: a question in, an answer out whose every sentence says which passage supports it, or that none does.

Asai et al. 2024 (arXiv 2403.03187), "reliable, attributable": retrieve, put the passages in the prompt, generate,
cite. The answer is printed while it is generated, each sentence followed by the numbers it cites; the result holds
the sources with title, section, address and the exact words, by code points of the document, that support it.
Writes nothing. `evaluate` measures the same path.
"""

from __future__ import annotations

import sys
import textwrap
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glassworks.errors import OptionError
from glassworks.foundations.generation import LanguageModel, Sampling, StepwiseModel, open_language_model
from glassworks.retrieval.attribution import AttributedSentence, with_marks
from glassworks.retrieval.fusion_input import FusedPrompt
from glassworks.retrieval.grounding import (
    Citing,
    Source,
    Support,
    checked_question,
    fused_prompt,
    open_filled_store,
    open_support,
    sources_of,
    stop_texts,
    token_counter,
)
from glassworks.retrieval.retrievers import Kind, open_retriever

WIDTH = 88
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Answer:
    """An answer and what it rests on. text: as generated. sources: every passage that was in the prompt.

    notes: what the reader must know, such as that nothing supports the answer. seconds: by stage.
    """

    question: str
    text: str
    sentences: tuple[AttributedSentence, ...] = ()
    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def cited(self) -> tuple[int, ...]:
        """The numbers of the sources that some sentence cites, in ascending order."""
        return tuple(sorted({citation.number for sentence in self.sentences for citation in sentence.citations}))

    def as_sample(self) -> dict[str, object]:
        """This answer as a line of a stage's ``samples.jsonl``, which reports show."""
        sources = {source.number: source for source in self.sources}
        citations = [
            {
                "number": citation.number,
                "title": _name(sources[citation.number]),
                "uri": sources[citation.number].uri,
                "quote": citation.quote,
            }
            for sentence in self.sentences
            for citation in sentence.citations
        ]
        return {"question": self.question, "answer": self.text, "citations": citations}

    def summary(self) -> str:
        """The sources below the answer, which has been printed already: cited ones in full, then notes and times."""
        lines = []
        for source in self.sources:
            if source.number in self.cited:
                lines += [*self._source_lines(source), ""]
        others = [f"[{s.number}] {printable(_name(s))}" for s in self.sources if s.number not in self.cited]
        if others:
            lines += [_wrapped(f"Read but not cited: {'; '.join(others)}"), ""]
        lines += [_wrapped(note) for note in self.notes]
        lines.append(", ".join(f"{stage} {value:.1f} s" for stage, value in self.seconds.items()))
        return "\n".join(lines)

    def _source_lines(self, source: Source) -> list[str]:
        citations = [c for sentence in self.sentences for c in sentence.citations if c.number == source.number]
        lines = [_linked(f"[{source.number}] {printable(_name(source))}", source.uri), f"    {printable(source.uri)}"]
        for citation in dict.fromkeys(citations):
            place = f"characters {citation.start}-{citation.end}, support {citation.score:.2f}"
            lines.append(_wrapped(f'"{printable(citation.quote)}" ({place})', "    "))
        return [*lines, "", _wrapped(printable(source.text), "    ")]


def ask(
    question: str,
    store: str = "runs/index",
    model: str = "packaged:smollm2",
    k: int = 3,
    retriever: Kind = "lexical",
    encoder: str | None = None,
    max_new_tokens: int = 64,
    citations: Citing = "words",
    min_score: float | None = None,
    closed_book_fallback: bool = False,
    device: str = "auto",
    dtype: str = "auto",
) -> Answer:
    """Answer a question from indexed documents, with citations that show the supporting words.

    Shell: glassworks ask "What is the capital of Kenya?" --store runs/index

    Args:
        question: The question, in words.
        store: Run folder of `index`, or the address of a store.
        model: Who answers: a packaged name, a folder, a GGUF file, a hub id, or a server http://host:port/v1#name.
        k: How many passages are put in the prompt.
        retriever: How passages are found: by words, by an encoder, by both, or by words re-ordered by an encoder.
        encoder: Sentence encoder; needed by every retriever but lexical, and by --citations encoder.
        max_new_tokens: Longest answer, in tokens.
        citations: Cite by word overlap, by encoder similarity, or as the model itself cites.
        min_score: Passages that score lower are not used (BM25 score, cosine or fused rank, as the retriever has).
        closed_book_fallback: Answer without passages where none is found; otherwise that is said instead.
        device: Where the model runs: auto, cpu or cuda.
        dtype: Precision of the weights: auto, float32, bfloat16 or float16.
    """
    clock = _Clock()
    question = checked_question(question)
    options = Sampling(max_new_tokens=max_new_tokens)
    if citations == "encoder" and encoder is None:
        raise OptionError("citing by an encoder needs an encoder", place="encoder", remedy="Name one.")
    opened = open_filled_store(store)
    hits = open_retriever(opened, retriever, encoder).retrieve([question], k)[0]
    found = [hit for hit in hits if min_score is None or hit.score >= min_score]
    clock.stop("retrieval")
    if not found and not closed_book_fallback:
        note = "Nothing in the store matches this question, so it is not answered (see --closed_book_fallback)."
        return Answer(question, "", notes=(note,), seconds=clock.seconds)
    language_model = open_language_model(model, device=device, dtype=dtype)
    support = open_support(opened, citations, encoder)
    clock.stop("loading")
    fused = fused_prompt(question, found, language_model, max_new_tokens, cite_in_answer=citations == "model")
    text = _spoken(language_model, fused, question, support, options)
    clock.stop("answering")
    sentences = support.attribute(text, fused, question)
    notes = tuple(_notes(text, sentences, fused, language_model, max_new_tokens))
    return Answer(question, text, tuple(sentences), sources_of(fused, found), notes, clock.seconds)


def _spoken(model: LanguageModel, fused: FusedPrompt, question: str, support: Support, options: Sampling) -> str:
    """Generate the answer and print it meanwhile, a sentence's citations as soon as the sentence is complete."""
    heard: list[str] = []

    def pieces() -> Iterator[str]:
        settings = Sampling(options.max_new_tokens, stop=stop_texts(model))
        for piece in model.stream(fused.prompt, settings):
            heard.append(piece)
            yield piece

    def numbers(sentence: str) -> list[int]:
        found = [] if support.marked else support.attribute(sentence, fused, question)
        return [citation.number for part in found for citation in part.citations]

    for shown in with_marks(pieces(), numbers):
        print(printable(shown), end="", flush=True)
    print("\n", flush=True)
    return "".join(heard).strip()


def _notes(
    text: str, sentences: Sequence[AttributedSentence], fused: FusedPrompt, model: LanguageModel, max_new_tokens: int
) -> Iterator[str]:
    if not text:
        yield "The model gave no answer."
    elif not fused.passages and not fused.dropped:
        yield "Answered from the model alone: nothing in the store matches this question."
    elif not any(sentence.citations for sentence in sentences):
        yield "No passage supports this answer; treat it as a guess."
    if outside := sorted({number for sentence in sentences for number in sentence.out_of_range}):
        yield f"The model cited passages that do not exist: {', '.join(map(str, outside))}."
    if fused.dropped:
        yield f"{len(fused.dropped)} of {len(fused.dropped) + len(fused.passages)} passages did not fit the context."
    if fused.shortened:
        yield f"Passage [{fused.shortened}] was cut to fit the context."
    # Only a model that runs here can say exactly how long the answer is.
    if isinstance(model, StepwiseModel) and text and token_counter(model)(text) >= max_new_tokens:
        yield f"The answer may have been cut at {max_new_tokens} tokens (--max_new_tokens)."


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters but line breaks and tabs, and bidirectional ones, go."""
    return "".join(c for c in text if c in "\n\t" or not (unicodedata.category(c) == "Cc" or c in _BIDI_CONTROLS))


def _name(source: Source) -> str:
    title = source.title or source.document_id
    return f"{title} > {source.section}" if source.section and source.section != title else title


def _linked(text: str, uri: str) -> str:
    """Text as a hyperlink to the source where the output is a terminal (OSC 8), else as it is."""
    address = printable(uri) if "://" in uri else Path(uri).absolute().as_uri() if uri and Path(uri).exists() else ""
    if not (address and sys.stdout.isatty()):
        return text
    return f"\x1b]8;;{address}\x1b\\{text}\x1b]8;;\x1b\\"


def _wrapped(text: str, indent: str = "") -> str:
    lines = text.splitlines() or [""]
    return "\n".join(textwrap.fill(line, WIDTH, initial_indent=indent, subsequent_indent=indent) for line in lines)


class _Clock:
    """Seconds by stage, each from the end of the one before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, stage: str) -> None:
        """The stage that has just ended."""
        now = time.perf_counter()
        self.seconds[stage], self._last = now - self._last, now

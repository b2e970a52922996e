"""What does a model answer with and without passages? The paired answers of a measurement, kept as they come.

Every generation is appended to a ledger in the run folder, on disk before the next batch starts, under a key of the
model's bytes, the prompt and the length allowed: a killed run answers only what is left, and nothing old is taken
for an answer to a changed prompt. In: questions with the passages found for them, an open model. Out: one `Sample` a
question. Judges by `metrics`; intervals are left to `evaluate`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from glassworks.foundations import ledger
from glassworks.foundations.generation import LanguageModel, Prompt, Sampling
from glassworks.foundations.runs import write_text
from glassworks.retrieval.attribution import AttributedSentence
from glassworks.retrieval.fusion_input import FusedPrompt
from glassworks.retrieval.grounding import Support, fused_prompt
from glassworks.retrieval.metrics import contains_answer, exact_match, token_f1
from glassworks.retrieval.passages import Retrieved
from glassworks.retrieval.questions import Question

LEDGER, SAMPLES = "generations.jsonl", "samples.jsonl"
# Prompts of similar length a call: large enough to batch, small enough that a kill loses little.
CALL_PROMPTS = 16


@dataclass(frozen=True)
class Generated:
    """One line of the ledger. seconds: this prompt's share of its batch's time."""

    key: str
    text: str
    prompt_tokens: int
    new_tokens: int
    seconds: float


@dataclass(frozen=True)
class SampleCitation:
    """A citation of a sample, with what can be known of its rightness; None where no gold or answer is known."""

    sentence: str
    number: int
    title: str
    uri: str
    start: int
    end: int
    quote: str
    support: float
    is_gold: bool | None
    holds_answer: bool | None


@dataclass(frozen=True)
class Sample:
    """A question answered both ways. gold: what is known of the right answer and source; scores in [0, 1]."""

    id: str
    question: str
    answers: tuple[str, ...]
    gold: tuple[str, ...]
    read: tuple[str, ...]
    without: str
    answer: str
    without_scores: dict[str, float]
    scores: dict[str, float]
    sentences: int
    cited_sentences: int
    citations: tuple[SampleCitation, ...]
    dropped_passages: int
    shortened_passage: bool


ANSWER_SCORES = {"accuracy": contains_answer, "token_f1": token_f1, "exact_match": exact_match}


class Ledger:
    """Generations on disk by key; what `foundations.ledger` keeps, as `Generated`."""

    def __init__(self, path: Path) -> None:
        self.path, self._kept = path, ledger.Ledger(path)
        self.entries = {key: Generated(**entry) for key, entry in self._kept.entries.items()}

    def add(self, entries: Sequence[Generated]) -> None:
        """Append entries; they are on disk when this returns."""
        self._kept.add(asdict(entry) for entry in entries)
        self.entries |= {entry.key: entry for entry in entries}


def generate_all(
    model: LanguageModel, prompts: Mapping[str, FusedPrompt], options: Sampling, ledger: Ledger
) -> dict[str, Generated]:
    """The generation of every prompt by key: from the ledger where it is there, else made now, shortest first."""
    missing = sorted((key for key in prompts if key not in ledger.entries), key=lambda key: (prompts[key].tokens, key))
    for first in tqdm(range(0, len(missing), CALL_PROMPTS), desc="answering", disable=not missing):
        keys = missing[first : first + CALL_PROMPTS]
        start = time.perf_counter()
        made = model.generate([prompts[key].prompt for key in keys], options)
        seconds = (time.perf_counter() - start) / len(keys)
        entries = [
            Generated(key, one.text.strip(), one.prompt_tokens, len(one.token_ids), seconds)
            for key, one in zip(keys, made, strict=True)
        ]
        ledger.add(entries)
    return {key: ledger.entries[key] for key in prompts}


def prompt_key(prompt: Prompt, options: Sampling, model: str) -> str:
    """32 hexadecimal digits that change with the prompt, the options or the model's bytes."""
    return hashlib.sha256(json.dumps([prompt, asdict(options), model]).encode()).hexdigest()[:32]


def answer_both_ways(
    model: LanguageModel,
    questions: Sequence[Question],
    found: Sequence[Sequence[Retrieved]],
    support: Support,
    options: Sampling,
    ledger: Ledger,
    *,
    fingerprint: str,
) -> list[Sample]:
    """Each question answered with its passages and without.

    found: the passages for each question, best first. fingerprint: what identifies the model's bytes.
    """
    budgeted = [
        (
            fused_prompt(q.text, [], model, options.max_new_tokens),
            fused_prompt(q.text, hits, model, options.max_new_tokens),
        )
        for q, hits in zip(questions, found, strict=True)
    ]
    keys = [[prompt_key(fused.prompt, options, fingerprint) for fused in both] for both in budgeted]
    prompts = {
        key: fused for own, both in zip(keys, budgeted, strict=True) for key, fused in zip(own, both, strict=True)
    }
    texts = generate_all(model, prompts, options, ledger)
    return [
        _sample(question, texts[without].text, texts[grounded].text, both[1], support)
        for question, (without, grounded), both in zip(questions, keys, budgeted, strict=True)
    ]


def _sample(question: Question, without: str, answer: str, fused: FusedPrompt, support: Support) -> Sample:
    sentences = support.attribute(answer, fused, question.text)
    return Sample(
        id=question.id,
        question=question.text,
        answers=question.answers,
        gold=question.document_ids or question.titles,
        read=tuple(passage.id for passage in fused.passages),
        without=without,
        answer=answer,
        without_scores={name: score(without, question.answers) for name, score in ANSWER_SCORES.items()},
        scores={name: score(answer, question.answers) for name, score in ANSWER_SCORES.items()},
        sentences=len(sentences),
        cited_sentences=sum(bool(sentence.citations) for sentence in sentences),
        citations=tuple(_citations(question, sentences, fused)),
        dropped_passages=len(fused.dropped),
        shortened_passage=fused.shortened is not None,
    )


def _citations(
    question: Question, sentences: Iterable[AttributedSentence], fused: FusedPrompt
) -> Iterable[SampleCitation]:
    for sentence in sentences:
        for citation in sentence.citations:
            passage = fused.passages[citation.number - 1]
            yield SampleCitation(
                sentence.text, citation.number, passage.title, passage.uri,
                citation.start, citation.end, citation.quote, citation.score,
                is_gold=question.is_gold(passage) if question.has_gold else None,
                holds_answer=question.is_answered_by(passage) if question.answers else None,
            )  # fmt: skip


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """One JSON object a sample, written whole or not at all."""
    write_text(path, "".join(json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples))

"""Verb `answer`: an answer that corrupted passages cannot change, and, where asked, the proof that none of K can.

RobustRAG (Xiang et al. 2024, arXiv 2405.15556) over an indexed store: each passage is read alone, the responses are
joined by keywords, votes or token by token. The result shows what was kept, which passages agree with it and the
certificate. Certified is that the answer stays the same, not that it is right. Writes nothing; `ask` is the same
question without a defence.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from glassworks.retrieval.grounding import checked_question, open_filled_store
from glassworks.retrieval.retrievers import Kind, open_retriever
from glassworks.robustness.aggregators import RobustAnswer, answer_one, certify_answer
from glassworks.robustness.certificate import Certificate, Reason, same_answer
from glassworks.robustness.method import Defence, Method, check_defence, open_aggregator, open_reading


@dataclass(frozen=True)
class CertifiedAnswer:
    """An answer, the certificate where one was asked for, and the passages' titles in rank order."""

    answer: RobustAnswer
    certificate: Certificate | None = None
    sources: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def summary(self) -> str:
        """The answer, what it rests on, and what is certified."""
        from_passages = [f"[{n}] {self.sources[n - 1]}" for n in self.answer.citations if n <= len(self.sources)]
        lines = [self.answer.text, ""]
        if self.answer.kept:
            lines.append(f"Kept keywords: {', '.join(self.answer.kept)}")
        if self.answer.steps:
            lines.append(f"Tokens decided by the passages together: {self.answer.steps}")
        silent = sum(said is None for said in self.answer.isolated)
        lines.append(f"Read {len(self.answer.isolated)} passages alone; {silent} say nothing about the question.")
        if from_passages:
            lines.append(f"Agreeing passages: {'; '.join(from_passages)}")
        lines += list(self.answer.notes)
        if self.certificate is not None:
            lines.append(_told(self.certificate))
        lines.append(", ".join(f"{stage} {value:.1f} s" for stage, value in self.seconds.items()))
        return "\n".join(lines)


def answer(
    question: str,
    store: str = "runs/index",
    model: str = "packaged:smollm2",
    robust: Method = "keyword",
    certify: int | None = None,
    retriever: Kind = "lexical",
    encoder: str | None = None,
    defence: Defence = Defence(),
    device: str = "auto",
    dtype: str = "auto",
) -> CertifiedAnswer:
    """Answer a question so that corrupted passages cannot change the answer, and certify it.

    Shell: glassworks answer "What is the capital of Kenya?" --store runs/index --certify 1

    Args:
        question: The question, in words.
        store: Run folder of `index`, or the address of a store.
        model: Who answers: a packaged name, a folder, a GGUF file, a hub id, or a server http://host:port/v1#name.
        robust: How isolated answers are joined: shared keywords, votes, token by token, or the largest agreeing set.
        certify: Prove that no so many corrupted passages can change the answer, or say why not; null: no proof.
        retriever: How passages are found: by words, by an encoder, by both, or by words re-ordered by an encoder.
        encoder: Sentence encoder; needed by every retriever but lexical.
        defence: Settings of the defence.
        device: Where the model runs: auto, cpu or cuda.
        dtype: Precision of the weights: auto, float32, bfloat16 or float16.
    """
    question = checked_question(question)
    templates = check_defence(robust, defence, model, certify)
    opened = open_filled_store(store)
    start = time.perf_counter()
    hits = open_retriever(opened, retriever, encoder).retrieve([question], defence.k)[0]
    passages = [hit.passage for hit in hits]
    reading = open_reading(model, defence, templates, device=device, dtype=dtype)
    aggregator = open_aggregator(robust, defence)
    loaded = time.perf_counter()
    given = answer_one(aggregator, reading, question, passages)
    answered = time.perf_counter()
    seconds = {"retrieval and loading": loaded - start, "answering": answered - loaded}
    certificate = None
    if certify is not None:
        checker = same_answer(given.text)
        certificate = certify_answer(aggregator, reading, question, passages, certify, defence.threat, checker)
        seconds["certifying"] = time.perf_counter() - answered
    return CertifiedAnswer(given, certificate, tuple(p.title or p.document_id for p in passages), seconds)


def _told(certificate: Certificate) -> str:
    passages = f"{certificate.budget} corrupted passage{'s' if certificate.budget != 1 else ''}"
    what = "injected" if certificate.threat == "injection" else "replaced"
    if certificate.certified:
        return f"Certified: no {passages} ({what}) can change this answer."
    detail = f": {certificate.detail}" if certificate.detail else ""
    if certificate.reason is Reason.COUNTEREXAMPLE:
        detail = f" ({certificate.outputs[-1]!r})"
    return f"Not certified for {passages} ({what}): {certificate.reason}{detail}."

"""Verb `measure`: does retrieval find the right source, does the model answer better with it, are citations right?

Asai et al. 2024 (arXiv 2403.03187) claim that a datastore reduces factual errors and makes answers attributable. On
the same questions: recall, reciprocal rank and nDCG against gold sources; answers with passages and without, as
pairs; the share of citations whose passage is the gold one or holds the answer; perplexity and speed of the model on
the store's own text. Every figure becomes `Evidence` with n and an interval. Questions without labels are made from
the store (known items); their answers are not scored, and the evidence says so.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glassworks.errors import check_at_least
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.generation import LanguageModel, LocalModel, Sampling, open_language_model
from glassworks.foundations.models import model_sha
from glassworks.foundations.runs import Run
from glassworks.report.figures import FIGURES_FOLDER, Point, Series, forest, recall_at_k, save_figure
from glassworks.retrieval.claims import (
    RECALL_AT,
    RankScores,
    answer_claims,
    citation_claims,
    rank_scores,
    retrieval_claims,
    text_claims,
)
from glassworks.retrieval.datastore import Datastore
from glassworks.retrieval.grounding import open_filled_store, open_support, stop_texts, store_sha, store_weights
from glassworks.retrieval.passages import Retrieved
from glassworks.retrieval.perplexity import REPEATS, measure_throughput, perplexity
from glassworks.retrieval.questions import Question, absent_gold, draw_passages, known_items, read_questions
from glassworks.retrieval.retrievers import Kind, open_retriever
from glassworks.retrieval.samples import LEDGER, SAMPLES, Ledger, answer_both_ways, write_samples

logger = logging.getLogger(__name__)

DEPTH = 30  # passages looked at, so that ten distinct documents are among them
KNOWN_ITEMS = 200
SCORED_PASSAGES = 24


def measure(
    store: str,
    model: str = "packaged:smollm2",
    out: str = "runs/measure",
    questions: str | None = "packaged:fanoutqa-answerable",
    limit: int = 40,
    k: int = 3,
    retriever: Kind = "lexical",
    encoder: str | None = None,
    max_new_tokens: int = 24,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> Run:
    """Measure retrieval, answers with and without it, and citations, on questions with known answers.

    Shell: glassworks measure runs/index --questions questions.jsonl --out runs/measure

    Args:
        store: Run folder of `index`, or the address of a store.
        model: Who answers: a packaged name, a folder, a GGUF file, a hub id, or a server http://host:port/v1#name.
        out: The run folder: samples, figures and evidence.
        questions: JSONL of question, answer(s), titles or document_ids; null: known items drawn from the store.
        limit: How many questions are answered, drawn by seed; all of them are used to measure retrieval.
        k: How many passages are put in the prompt.
        retriever: How passages are found; unless lexical, it is compared with lexical on the same questions.
        encoder: Sentence encoder; needed by every retriever but lexical.
        max_new_tokens: Longest answer, in tokens.
        seed: Draws the questions, the known items and the passages that are scored.
        device: Where the model runs: auto, cpu or cuda.
        dtype: Precision of the weights: auto, float32, bfloat16 or float16.
    """
    arguments = dict(locals())
    with Run.start(out, measure, arguments) as run:
        options = Sampling(max_new_tokens=max_new_tokens)
        check_at_least(1, k=k, limit=limit)
        opened = open_filled_store(store)
        asked = _questions(opened, questions, seed)
        retrievers = {kind: open_retriever(opened, kind, encoder) for kind in dict.fromkeys(("lexical", retriever))}
        found = {kind: one.retrieve([q.text for q in asked], max(DEPTH, k)) for kind, one in retrievers.items()}
        recorder = _Recorder(run, seed, _setting(opened, questions), store_sha(opened, questions))
        recorder.retrieval({kind: rank_scores(asked, hits) for kind, hits in found.items()}, retriever)
        language_model = open_language_model(model, device=device, dtype=dtype)
        recorder = replace(recorder, model_sha="" if "://" in model else model_sha(model))
        drawn = _drawn(asked, limit, seed)
        if drawn:
            passages = [found[retriever][at][:k] for at in drawn]
            options = replace(options, stop=stop_texts(language_model))
            setting = f"{retriever}, k = {k}, at most {max_new_tokens} new tokens, greedy"
            recorder.answers(language_model, opened, [asked[at] for at in drawn], passages, options, setting)
        recorder.text(language_model, opened)
    return run


def _questions(store: Datastore, questions: str | None, seed: int) -> list[Question]:
    if questions is None:
        return known_items(draw_passages(store, KNOWN_ITEMS, seed=seed), store_weights(store))
    asked = read_questions(questions)
    if missing := absent_gold(store, asked):
        logger.warning("%d sources are not in the store and cannot be found, such as '%s'", len(missing), missing[0])
    return asked


def _drawn(questions: Sequence[Question], limit: int, seed: int) -> list[int]:
    """Positions of the questions to be answered: up to `limit` of those with a known answer, in their order."""
    known = [at for at, question in enumerate(questions) if question.answers]
    return sorted(random.Random(seed).sample(known, min(limit, len(known))))


def _setting(store: Datastore, questions: str | None) -> str:
    asked = questions or "known items: sentences drawn from the store, no known answers, so answers are not scored"
    return f"{asked}; store of {store.count()} passages"


@dataclass(frozen=True)
class _Recorder:
    """Writes each stage's claims, figures and samples into the run, with what they have in common."""

    run: Run
    seed: int
    setting: str
    data_sha: str
    model_sha: str = ""

    def record(self, claims: Iterable[Evidence], *, setting: str = "", artefact: str = "") -> None:
        """Add claims with the inputs they were measured on."""
        where = "; ".join(part for part in (self.setting, setting) if part)
        self.run.record(
            *(
                replace(claim, setting=where, artefact=artefact, seed=self.seed, data_sha=self.data_sha,
                        model_sha=self.model_sha)
                for claim in claims
            )
        )  # fmt: skip

    def retrieval(self, scores: Mapping[str, RankScores], chosen: str) -> None:
        """Ranking quality of the retrievers, with its figure."""
        claims = list(retrieval_claims(scores, chosen))
        self.record(claims)
        figures = {claim.metric: claim for claim in claims}
        lines = []
        for kind in scores:
            own = [figures[f"{kind}_recall@{k}"] for k in RECALL_AT]
            low, high = zip(*(claim.interval or (claim.value, claim.value) for claim in own), strict=True)
            lines.append(Series(kind, RECALL_AT, [claim.value for claim in own], low, high))
        asked = len(scores["lexical"]["recall@1"])
        alt = "; ".join(f"{line.label}: " + ", ".join(f"{y:.2f} at {x}" for x, y in zip(line.x, line.y, strict=True))
                        for line in lines)  # fmt: skip
        save_figure(
            recall_at_k(lines), self._figure("recall"),
            caption=f"Share of {asked} questions whose source is among the first k; bands are 95 % intervals.",
            alt=f"Recall at k. {alt}.",
        )  # fmt: skip

    def answers(
        self,
        model: LanguageModel,
        store: Datastore,
        questions: Sequence[Question],
        passages: Sequence[Sequence[Retrieved]],
        options: Sampling,
        setting: str,
    ) -> None:
        """Answers with the passages and without, and their citations, with samples and figure."""
        ledger = Ledger(self.run.path / LEDGER)
        samples = answer_both_ways(
            model, questions, passages, open_support(store, "words"), options, ledger,
            fingerprint=self.model_sha or model.name,
        )  # fmt: skip
        write_samples(self.run.path / SAMPLES, samples)
        claims = [*answer_claims(samples), *citation_claims(samples)]
        self.record(claims, setting=setting, artefact=SAMPLES)
        if dropped := sum(sample.dropped_passages for sample in samples):
            logger.warning("%d passages did not fit the model's context and were left out", dropped)
        figures = {claim.metric: claim for claim in claims}
        points = []
        for label, metric in (("without retrieval", "closed_book_accuracy"), ("with retrieval", "answer_accuracy")):
            low, high = figures[metric].interval or (None, None)
            points.append(Point(label, figures[metric].value, low, high, figures[metric].n))
        save_figure(
            forest(points, x_label="share of answers that hold the known answer"), self._figure("accuracy"),
            caption=f"Known answers found in {len(samples)} answers with passages and without; 95 % intervals.",
            alt="; ".join(f"{point.label}: {point.value:.2f}" for point in points) + ".",
        )  # fmt: skip

    def text(self, model: LanguageModel, store: Datastore) -> None:
        """Perplexity and speed on passages drawn from the store; only a model that runs here can tell."""
        if not isinstance(model, LocalModel):
            logger.warning("%s is a server: its perplexity and speed are not measured", model.name)
            return
        texts = [passage.indexed_text for passage in draw_passages(store, SCORED_PASSAGES, seed=self.seed)]
        fit, speed = perplexity(model, texts, seed=self.seed), measure_throughput(model, texts)
        setting = f"{len(texts)} passages, {fit.tokens} tokens; speed: median and range of {REPEATS} repeats"
        self.record(text_claims(fit, speed), setting=setting)

    def _figure(self, name: str) -> Path:
        return self.run.path / FIGURES_FOLDER / f"{name}.svg"

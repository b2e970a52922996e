"""Decoding aggregation with a real model: rows of isolated prompts, the abstention filter, and the search over texts.

RobustRAG section 4: one batch of k + 1 rows, the last without passages. A row abstains where the model gives the draft
"I don't know" enough probability after its prompt; words that open a late abstention are masked at the first step, in
every row, in answer and certificate alike. Needs a model whose next-token distributions are known whole.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

from glassworks.errors import OptionError
from glassworks.foundations.language_model import DecodingState, LanguageModel, StepwiseModel
from glassworks.retrieval.passages import Passage
from glassworks.robustness.aggregators import RobustAnswer, Spent, refuse_uncertified
from glassworks.robustness.certificate import (
    ABSTENTION,
    Certificate,
    Checker,
    Reason,
    SampledEstimate,
    Threat,
    check_budget,
    normal_form,
)
from glassworks.robustness.decoding_aggregation import (
    Finished,
    Reduction,
    decode,
    emitted,
    explore,
    may_abstain,
    sample_path,
    slack_of,
)
from glassworks.robustness.isolation import Reading, Unit, cut_response, unit_budget
from glassworks.robustness.keywords import open_extractor
from glassworks.robustness.prompts import closed_prompt

AbstainScore = Literal["joint", "mean", "official"]

DRAFT = "I don't know"
SUPPRESSED = ("I", "Please", "\n")


def stepwise(model: LanguageModel) -> StepwiseModel:
    """The model, if its next-token distributions are known whole. Raises TypeError, suggesting keyword."""
    if not isinstance(model, StepwiseModel):
        raise TypeError(f"{model.name} does not give whole next-token distributions: use the keyword aggregator")
    return model


@lru_cache(maxsize=4)
def suppressed_ids(model: Any, vocabulary: int) -> tuple[int, ...]:
    """Token ids that write exactly one of the suppressed words, with or without a space before it."""
    wanted = {*SUPPRESSED, *(f" {word}" for word in SUPPRESSED)}
    return tuple(token for token in range(vocabulary) if model.decode([token]) in wanted)


def draft_score(token_log_probs: Sequence[float], score: AbstainScore) -> float:
    """The draft's probability: of all its tokens, its geometric mean, or of all but the first (the official one)."""
    if score == "mean":
        return math.exp(sum(token_log_probs) / len(token_log_probs))
    return math.exp(sum(token_log_probs[score == "official" :]))


@dataclass(frozen=True)
class DecodingAggregator:
    """Token by token, what the passages together make most likely, or what the model says without them.

    eta >= 0: absolute gap on the sum of probabilities. abstain_at: a row whose draft scores at least this much is
    dropped. max_leaves: the largest tree that is searched. reduction: median has no certificate.
    """

    eta: float = 0.0
    abstain_score: AbstainScore = "joint"
    abstain_at: float = 0.5
    max_leaves: int = 64
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        if not 0 <= self.eta < math.inf:
            raise OptionError(f"expected at least 0, received {self.eta}", place="eta")

    @property
    def uncertified(self) -> str:
        """The median has no certificate."""
        return "" if self.reduction == "sum" else "decoding by the median has no certificate"

    def answer(self, reading: Reading, question: str, passages: Sequence[Passage]) -> RobustAnswer:
        """The aggregated text; an abstention where every row abstains."""
        rows = _Rows.open(self, reading, question, reading.units(passages))
        marks = tuple("answers" if number in rows.retained else None for number in range(rows.units))
        if not rows.retained:
            return RobustAnswer(question, ABSTENTION, marks)
        steps = decode(rows.state(), self.eta, rows.finished, rows.suppressed, self.reduction)
        text = rows.text([emitted(step, self.eta) for step in steps])
        return RobustAnswer(question, text or ABSTENTION, marks, (), self._cited(reading, passages, text), len(steps))

    @staticmethod
    def _cited(reading: Reading, passages: Sequence[Passage], text: str) -> tuple[int, ...]:
        """Units that hold a keyword of the answer."""
        words = open_extractor().extract(text)
        held = [normal_form(" ".join(p.indexed_text for p in unit)) for unit in reading.units(passages)]
        return tuple(number for number, told in enumerate(held, 1) if any(word in told for word in words))

    def certify(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Certificate:  # fmt: skip
        """Every text that hostile rows can make, depth first, against the checker."""
        check_budget(budget, reading.k)
        refuse_uncertified(self.uncertified)
        spent = Spent(reading)
        outputs = [self.answer(reading, question, passages).text]
        if not checker(outputs[0]):
            return spent.certificate(False, Reason.WRONG_CLEAN, budget, threat, tuple(outputs))
        rows, slack, forced = self._surviving(reading, question, passages, budget, threat)
        if forced:
            outputs.append(ABSTENTION)
            if not checker(ABSTENTION):
                return spent.certificate(False, Reason.ABSTAINED, budget, threat, tuple(outputs))
        leaves = explore(rows.state(), self.eta, slack, rows.finished, rows.suppressed)
        for number, leaf in enumerate(leaves, start=1):
            if leaf.refused:
                at = f"step {len(leaf.tokens) + 1}"
                return spent.certificate(False, Reason.GAP_TOO_SMALL, budget, threat, tuple(outputs), number - 1, at)
            if number > self.max_leaves:
                return spent.certificate(False, Reason.TOO_MANY_OPTIONAL, budget, threat, tuple(outputs), number - 1)
            outputs.append(rows.text(leaf.tokens) or ABSTENTION)
            if not checker(outputs[-1]):
                return spent.certificate(
                    False, Reason.COUNTEREXAMPLE, budget, threat, tuple(dict.fromkeys(outputs)), number - 1, outputs[-1]
                )
        undecided = max(0, len(set(outputs)) - 1)
        return spent.certificate(True, Reason.CERTIFIED, budget, threat, tuple(dict.fromkeys(outputs)), undecided)

    def estimate(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        score: Checker, samples: int = 100,
    ) -> SampledEstimate:  # fmt: skip
        """The lowest score on random paths of a tree too large to search: an estimate, never a certificate."""
        check_budget(budget, reading.k)
        refuse_uncertified(self.uncertified)
        rows, slack, forced = self._surviving(reading, question, passages, budget, threat)
        texts = [ABSTENTION] if forced else []
        worst = [float(score(text)) for text in texts]
        for seed in range(samples):
            leaf = sample_path(rows.state(), self.eta, slack, rows.finished, seed, rows.suppressed)
            texts.append(rows.text(leaf.tokens))
            worst.append(0.0 if leaf.refused else float(score(texts[-1])))
        return SampledEstimate(min(worst, default=0.0), tuple(dict.fromkeys(texts)), samples)

    def _surviving(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat
    ) -> tuple[_Rows, int, bool]:
        """The rows that an attack leaves, how far it moves their sum, and whether it can empty them."""
        units, k, unit_k, unit_threat = unit_budget(passages, reading.groups, k=reading.k, budget=budget, threat=threat)
        kept = units[: k - unit_k] if unit_threat == "injection" else units
        rows = _Rows.open(self, reading, question, kept)
        return rows, slack_of(unit_k, unit_threat), may_abstain(len(rows.retained), unit_k, unit_threat)


@dataclass(frozen=True)
class _Rows:
    """Prompts read for one question. retained: units that do not abstain; the last row is without passages."""

    model: StepwiseModel
    opened: DecodingState
    units: int
    retained: tuple[int, ...]
    suppressed: tuple[int, ...]
    finished: Finished
    stops: tuple[str, ...]

    @classmethod
    def open(cls, aggregator: DecodingAggregator, reading: Reading, question: str, units: Sequence[Unit]) -> _Rows:
        """Read the units' prompts and drop those that abstain."""
        model, options = stepwise(reading.responder.model), reading.responder.options
        filled = [number for number, unit in enumerate(units) if unit]
        base = closed_prompt(reading.templates, question, chat=model.chat)
        prompts = [*(reading.isolated(question, units[number]) for number in filled), base]
        opened = model.open_decoding(prompts)
        reading.responder.calls += len(prompts)
        reading.responder.tokens += sum(len(model.encode(prompt)) for prompt in prompts)
        draft = model.score(base, [DRAFT if model.chat else f" {DRAFT}"])[0].token_ids
        drafted, probing = [[] for _ in prompts], opened.fork()  # type: list[list[float]], DecodingState
        for token in draft:
            for row, value in zip(drafted, probing.log_probs[:, token].tolist(), strict=True):
                row.append(value)
            probing.append(token)
        scores = [draft_score(row, aggregator.abstain_score) for row in drafted[:-1]]
        kept = [row for row, score in enumerate(scores) if score < aggregator.abstain_at]
        stops = options.stop or ("\n\n", "\n#")

        def finished(tokens: Sequence[int]) -> bool:
            if not tokens:
                return False
            ended = tokens[-1] in model.stop_ids or len(tokens) >= options.max_new_tokens
            return ended or any(stop in model.decode(tokens) for stop in stops)

        return cls(
            model, opened.select([*kept, len(filled)]), len(units), tuple(filled[row] for row in kept),
            suppressed_ids(cast(Hashable, model), opened.log_probs.shape[1]), finished, stops,
        )  # fmt: skip

    def state(self) -> DecodingState:
        """A state of its own at the first token."""
        return self.opened.fork()

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens say, cut at the first stop."""
        said = self.model.decode([token for token in tokens if token not in self.model.stop_ids])
        ends = [said.index(stop) for stop in self.stops if stop in said]
        return cut_response(said[: min(ends)] if ends else said)

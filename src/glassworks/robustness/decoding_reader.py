"""Decoding aggregation with a real model: rows of isolated prompts, the abstention filter, and the search over texts.

RobustRAG section 4: one batch of k + 1 rows, the last without passages. A row abstains where the model gives the draft
"I don't know" enough probability after its prompt; words that open a late abstention are masked at the first step, in
every row, in answer and certificate alike. Needs a model whose next-token distributions are known whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from glassworks.errors import OptionError
from glassworks.foundations.language_model import DecodingState, Prompt, StepwiseModel
from glassworks.retrieval.passages import Passage
from glassworks.robustness.aggregators import Outcomes, RobustAnswer, refuse_uncertified
from glassworks.robustness.certificate import (
    ABSTENTION,
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
    decode_all,
    emitted,
    explore,
    may_abstain,
    sample_path,
    slack_of,
)
from glassworks.robustness.isolation import Asked, Reading, Unit, cut_response, unit_budget
from glassworks.robustness.keywords import open_extractor
from glassworks.robustness.opened_prompts import OpenedPrompts, stepwise
from glassworks.robustness.prompts import closed_prompt

AbstainScore = Literal["joint", "mean", "official"]

ANSWERS_AT_ONCE = 16


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
    memory: OpenedPrompts = field(default_factory=OpenedPrompts, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.eta < math.inf:
            raise OptionError(f"expected at least 0, received {self.eta}", place="eta")

    @property
    def uncertified(self) -> str:
        """The median has no certificate."""
        return "" if self.reduction == "sum" else "decoding by the median has no certificate"

    def answer_all(self, reading: Reading, asked: Sequence[Asked]) -> list[RobustAnswer]:
        """The aggregated texts, several decoded together; an abstention where every row abstains."""
        answers: list[RobustAnswer] = []
        for start in range(0, len(asked), ANSWERS_AT_ONCE):
            part = asked[start : start + ANSWERS_AT_ONCE]
            opened = self._open(reading, [(question, reading.units(passages)) for question, passages in part])
            written = iter(self._written([rows for rows in opened if rows.retained]))
            answers += [
                self._told(reading, question, passages, rows, next(written) if rows.retained else [])
                for (question, passages), rows in zip(part, opened, strict=True)
            ]
        return answers

    def _written(self, opened: Sequence[_Rows]) -> list[list[int]]:
        """The tokens of each answer."""
        if not opened:
            return []
        first, sizes = opened[0], [len(rows.rows) for rows in opened]
        state = first.batch.select([row for rows in opened for row in rows.rows])
        steps = decode_all(state, sizes, self.eta, first.finished, first.suppressed, self.reduction)
        return [[emitted(step, self.eta) for step in own] for own in steps]

    @staticmethod
    def _told(
        reading: Reading, question: str, passages: Sequence[Passage], rows: _Rows, tokens: Sequence[int]
    ) -> RobustAnswer:
        marks = tuple("answers" if number in rows.retained else None for number in range(rows.units))
        text = rows.text(tokens)
        if not text:
            return RobustAnswer(question, ABSTENTION, marks, steps=len(tokens))
        words = open_extractor().extract(text)
        held = [normal_form(" ".join(p.indexed_text for p in unit)) for unit in reading.units(passages)]
        cited = tuple(number for number, told in enumerate(held, 1) if any(word in told for word in words))
        return RobustAnswer(question, text, marks, (), cited, len(tokens))

    def outcomes(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Outcomes:  # fmt: skip
        """Every text that hostile rows can make, depth first, against the checker."""
        rows, slack, forced = self._surviving(reading, question, passages, budget, threat)
        outputs = [ABSTENTION] if forced else []
        if forced and not checker(ABSTENTION):
            return Outcomes(Reason.ABSTAINED, tuple(outputs))
        leaves = explore(rows.state(), self.eta, slack, rows.finished, rows.suppressed)
        for number, leaf in enumerate(leaves, start=1):
            if leaf.refused:
                return Outcomes(Reason.GAP_TOO_SMALL, tuple(outputs), number - 1, f"step {len(leaf.tokens) + 1}")
            if number > self.max_leaves:
                return Outcomes(Reason.TOO_MANY_OPTIONAL, tuple(outputs), number - 1)
            outputs.append(rows.text(leaf.tokens) or ABSTENTION)
            if not checker(outputs[-1]):
                return Outcomes(Reason.COUNTEREXAMPLE, tuple(outputs), number - 1, outputs[-1])
        return Outcomes(Reason.CERTIFIED, tuple(outputs), max(0, len(set(outputs)) - 1))

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
            texts.append(rows.text(leaf.tokens) or ABSTENTION)
            worst.append(0.0 if leaf.refused else float(score(texts[-1])))
        return SampledEstimate(min(worst, default=0.0), tuple(dict.fromkeys(texts)), samples)

    def _surviving(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat
    ) -> tuple[_Rows, int, bool]:
        """The rows that an attack leaves, how far it moves their sum, and whether it can empty them."""
        units, k, unit_k, unit_threat = unit_budget(passages, reading.groups, k=reading.k, budget=budget, threat=threat)
        kept = units[: k - unit_k] if unit_threat == "injection" else units
        (rows,) = self._open(reading, [(question, kept)])
        return rows, slack_of(unit_k, unit_threat), may_abstain(len(rows.retained), unit_k, unit_threat)

    def _open(self, reading: Reading, asked: Sequence[tuple[str, Sequence[Unit]]]) -> list[_Rows]:
        """The rows of each question: the units that do not abstain, and the prompt without passages."""
        prompts: dict[tuple[int, int], Prompt] = {}
        for number, (question, units) in enumerate(asked):
            prompts |= {(number, at): reading.isolated(question, unit) for at, unit in enumerate(units) if unit}
            prompts[number, -1] = closed_prompt(reading.templates, question, chat=reading.chat)
        read = self.memory.read(reading, list(prompts.values()))
        place = dict(zip(prompts, read.places, strict=True))
        finished, stops = _ends(reading)
        found = []
        for number, (_, units) in enumerate(asked):
            filled = [at for at, unit in enumerate(units) if unit]
            scores = {at: draft_score(read.drafted[place[number, at]], self.abstain_score) for at in filled}
            retained = tuple(at for at in filled if scores[at] < self.abstain_at)
            rows = tuple(place[number, at] for at in (*retained, -1))
            found.append(_Rows(stepwise(reading.responder.model), read.state, rows, len(units), retained,
                               read.suppressed, finished, stops))  # fmt: skip
        return found


def _ends(reading: Reading) -> tuple[Finished, tuple[str, ...]]:
    """Whether a text has ended, and the texts that end one."""
    model, options = stepwise(reading.responder.model), reading.responder.options
    stops = options.stop or ("\n\n", "\n#")

    def finished(tokens: Sequence[int]) -> bool:
        if not tokens:
            return False
        ended = tokens[-1] in model.stop_ids or len(tokens) >= options.max_new_tokens
        return ended or any(stop in model.decode(tokens) for stop in stops)

    return finished, stops


@dataclass(frozen=True)
class _Rows:
    """One question's rows. batch: the state that holds them, rows: which of it, the prompt without passages last.

    retained: units that do not abstain, one a row but the last.
    """

    model: StepwiseModel
    batch: DecodingState
    rows: tuple[int, ...]
    units: int
    retained: tuple[int, ...]
    suppressed: tuple[int, ...]
    finished: Finished
    stops: tuple[str, ...]

    def state(self) -> DecodingState:
        """A state of its own at the first token."""
        return self.batch.select(self.rows)

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens say, cut at the first stop."""
        said = self.model.decode([token for token in tokens if token not in self.model.stop_ids])
        ends = [said.index(stop) for stop in self.stops if stop in said]
        return cut_response(said[: min(ends)] if ends else said)

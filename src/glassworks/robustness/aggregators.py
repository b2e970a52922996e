"""How do isolated responses become one answer, and what certificate goes with it? The four ways, on one reading.

RobustRAG section 4: `VotingAggregator`, `KeywordAggregator`, and ReliabilityRAG's `IndependentSetAggregator`, which has
no certificate, like weights by rank. Each asks the pure functions of its namesake module and the reader, nothing else;
answer and certificate ask in the same way, so the certificate is about the function that is served. Decoding
aggregation is in `decoding_reader`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from glassworks.errors import OptionError
from glassworks.retrieval.passages import Passage
from glassworks.robustness.certificate import (
    ABSTENTION,
    Certificate,
    Checker,
    Enumerated,
    Reason,
    Threat,
    check_budget,
    enumerate_outputs,
    normal_form,
)
from glassworks.robustness.disagreement import (
    Contradicts,
    contradiction_graph,
    maximum_independent_set,
    share_no_keyword,
)
from glassworks.robustness.isolation import Asked, Reading, Unit, choice_letter, unit_budget
from glassworks.robustness.keyword_aggregation import (
    Keywords,
    Reachable,
    Thresholds,
    canonical_order,
    kept_keywords,
    reachable,
)
from glassworks.robustness.keywords import KeywordExtractor, open_extractor, phrases_only
from glassworks.robustness.voting import is_vote_certified, rank_weights, tally


@dataclass(frozen=True)
class RobustAnswer:
    """An answer and what it rests on. isolated: one response a unit, None = abstained. citations: units, from 1.

    kept: the keywords that enough passages share; votes, steps and contradictions leave it empty.
    """

    question: str
    text: str
    isolated: tuple[str | None, ...]
    kept: tuple[str, ...] = ()
    citations: tuple[int, ...] = ()
    steps: int = 0
    notes: tuple[str, ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether no passage answers."""
        return self.text == ABSTENTION


class Outcomes(NamedTuple):
    """What an attack can cause. reason: CERTIFIED or why not; the other fields are those of `Certificate`."""

    reason: Reason
    outputs: tuple[str, ...] = ()
    undecided: int = 0
    detail: str = ""


class Aggregator(Protocol):
    """One way to answer from isolated passages. uncertified: why no certificate exists; "" where one does."""

    @property
    def uncertified(self) -> str:
        """Why no certificate exists; "" where one does."""
        ...

    def answer_all(self, reading: Reading, asked: Sequence[Asked]) -> list[RobustAnswer]:
        """The answers from at most k ranked passages each, computed together."""
        ...

    def outcomes(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Outcomes:  # fmt: skip
        """What an attack within the budget can make of an answer that passes the checker without one.

        Asked by `certify_answer` alone, which has checked the budget and that there is a certificate at all.
        """
        ...


def refuse_uncertified(reason: str) -> None:
    """Raise OptionError where a way of answering has no certificate. reason: "" where it has one."""
    if reason:
        raise OptionError(reason, place="certify", remedy="Use keyword, voting or decoding with uniform weights.")


@dataclass(frozen=True)
class VotingAggregator:
    """The label that most passages give. choices: labels are letters A to D; otherwise answers in normal form.

    weights: "uniform", or "geometric:GAMMA" by rank, which has no certificate.
    """

    choices: bool = False
    weights: str = "uniform"

    def __post_init__(self) -> None:
        rank_weights(self.weights, 1)

    @property
    def uncertified(self) -> str:
        """Weights by rank have no certificate."""
        return _weighted(self.weights)

    def _votes(self, reading: Reading, question: str, units: Sequence[Unit]) -> list[str | None]:
        said = reading.responses(question, units)
        if self.choices:
            return [choice_letter(text) for text in said]
        return [None if reading.abstains(text) else normal_form(text).strip(" .,;:!?\"'") or None for text in said]

    def _text(self, winner: str | None) -> str:
        if winner is None:
            return "E." if self.choices else ABSTENTION
        return f"{winner}." if self.choices else winner

    def answer_all(self, reading: Reading, asked: Sequence[Asked]) -> list[RobustAnswer]:
        """The winner of each; "E." or an abstention where nobody votes."""
        reading.prepare(asked)
        return [self._answer(reading, question, passages) for question, passages in asked]

    def _answer(self, reading: Reading, question: str, passages: Sequence[Passage]) -> RobustAnswer:
        votes = self._votes(reading, question, reading.units(passages))
        winner = tally(votes, rank_weights(self.weights, len(votes))).winner
        cited = tuple(number for number, vote in enumerate(votes, 1) if vote is not None and vote == winner)
        return RobustAnswer(question, self._text(winner), tuple(votes), citations=cited)

    def outcomes(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Outcomes:  # fmt: skip
        """The winner's lead against the budget."""
        units, k, unit_k, unit_threat = unit_budget(passages, reading.groups, k=reading.k, budget=budget, threat=threat)
        votes = self._votes(reading, question, units)
        winner = tally(votes).winner
        if winner is None:
            return Outcomes(Reason.ABSTAINED)
        if not checker(self._text(winner)):
            return Outcomes(Reason.WRONG_CLEAN)
        holds = unit_k < k and is_vote_certified(votes, k=k, budget=unit_k, threat=unit_threat)
        return Outcomes(Reason.CERTIFIED if holds else Reason.GAP_TOO_SMALL)


@dataclass(frozen=True)
class KeywordAggregator:
    """Answers from the keywords that enough passages share, never from a passage's own words in context.

    phrases: keep keywords of several words only, for long texts. max_undecided: cap of |W_B|.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    extractor: KeywordExtractor = field(default_factory=open_extractor)
    phrases: bool = False
    max_undecided: int = 14
    weights: str = "uniform"

    def __post_init__(self) -> None:
        rank_weights(self.weights, 1)

    @property
    def uncertified(self) -> str:
        """Weights by rank have no certificate."""
        return _weighted(self.weights)

    def keyword_sets(self, reading: Reading, said: Sequence[str]) -> list[Keywords | None]:
        """One set a response, None where it abstains."""
        extract = self.extractor.extract
        found = [None if reading.abstains(text) else extract(text) for text in said]
        return [None if words is None else phrases_only(words) if self.phrases else words for words in found]

    def answers_to(self, reading: Reading, asked: Sequence[tuple[str, Keywords]]) -> list[str]:
        """Answers to keyword sets; nothing kept is an abstention, a function of the set like every other answer."""
        ordered = [(question, canonical_order(keywords)) for question, keywords in asked]
        said = iter(reading.answers_to_hints([(question, words) for question, words in ordered if words]))
        return [next(said) if words else ABSTENTION for _, words in ordered]

    def answer_all(self, reading: Reading, asked: Sequence[Asked]) -> list[RobustAnswer]:
        """The answers to the kept keywords; an abstention where every passage abstains or none is shared."""
        reading.prepare(asked)
        said = [reading.responses(question, reading.units(passages)) for question, passages in asked]
        sets = [self.keyword_sets(reading, own) for own in said]
        kept = [kept_keywords(own, self.thresholds, self._weights(len(own))) or frozenset() for own in sets]
        texts = self.answers_to(reading, [(question, own) for (question, _), own in zip(asked, kept, strict=True)])
        questions = [question for question, _ in asked]
        return [self._told(*one) for one in zip(questions, texts, said, sets, kept, strict=True)]

    def _weights(self, passages: int) -> list[float] | None:
        return None if self.weights == "uniform" else rank_weights(self.weights, passages)

    @staticmethod
    def _told(
        question: str, text: str, said: Sequence[str], sets: Sequence[Keywords | None], kept: Keywords
    ) -> RobustAnswer:
        told = normal_form(text)
        cited = tuple(n for n, words in enumerate(sets, 1) if words and any(word in told for word in words))
        isolated = tuple(None if words is None else one for words, one in zip(sets, said, strict=True))
        return RobustAnswer(question, text, isolated, canonical_order(kept), cited if kept else ())

    def reach(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat
    ) -> Reachable:
        """Which keyword sets an attack can leave."""
        units, k, unit_k, unit_threat = unit_budget(passages, reading.groups, k=reading.k, budget=budget, threat=threat)
        sets = self.keyword_sets(reading, reading.responses(question, units))
        if unit_k >= k:
            return Reachable(refused=Reason.THRESHOLD_LE_BUDGET)
        return reachable(
            sets, self.thresholds, k=k, budget=unit_k, threat=unit_threat, max_undecided=self.max_undecided
        )

    def outcomes(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Outcomes:  # fmt: skip
        """Every answer to a reachable set against the checker."""
        reach = self.reach(reading, question, passages, budget, threat)
        undecided = len(reach.undecided)
        if reach.refused:
            return Outcomes(reach.refused, undecided=undecided)

        def answers(sets: Sequence[Keywords]) -> list[str]:
            return self.answers_to(reading, [(question, keywords) for keywords in sets])

        found: Enumerated = enumerate_outputs(reach.sets(), answers, checker)
        if found.failed is None:
            return Outcomes(Reason.CERTIFIED, found.outputs, undecided)
        assert isinstance(found.failed, frozenset)
        return Outcomes(Reason.COUNTEREXAMPLE, found.outputs, undecided, ", ".join(canonical_order(found.failed)))


@dataclass(frozen=True)
class IndependentSetAggregator:
    """Answers from the largest set of passages whose isolated answers do not contradict. Has no certificate."""

    contradicts: Contradicts = field(default_factory=lambda: share_no_keyword(open_extractor().extract))

    @property
    def uncertified(self) -> str:
        """Always a reason."""
        return "the maximum independent set has no certificate"

    def answer_all(self, reading: Reading, asked: Sequence[Asked]) -> list[RobustAnswer]:
        """The answer of each to all its kept passages in one prompt; abstainers are not among them."""
        reading.prepare(asked)
        return [self._answer(reading, question, passages) for question, passages in asked]

    def _answer(self, reading: Reading, question: str, passages: Sequence[Passage]) -> RobustAnswer:
        units = reading.units(passages)
        said = reading.responses(question, units)
        isolated = [None if reading.abstains(text) else text for text in said]
        chosen = maximum_independent_set(contradiction_graph(isolated, self.contradicts))
        kept = [number for number in chosen if isolated[number] is not None]
        together = [passage for number in kept for passage in units[number]]
        text = reading.plain([(question, together)])[0] if together else ABSTENTION
        return RobustAnswer(
            question, text, tuple(isolated), citations=tuple(number + 1 for number in kept), notes=(self.uncertified,)
        )

    def outcomes(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Outcomes:  # fmt: skip
        """Never asked for."""
        raise AssertionError(self.uncertified)


def answer_one(aggregator: Aggregator, reading: Reading, question: str, passages: Sequence[Passage]) -> RobustAnswer:
    """The answer to one question."""
    return aggregator.answer_all(reading, [(question, passages)])[0]


def certify_answer(
    aggregator: Aggregator, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
    checker: Checker,
) -> Certificate:  # fmt: skip
    """Whether no `budget` passages can make the answer fail the checker.

    Raises OptionError for a budget outside [0, k), and for a way of answering that has no certificate.
    """
    check_budget(budget, reading.k)
    refuse_uncertified(aggregator.uncertified)
    calls, tokens = reading.responder.spent
    clean = answer_one(aggregator, reading, question, passages).text
    found = Outcomes(Reason.WRONG_CLEAN)
    if checker(clean):
        found = aggregator.outcomes(reading, question, passages, budget, threat, checker)
    calls, tokens = reading.responder.calls - calls, reading.responder.tokens - tokens
    return Certificate(
        found.reason is Reason.CERTIFIED, found.reason, budget, threat, tuple(dict.fromkeys((clean, *found.outputs))),
        found.detail, found.undecided, calls, tokens,
    )  # fmt: skip


def _weighted(weights: str) -> str:
    if weights == "uniform":
        return ""
    return "answers weighted by rank have no certificate: an injected passage moves every later rank"

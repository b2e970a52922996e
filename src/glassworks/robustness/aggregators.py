"""How do isolated responses become one answer, and what certificate goes with it? The four ways, on one reading.

RobustRAG section 4: `VotingAggregator`, `KeywordAggregator`, and ReliabilityRAG's `IndependentSetAggregator`, which has
no certificate, like weights by rank. Each asks the pure functions of its namesake module and the reader, nothing else;
answer and certificate ask in the same way, so the certificate is about the function that is served. Decoding
aggregation is in `decoding_reader`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

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
from glassworks.robustness.isolation import Reading, Unit, choice_letter, unit_budget
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


class Aggregator(Protocol):
    """One way to answer from isolated passages. uncertified: why no certificate exists; "" where one does."""

    @property
    def uncertified(self) -> str:
        """Why no certificate exists; "" where one does."""
        ...

    def answer(self, reading: Reading, question: str, passages: Sequence[Passage]) -> RobustAnswer:
        """The answer from at most k ranked passages."""
        ...

    def certify(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Certificate:  # fmt: skip
        """Whether no `budget` passages can make the answer fail the checker. Raises OptionError."""
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

    def answer(self, reading: Reading, question: str, passages: Sequence[Passage]) -> RobustAnswer:
        """The winner; "E." or an abstention where nobody votes."""
        votes = self._votes(reading, question, reading.units(passages))
        winner = tally(votes, rank_weights(self.weights, len(votes))).winner
        cited = tuple(number for number, vote in enumerate(votes, 1) if vote is not None and vote == winner)
        return RobustAnswer(question, self._text(winner), tuple(votes), citations=cited)

    def certify(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Certificate:  # fmt: skip
        """The winner's lead against the budget."""
        check_budget(budget, reading.k)
        refuse_uncertified(self.uncertified)
        spent = Spent(reading)
        clean = self.answer(reading, question, passages).text
        units, k, unit_k, unit_threat = unit_budget(passages, reading.groups, k=reading.k, budget=budget, threat=threat)
        votes = self._votes(reading, question, units)
        winner = tally(votes).winner
        if winner is None:
            return spent.certificate(False, Reason.ABSTAINED, budget, threat, (clean,))
        if not (checker(clean) and checker(self._text(winner))):
            return spent.certificate(False, Reason.WRONG_CLEAN, budget, threat, (clean,))
        holds = unit_k < k and is_vote_certified(votes, k=k, budget=unit_k, threat=unit_threat)
        return spent.certificate(holds, Reason.CERTIFIED if holds else Reason.GAP_TOO_SMALL, budget, threat, (clean,))


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

    def _final(self, reading: Reading, question: str, sets: Sequence[Keywords]) -> list[str]:
        """Answers to keyword sets; nothing kept is an abstention, a function of the set like every other answer."""
        ordered = [canonical_order(keywords) for keywords in sets]
        said = iter(reading.answers_to_hints(question, [words for words in ordered if words]))
        return [next(said) if words else ABSTENTION for words in ordered]

    def answer(self, reading: Reading, question: str, passages: Sequence[Passage]) -> RobustAnswer:
        """The answer to the kept keywords; an abstention where every passage abstains or none is shared."""
        said = reading.responses(question, reading.units(passages))
        sets = self.keyword_sets(reading, said)
        weights = None if self.weights == "uniform" else rank_weights(self.weights, len(sets))
        kept = kept_keywords(sets, self.thresholds, weights)
        text = self._final(reading, question, [kept])[0] if kept else ABSTENTION
        told = normal_form(text)
        cited = tuple(n for n, words in enumerate(sets, 1) if words and any(word in told for word in words))
        isolated = tuple(None if words is None else one for words, one in zip(sets, said, strict=True))
        return RobustAnswer(question, text, isolated, canonical_order(kept or frozenset()), cited if kept else ())

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

    def certify(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Certificate:  # fmt: skip
        """Every answer to a reachable set against the checker, the clean answer first."""
        check_budget(budget, reading.k)
        refuse_uncertified(self.uncertified)
        spent = Spent(reading)
        clean = self.answer(reading, question, passages)
        if not checker(clean.text):
            return spent.certificate(False, Reason.WRONG_CLEAN, budget, threat, (clean.text,))
        reach = self.reach(reading, question, passages, budget, threat)
        if reach.refused:
            return spent.certificate(False, reach.refused, budget, threat, (clean.text,), len(reach.undecided))
        found: Enumerated = enumerate_outputs(reach.sets(), lambda sets: self._final(reading, question, sets), checker)
        outputs = tuple(dict.fromkeys((clean.text, *found.outputs)))
        reason, detail = Reason.CERTIFIED, ""
        if found.failed is not None:
            assert isinstance(found.failed, frozenset)
            reason, detail = Reason.COUNTEREXAMPLE, ", ".join(canonical_order(found.failed))
        return spent.certificate(found.failed is None, reason, budget, threat, outputs, len(reach.undecided), detail)


@dataclass(frozen=True)
class IndependentSetAggregator:
    """Answers from the largest set of passages whose isolated answers do not contradict. Has no certificate."""

    contradicts: Contradicts = field(default_factory=lambda: share_no_keyword(open_extractor().extract))

    @property
    def uncertified(self) -> str:
        """Always a reason."""
        return "the maximum independent set has no certificate"

    def answer(self, reading: Reading, question: str, passages: Sequence[Passage]) -> RobustAnswer:
        """The answer to all kept passages in one prompt; abstainers are not among them."""
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

    def certify(
        self, reading: Reading, question: str, passages: Sequence[Passage], budget: int, threat: Threat,
        checker: Checker,
    ) -> Certificate:  # fmt: skip
        """Refused."""
        refuse_uncertified(self.uncertified)
        raise AssertionError


class Spent:
    """Counts what a certificate cost from here on."""

    def __init__(self, reading: Reading) -> None:
        self._responder = reading.responder
        self._calls, self._tokens = self._responder.calls, self._responder.tokens

    def certificate(
        self, certified: bool, reason: Reason, budget: int, threat: Threat, outputs: tuple[str, ...],
        undecided: int = 0, detail: str = "",
    ) -> Certificate:  # fmt: skip
        """The certificate with the calls and tokens spent since."""
        return Certificate(
            certified, reason, budget, threat, outputs, detail, undecided,
            self._responder.calls - self._calls, self._responder.tokens - self._tokens,
        )  # fmt: skip


def _weighted(weights: str) -> str:
    if weights == "uniform":
        return ""
    return "answers weighted by rank have no certificate: an injected passage moves every later rank"


MakeAggregator = Callable[[], Aggregator]

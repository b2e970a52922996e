"""Aggregators on the scripted reader: no certified answer flips under any attack; reasons; refusals; costs."""

import dataclasses
import itertools

import pytest

from glassworks.errors import OptionError
from glassworks.foundations.generation import Sampling
from glassworks.retrieval.passages import Passage
from glassworks.robustness.aggregators import (
    Aggregator,
    IndependentSetAggregator,
    KeywordAggregator,
    VotingAggregator,
    answer_one,
    certify_answer,
)
from glassworks.robustness.attacks import ATTACKS, hostile_passages, insert, overwrite
from glassworks.robustness.certificate import ABSTENTION, Reason, holds_answer, same_answer, starts_with_letter
from glassworks.robustness.decoding_reader import DecodingAggregator
from glassworks.robustness.isolation import Reading, Responder
from glassworks.robustness.keyword_aggregation import Thresholds
from glassworks.robustness.prompts import choices_text
from glassworks.robustness.scripted_reader import ScriptedReader
from glassworks.robustness.synthetic import synthetic_questions

K = 8


def reading_of(k: int = K, groups: int = 0) -> Reading:
    return Reading(Responder(ScriptedReader(), Sampling(max_new_tokens=20)), k=k, groups=groups)


@pytest.mark.parametrize("threat", ["injection", "modification"])
@pytest.mark.parametrize("groups", [0, 7])
@pytest.mark.parametrize(
    "aggregator",
    [KeywordAggregator(), VotingAggregator(), DecodingAggregator()],
    ids=["keyword", "voting", "decoding"],
)
def test_no_certified_answer_flips(aggregator: Aggregator, groups: int, threat: str) -> None:
    reading, certified, tried = reading_of(groups=groups), 0, 0
    slow = isinstance(aggregator, DecodingAggregator)
    for number, question in enumerate(synthetic_questions(8 if slow else 30, k=K, gold=0.8, seed=4)):
        checker = holds_answer(question.answers)
        for budget in (1, 2):
            given = certify_answer(aggregator, reading, question.text, question.passages, budget, threat, checker)  # type: ignore[arg-type]
            if not given.certified:
                continue
            certified += 1
            kinds = list(itertools.combinations_with_replacement(ATTACKS, budget))
            for kind in kinds:
                hostile = [
                    dataclasses.replace(p, id=f"{p.id}-{n}", text=p.text + " " * n)
                    for n, name in enumerate(kind)
                    for p in hostile_passages(name, question.text, question.target, 1)
                ]
                place = insert if threat == "injection" else overwrite
                places = [
                    place(question.passages, hostile, k=K, position=position, seed=number)  # type: ignore[operator]
                    for position in ("first", "last", "random")
                ]
                tried += len(places)
                for answered in aggregator.answer_all(reading, [(question.text, top) for top in places]):
                    assert checker(answered.text), (question, kind, answered)
    if groups == 0:
        assert certified
        assert tried >= 200


def test_reasons_of_keyword_certificates() -> None:
    (question,) = synthetic_questions(1, gold=1.0, wrong=0.0)
    aggregator, right = KeywordAggregator(), holds_answer(question.answers)
    good = certify_answer(aggregator, reading_of(10), question.text, question.passages, 1, "injection", right)
    assert (good.certified, good.reason, good.undecided) == (True, Reason.CERTIFIED, 0)
    assert good.calls == len({p.text for p in question.passages}) + 1  # the same words are read once
    assert good.tokens > 0
    wrong = certify_answer(
        aggregator, reading_of(10), question.text, question.passages, 1, "injection", holds_answer(["x"])
    )
    assert wrong.reason is Reason.WRONG_CLEAN
    many = certify_answer(aggregator, reading_of(10), question.text, question.passages, 3, "injection", right)
    assert many.reason is Reason.THRESHOLD_LE_BUDGET  # beta = 3 hostile passages write what they like
    few = certify_answer(aggregator, reading_of(10), question.text, question.passages[:1], 1, "injection", right)
    assert few.reason is Reason.THRESHOLD_LE_BUDGET


def test_a_counterexample_names_its_keywords() -> None:
    (question,) = synthetic_questions(1, gold=1.0, wrong=0.0)
    answer = question.answers[0]
    passages = list(question.passages[:8]) + [Passage("z#0", "z", f"The x of y is {answer}.")] * 2
    split = [
        p if n < 3 else dataclasses.replace(p, text=p.text.replace(answer, "Zenda")) for n, p in enumerate(passages)
    ]
    found = certify_answer(
        KeywordAggregator(), reading_of(10), question.text, split, 1, "modification", holds_answer(question.answers)
    )
    assert (found.certified, found.reason, found.detail) == (False, Reason.COUNTEREXAMPLE, "zenda")


def test_nothing_retrieved_is_an_abstention_without_a_certificate() -> None:
    for aggregator in (KeywordAggregator(), VotingAggregator(), DecodingAggregator(), IndependentSetAggregator()):
        answer = answer_one(aggregator, reading_of(), "What is the capital of Ruritania?", [])
        assert answer.abstained
        if not aggregator.uncertified:
            checker = same_answer(ABSTENTION)
            assert not certify_answer(
                aggregator, reading_of(), "What is the x of Y?", [], 1, "injection", checker
            ).certified


def test_choices_vote_by_letter() -> None:
    class Letters(ScriptedReader):
        def generate(self, prompts, options=Sampling()):  # type: ignore[no-untyped-def]
            made = super().generate(prompts, options)
            return [dataclasses.replace(one, text="B. Strelsau" if "Strelsau" in p[-1]["content"] else "E. No")
                    for one, p in zip(made, prompts, strict=True)]  # fmt: skip

    reading = Reading(Responder(Letters(), Sampling()), k=5)
    passages = [Passage(f"{n}#0", str(n), "Strelsau it is." if n < 4 else "Glass.") for n in range(5)]
    asked = choices_text("What is the capital?", ["Zenda", "Hentzau"])
    answer = answer_one(VotingAggregator(choices=True), reading, asked, passages)
    assert (answer.text, answer.citations) == ("B.", (1, 2, 3, 4))
    certify, letters = certify_answer, VotingAggregator(choices=True)
    assert certify(letters, reading, asked, passages, 2, "injection", starts_with_letter("B")).certified
    assert (
        certify(letters, reading, asked, passages, 2, "modification", starts_with_letter("B")).reason
        is Reason.GAP_TOO_SMALL
    )
    assert answer_one(VotingAggregator(choices=True), reading, asked, []).text == "E."


@pytest.mark.parametrize(
    "aggregator",
    [KeywordAggregator(weights="geometric:0.9"), VotingAggregator(weights="geometric:0.9"), IndependentSetAggregator(),
     DecodingAggregator(reduction="median")],
    ids=["keyword", "voting", "independent set", "median"],
)  # fmt: skip
def test_uncertified_ways_answer_but_refuse_to_certify(aggregator: Aggregator) -> None:
    (question,) = synthetic_questions(1, k=K, gold=0.8, wrong=0.1)
    answer = answer_one(aggregator, reading_of(), question.text, question.passages)
    assert question.answers[0].lower() in answer.text.lower()
    with pytest.raises(OptionError, match="no certificate"):
        certify_answer(aggregator, reading_of(), question.text, question.passages, 1, "injection", holds_answer(["x"]))


def test_the_independent_set_drops_the_odd_one_out() -> None:
    (question,) = synthetic_questions(1, k=K, gold=1.0, wrong=0.0)
    top = insert(question.passages, hostile_passages("poison", question.text, question.target, 1), k=K)
    assert answer_one(IndependentSetAggregator(), reading_of(), question.text, top).text == question.answers[0]


@pytest.mark.parametrize("budget", [-1, K])
def test_impossible_budgets_are_refused(budget: int) -> None:
    for aggregator in (KeywordAggregator(Thresholds(0.5, 4)), VotingAggregator(), DecodingAggregator()):
        with pytest.raises(OptionError, match="corruption_size"):
            certify_answer(aggregator, reading_of(), "What?", [], budget, "injection", holds_answer(["x"]))


@pytest.mark.parametrize("groups", [0, 3])
@pytest.mark.parametrize(
    "aggregator",
    [KeywordAggregator(), VotingAggregator(), DecodingAggregator(), IndependentSetAggregator()],
    ids=["keyword", "voting", "decoding", "independent set"],
)
def test_answers_together_are_the_answers_one_by_one(aggregator: Aggregator, groups: int) -> None:
    asked = [(q.text, q.passages[: 4 + n % 4]) for n, q in enumerate(synthetic_questions(20, k=K, gold=0.5, seed=8))]
    asked.insert(3, ("What is the capital of Ruritania?", ()))
    together = aggregator.answer_all(reading_of(groups=groups), asked)
    assert together == [answer_one(aggregator, reading_of(groups=groups), *one) for one in asked]

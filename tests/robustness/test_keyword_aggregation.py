"""Keyword sets: oracles, exact thresholds, order, and soundness against every adversary of both threat models."""

import itertools
import random
from math import inf

import pytest
from cases.adversaries import attacked
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import OptionError
from glassworks.robustness.certificate import Reason
from glassworks.robustness.keyword_aggregation import (
    Reachable,
    Thresholds,
    canonical_order,
    kept_keywords,
    reachable,
)

P, L, M = (frozenset(letter) for letter in "plm")
PAPER = Thresholds(0.3, 3)
FIRST = [P, P, P, P, L, None, P, M, P, P]
SECOND = [P, P, L, P, L, None, P, L, P, M]


def family(reach: Reachable) -> set[frozenset[str]]:
    assert reach.refused is None
    return set(reach.sets())


def test_first_oracle() -> None:
    assert kept_keywords(FIRST, PAPER) == P
    assert family(reachable(FIRST, PAPER, k=10, budget=1)) == {P}


def test_second_oracle() -> None:
    assert kept_keywords(SECOND, PAPER) == P | L
    assert family(reachable(SECOND, PAPER, k=10, budget=1)) == {P | L}
    assert family(reachable(SECOND, PAPER, k=10, budget=2)) == {P | L}
    assert reachable(SECOND, PAPER, k=10, budget=3).refused is Reason.THRESHOLD_LE_BUDGET
    assert family(reachable(SECOND, PAPER, k=10, budget=1, threat="modification")) == {P, P | L}


def _random_case(draw: random.Random) -> tuple[list[frozenset[str] | None], Thresholds, int, int]:
    alphabet = [None, P, L, M, P | L, P | M]
    size = draw.randint(3, 6)
    responses = [draw.choice(alphabet) for _ in range(size)]
    thresholds = Thresholds(draw.choice([0.3, 0.4, 0.5, 1.0]), draw.choice([2, 3, 4]))
    return responses, thresholds, size + draw.choice([0, 0, 0, 1, 2]), draw.choice([1, 2])


@pytest.mark.parametrize("threat", ["injection", "modification"])
def test_every_set_an_adversary_can_leave_is_enumerated(threat: str) -> None:
    draw, certifiable = random.Random(2), 0
    choices = [None, *(frozenset(c) for n in range(4) for c in itertools.combinations("plm", n))]
    while certifiable < 300:
        responses, thresholds, k, budget = _random_case(draw)
        reach = reachable(responses, thresholds, k=k, budget=budget, threat=threat)  # type: ignore[arg-type]
        if reach.refused:
            continue
        certifiable += 1
        allowed = family(reach)
        for changed in set(map(tuple, attacked(responses, choices, k=k, budget=budget, threat=threat))):
            assert kept_keywords(changed, thresholds) in allowed, (responses, thresholds, k, budget, changed)


def test_thresholds_are_exact_and_checked() -> None:
    # In floating point 0.1 * 3 is above 0.3, and 0.7 * 10 below 7.000001 by luck only.
    assert Thresholds(0.1, inf).at(30) == 3
    assert kept_keywords([P] * 3 + [L] * 27, Thresholds(0.1, inf)) == P | L
    with pytest.raises(OptionError, match="alpha"):
        Thresholds(1.1, 3)
    with pytest.raises(OptionError, match="beta"):
        Thresholds(0.3, -1)
    with pytest.raises(OptionError, match="corruption_size"):
        reachable(FIRST, PAPER, k=10, budget=10)


def test_all_abstain_none_kept_and_no_threshold_keeps_all() -> None:
    assert kept_keywords([None] * 4, PAPER) is None
    assert reachable([None] * 4, PAPER, k=4, budget=1).refused is Reason.THRESHOLD_LE_BUDGET
    assert reachable([None] * 4, PAPER, k=4, budget=0).refused is Reason.ABSTAINED
    assert kept_keywords([P, L, None, M], Thresholds(0, inf)) == P | L | M


def test_without_a_budget_the_clean_set_is_the_only_one() -> None:
    for threat in ("injection", "modification"):
        assert family(reachable(SECOND, PAPER, k=10, budget=0, threat=threat)) == {P | L}


def test_cap_and_order_of_subsets() -> None:
    many = [frozenset("abcdef")] * 3
    reach = reachable(many, Thresholds(1.0, 4), k=4, budget=1)
    assert reach.undecided == frozenset("abcdef")
    sets = list(reach.sets())
    assert (len(sets), len(sets[0]), len(sets[1])) == (64, 0, 6)
    assert reachable(many, Thresholds(1.0, 4), k=4, budget=1, max_undecided=5).refused is Reason.TOO_MANY_OPTIONAL


def test_a_short_list_drops_no_response() -> None:
    assert reachable([P, P, P], Thresholds(0.5, 3), k=10, budget=1).always == P


@settings(deadline=None)
@given(st.frozensets(st.text(max_size=4)), st.randoms())
def test_canonical_order_is_a_function_of_the_set(words: frozenset[str], draw: random.Random) -> None:
    shuffled = list(words)
    draw.shuffle(shuffled)
    ordered = canonical_order(frozenset(shuffled))
    assert ordered == canonical_order(words)
    assert [len(word) for word in ordered] == sorted(map(len, words), reverse=True)


@settings(deadline=None)
@given(st.permutations(FIRST))
def test_permuting_passages_changes_no_clean_set(order: list[frozenset[str] | None]) -> None:
    assert kept_keywords(order, PAPER) == P


def test_weights_by_rank_move_the_set() -> None:
    assert kept_keywords([P, L, L], Thresholds(0.5, 9), [1, 1, 1]) == L
    assert kept_keywords([P, L, L], Thresholds(0.5, 9), [1, 0.5, 0.25]) == P

"""Votes: the oracle list, ties, official mistakes put right, and soundness against every adversary."""

import random

import pytest
from cases.adversaries import attacked

from glassworks.errors import OptionError
from glassworks.robustness.voting import is_vote_certified, rank_weights, tally

ORACLE = ["A", "A", "A", "A", "B", None, "A", "C", "A", "A"]


@pytest.mark.parametrize(
    ("budget", "threat", "certified"),
    [(0, "injection", True), (1, "injection", True), (2, "injection", True), (3, "injection", True),
     (4, "injection", False), (2, "modification", True), (3, "modification", False), (0, "modification", True)],
)  # fmt: skip
def test_oracle(budget: int, threat: str, certified: bool) -> None:
    assert tally(ORACLE) == ("A", 6)
    assert is_vote_certified(ORACLE, k=10, budget=budget, threat=threat) is certified


def test_ties_go_to_the_earlier_letter_and_are_not_robust() -> None:
    assert tally(["B", "A"]) == ("A", 0)
    assert not is_vote_certified(["B", "A"], k=2, budget=0)
    assert tally([None, None]) == (None, 0)
    assert not is_vote_certified([None] * 10, k=10, budget=1)


def test_nothing_is_displaced_from_a_short_list() -> None:
    assert is_vote_certified(["A", "A"], k=10, budget=1)  # 2 against at most 1
    assert not is_vote_certified(["A", "A"], k=2, budget=1)  # one of the two is displaced


def test_order_changes_no_count() -> None:
    shuffled = list(ORACLE)
    random.Random(0).shuffle(shuffled)
    assert tally(shuffled) == tally(ORACLE)


@pytest.mark.parametrize("threat", ["injection", "modification"])
def test_no_adversary_changes_a_certified_winner(threat: str) -> None:
    draw, certified = random.Random(1), 0
    while certified < 300:
        k, budget = draw.randint(3, 7), draw.choice([1, 2])
        votes = [draw.choice(["A", "A", "A", "B", "C", None]) for _ in range(draw.randint(1, k))]
        if budget >= k or not is_vote_certified(votes, k=k, budget=budget, threat=threat):
            continue
        certified += 1
        winner = tally(votes).winner
        for changed in attacked(votes, ["A", "B", "C", None], k=k, budget=budget, threat=threat):
            assert tally(changed).winner == winner, (votes, changed, k, budget)


def test_the_rule_is_tight_for_injection() -> None:
    votes = ["A", "A", "B", "A"]  # lead 2, the last vote is displaced, so 1 > 1 is false
    assert not is_vote_certified(votes, k=4, budget=1)
    assert any(tally(v).lead == 0 for v in attacked(votes, ["B"], k=4, budget=1, threat="injection"))


def test_rank_weights() -> None:
    assert rank_weights("uniform", 3) == [1, 1, 1]
    assert rank_weights("geometric:0.5", 3) == [1, 0.5, 0.25]
    assert tally(["B", "A", "A"], rank_weights("geometric:0.5", 3)) == ("B", 0.25)
    for wrong in ("geometric:2", "geometric:x", "linear"):
        with pytest.raises(OptionError, match="weights"):
            rank_weights(wrong, 3)

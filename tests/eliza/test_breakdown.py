"""Hardness of turns by hand, and shares by value."""

import pytest
from cases.eliza import SMALL

from glassworks.eliza.breakdown import Hardness, hardness, shares
from glassworks.eliza.interpreter import converse


def test_hardness_of_a_conversation() -> None:
    """Templates: `U 0 a 0 b .` copies one group; `U c 0 .` is remembered; a null input then recalls it."""
    turns = converse(SMALL, [s.split() for s in ("U d a e a f b .", "U c g h .", "U c g .", "U z .", "U z .")])
    assert hardness(turns, SMALL.memory) == [
        Hardness(3, 1, 0, 0, None),
        Hardness(0, 0, 0, 0, None),
        Hardness(0, 0, 1, 1, None),
        Hardness(2, 1, 2, 2, 2),
        Hardness(1, 1, 2, 3, 2),
    ]


def test_shares_by_value() -> None:
    rows = [(Hardness(2, 1, 0, 0, None), True), (Hardness(2, 1, 1, 1, None), False), (Hardness(0, 0, 1, 2, 1), True)]
    table = shares(rows)
    assert [(row["value"], row["turns"], row["right"]) for row in table["copied_tokens"]] == [(0, 1, 1.0), (2, 2, 0.5)]
    assert [row["value"] for row in table["distance"]] == [1]
    low, high = table["copied_tokens"][1]["interval"]
    assert low < 0.5 < high
    assert low == pytest.approx(1 - high)

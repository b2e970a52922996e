"""The rule in figures that can be counted by eye."""

from __future__ import annotations

import pytest

from glassworks.preference.brevity import brief_and_certain


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("Paris.", -0.05),
        ("It is Paris.", -0.15),
        ("It is Paris. It is in France.", -1 - 7 / 20),
        ("I think it may be Paris.", -6 / 20 - 2),
        ("The U.S. has 3.5 million of them.", -7 / 20 - 1),  # an abbreviation counts as an end: the rule is crude
        ("", -10.0),
    ],
)
def test_rewards(text: str, reward: float) -> None:
    assert brief_and_certain(["?"], [text]) == [pytest.approx(reward)]


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="2 prompts and 1 answers"):
        brief_and_certain(["?", "?"], ["Paris."])

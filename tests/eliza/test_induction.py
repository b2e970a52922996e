"""Ceilings of copying by content: the worked examples, and the table within 0.03."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.eliza.induction import ceiling, copies_right, group_of, induction_copy


def test_worked_examples() -> None:
    assert "".join(induction_copy("cdecdf", 2)) == "cdecde"
    assert "".join(induction_copy("cdecdf", 3)) == "cdecdf"
    assert "".join(induction_copy("abcab", 1)) == "abcab"


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_the_fast_check_is_the_copy(group: list[int], context: int) -> None:
    assert copies_right(group, context) is (induction_copy(group, context) == group)  # type: ignore[arg-type]


def test_groups_without_repeats_are_copied() -> None:
    assert all(copies_right(list(np.random.default_rng(s).permutation(26)), 1) for s in range(20))


@pytest.mark.parametrize(
    ("max_len", "alpha", "expected"),
    [(20, 0.01, (0.381, 0.509)), (20, 0.1, (0.064, 0.470)), (20, 1, (0.095, 0.969)), (20, 100, (0.152, 0.996)),
     (50, 0.01, (0.226, 0.272)), (50, 1, (0.014, 0.793))],
)  # fmt: skip
def test_the_table(max_len: int, alpha: float, expected: tuple[float, float]) -> None:
    for context, value in zip((1, 3), expected, strict=True):
        assert ceiling(max_len, alpha, context, turns=2500) == pytest.approx(value, abs=0.03)


def test_lengths_are_uniform() -> None:
    rng = np.random.default_rng(0)
    assert np.mean([len(group_of(rng, 20, 1.0)) for _ in range(1000)]) == pytest.approx(10, abs=0.7)

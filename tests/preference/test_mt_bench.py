"""MT-Bench: grades in texts, means over turns, intervals over questions."""

from __future__ import annotations

import pytest

from glassworks.errors import OptionError
from glassworks.preference.mt_bench import Grade, parse_grade, summarise


@pytest.mark.parametrize(
    ("text", "grade"),
    [("Rating: [[7]]", 7), ("[[8.5]]", 8.5), ("[6]", 6), ("[[0]]", None), ("[[11]]", None), ("good", None)],
)
def test_grades_in_a_text(text: str, grade: float | None) -> None:
    assert parse_grade(text) == grade


def test_means_by_turn_and_category_leave_out_what_could_not_be_read() -> None:
    grades = [
        Grade("1", 1, 8, "math"), Grade("1", 2, 4, "math"), Grade("2", 1, 9, "writing"), Grade("2", 2, None, "writing"),
    ]  # fmt: skip
    found = summarise(grades)
    assert found.mean.value == 7
    assert found.mean.n == 3
    assert {turn: one.value for turn, one in found.turns.items()} == {1: 8.5, 2: 4}
    assert {name: one.value for name, one in found.categories.items()} == {"math": 6, "writing": 9}
    assert found.unreadable == 1


def test_turns_of_a_question_are_drawn_together() -> None:
    one = summarise([Grade("1", 1, 2), Grade("1", 2, 10)])
    assert one.mean.interval == (6, 6)
    many = summarise([Grade(str(q), t, 1 + q % 9) for q in range(40) for t in (1, 2)])
    single = summarise([Grade(f"{q}-{t}", 1, 1 + q % 9) for q in range(40) for t in (1, 2)])
    assert many.mean.value == single.mean.value
    assert many.mean.interval.high - many.mean.interval.low > 1.2 * (
        single.mean.interval.high - single.mean.interval.low
    )


def test_no_grade_at_all() -> None:
    with pytest.raises(OptionError, match="no grade could be read"):
        summarise([Grade("1", 1, None)])

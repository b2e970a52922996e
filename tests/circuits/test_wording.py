"""Each task's rows say what the task is about."""

import pytest

from glassworks.circuits.wording import FRAMES, boolean, gendered_pronoun, greater_than, indirect_object
from glassworks.errors import OptionError


def everything(word: str) -> bool:
    return True


@pytest.mark.parametrize("corruption", ["abc", "swap", "random"])
def test_receiver_is_named_once_and_the_giver_twice(corruption: str) -> None:
    for row in indirect_object(60, 0, corruption, everything, one_frame=False):
        receiver, giver = row.answer.strip(), row.distractor.strip()
        words = row.clean.replace(",", "").split()
        assert words.count(receiver) == 1
        assert words.count(giver) == 2
        if corruption == "abc":
            assert receiver not in row.corrupted.split()


def test_one_frame_is_one_frame() -> None:
    starts = {row.clean.split()[0] for row in indirect_object(30, 0, "abc", everything, one_frame=True)}
    assert starts == {FRAMES[0].split()[0]}
    assert len(FRAMES) == 15


def test_years_start_after_01_and_answer_is_later() -> None:
    for row in greater_than(40, 0, everything, everything):
        assert int(row.answer) == row.threshold + 1
        assert f"{row.threshold:02} to" in row.clean
        assert "01 to" in row.corrupted


def test_pronouns_follow_the_name() -> None:
    pairs = {(row.answer, row.corrupted_answer) for row in gendered_pronoun(40, 0, everything)}
    assert pairs == {(" she", " he"), (" he", " she")}


def test_boolean_values_are_pythons_and_differ() -> None:
    for row in boolean(80, 0):
        for prompt, answer in ((row.clean, row.answer), (row.corrupted, row.corrupted_answer)):
            words = set(prompt.replace("(", " ").replace(")", " ").split())
            assert words <= {"True", "False", "and", "or", "not", "is"}
            assert eval(prompt.removesuffix(" is"), {}) == (answer == " True")
        assert row.answer != row.corrupted_answer


def test_too_few_words_are_refused() -> None:
    with pytest.raises(OptionError, match="names"):
        indirect_object(1, 0, "abc", lambda word: False, one_frame=True)

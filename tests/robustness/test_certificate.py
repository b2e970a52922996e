"""Enumeration with early exit and memory, checkers, budgets and what an attack leaves in place."""

from collections.abc import Sequence

import pytest

from glassworks.errors import OptionError
from glassworks.robustness.certificate import (
    Reason,
    SampledEstimate,
    check_budget,
    corrupted,
    enumerate_outputs,
    holds_answer,
    normal_form,
    same_answer,
    starts_with_letter,
    surviving,
)


def test_each_distinct_candidate_is_asked_once_in_batches_that_double() -> None:
    batches: list[list[int]] = []

    def answer(batch: Sequence[int]) -> list[str]:
        batches.append(list(batch))
        return [str(item) for item in batch]

    found = enumerate_outputs([1, 2, 1, 3, 4, 5, 6, 7, 2], answer, lambda _: True)
    assert batches == [[1, 2], [3, 4, 5, 6], [7]]
    assert found == (("1", "2", "3", "4", "5", "6", "7"), None)


def test_the_first_failure_ends_the_enumeration() -> None:
    asked: list[int] = []

    def answer(batch: Sequence[int]) -> list[str]:
        asked.extend(batch)
        return [str(item) for item in batch]

    found = enumerate_outputs(range(100), answer, lambda output: output != "3")
    assert found.failed == 3
    assert len(asked) == 6  # the two extremes and one batch of four


@pytest.mark.parametrize("budget", [-1, 10, 11])
def test_budgets_outside_the_list_are_refused(budget: int) -> None:
    with pytest.raises(OptionError, match="corruption_size"):
        check_budget(budget, 10)


def test_what_survives_is_counted_from_k_not_from_the_lists_length() -> None:
    ranked = list(range(10))
    assert surviving(ranked, 10, 2, "injection") == ranked[:8]
    assert surviving(ranked, 10, 0, "injection") == ranked
    assert surviving(ranked, 10, 2, "modification") == ranked
    assert surviving(ranked[:6], 10, 2, "injection") == ranked[:6]  # a short list loses nothing


def test_checkers() -> None:
    assert holds_answer(["Nairobi", " "])("it is nairobi.")
    assert not holds_answer([""])("anything")
    assert starts_with_letter("A")("A. Paris")
    assert not starts_with_letter("A")("B. Paris")
    same = same_answer("The Wren.")
    assert same("the  wren")
    assert not same("the owl")
    assert normal_form("Ｆull  Straße") == "full strasse"


def test_an_estimate_is_no_certificate() -> None:
    assert SampledEstimate(0.5, ("a",), 100).reason is Reason.ESTIMATE_ONLY
    assert not hasattr(SampledEstimate(0.5, (), 1), "certified")


def test_how_many_passages_an_attack_corrupted() -> None:
    clean = list("abcd")
    for read, injected, replaced in (
        ("abcd", 0, 0), ("xabc", 1, 4), ("abcx", 1, 1), ("axby", 2, 3), ("abc", None, None), ("acbx", None, 3),
        ("abdx", None, 2), ("xbcd", None, 1),
    ):  # fmt: skip
        assert corrupted(clean, list(read), k=4, threat="injection") == injected, read
        assert corrupted(clean, list(read), k=4, threat="modification") == replaced, read
    assert corrupted(clean, list("abcdx"), k=10, threat="injection") == 1
    assert corrupted(clean, list("abcx"), k=10, threat="injection") is None  # nothing falls off a short list

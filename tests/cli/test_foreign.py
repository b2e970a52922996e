"""Taking a foreign configuration apart: every key is carried, named as left out, or named as not carried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.cli.foreign import Foreign
from glassworks.errors import OptionError, UnknownName


def test_dotted_options_become_groups_and_nothing_is_lost() -> None:
    foreign = Foreign({"a": 1, "b": "x", "c": 3, "d": None, "e": 5}, "file.yaml")
    foreign.carry([("a", "one.two.a", float), ("missing", "m", None), ("d", "d", None)])
    foreign.set("b", foreign.take("b"))
    foreign.ignore(("c", "z"), "no use")
    foreign.note("said once")
    foreign.note("said once")
    assert foreign.finish() == {"one": {"two": {"a": 1.0}}, "b": "x"}
    assert foreign.notes == [
        "Left out: c (no use).", "said once", "Not carried over, check whether they matter: e.",
    ]  # fmt: skip


def test_numbers_that_yaml_reads_as_text() -> None:
    foreign = Foreign({"rate": "1e-6", "steps": "4", "beta": 2, "bad": "many"}, "file.yaml")
    found = [foreign.number("rate"), foreign.number("steps"), foreign.number("beta"), foreign.number("none")]
    assert found == [1e-6, 4, 2, None]
    assert [type(value) for value in found[:3]] == [float, int, int]
    with pytest.raises(OptionError, match=r"file.yaml: 'bad' should be a number, received 'many'"):
        foreign.number("bad")


def test_choices_name_the_nearest() -> None:
    known = {"keep_end": "end", "keep_start": "start"}
    assert Foreign({"mode": "keep_end"}, "f").choice("mode", known, "keep_start") == "end"
    assert Foreign({}, "f").choice("mode", known, "keep_start") == "start"
    with pytest.raises(UnknownName, match="unknown mode 'keep_ends'. Did you mean keep_end"):
        Foreign({"mode": "keep_ends"}, "f").choice("mode", known, "keep_end")


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(), max_size=8))
def test_untouched_keys_are_all_named(values: dict[str, int]) -> None:
    foreign = Foreign(values, "f")
    assert foreign.finish() == {}
    told = " ".join(foreign.notes)
    assert all(key in told for key in values)

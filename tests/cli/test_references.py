"""References between stages: substitution keeps types; circles, gaps and later stages are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.cli.references import check_references, find_references, substitute
from glassworks.errors import RecipeError


def test_substitution_keeps_the_type_of_a_whole_reference() -> None:
    known = {"inputs.k": 3, "a.out": "runs/a", "inputs.none": None}
    value = {"k": "${inputs.k}", "path": "${a.out}/x", "list": ["${ a.out }"], "none": "${inputs.none}", "n": 5}
    expected = {"k": 3, "path": "runs/a/x", "list": ["runs/a"], "none": None, "n": 5}
    assert substitute(value, known) == expected
    assert sorted(find_references(value)) == ["a.out", "a.out", "inputs.k", "inputs.none"]


@given(st.recursive(st.text(st.characters(exclude_characters="$")), lambda inner: st.lists(inner, max_size=3)))
def test_values_without_references_are_left_alone(value: object) -> None:
    assert substitute(value, {}) == value


def test_a_circle_is_spelled_out() -> None:
    stages = {"a": {"x": "${c.out}"}, "b": {"x": "${a.out}"}, "c": {"x": ["${b.out}"]}}
    with pytest.raises(RecipeError, match=r"r\.yaml: circular reference a -> c -> b -> a"):
        check_references(stages, {}, place="r.yaml")
    with pytest.raises(RecipeError, match="circular reference a -> a"):
        check_references({"a": {"x": "${a.out}"}}, {}, place="r.yaml")


def test_a_later_stage_is_refused() -> None:
    with pytest.raises(RecipeError, match="stage 'a' refers to the later stage 'b'. Move 'b' before 'a'"):
        check_references({"a": {"x": "${b.out}"}, "b": {}}, {}, place="r.yaml")


def test_an_unknown_reference_lists_what_there_is() -> None:
    with pytest.raises(RecipeError, match=r"refers to '\$\{inputs\.modl\}'.*inputs\.model, a\.out, run\.out"):
        check_references({"a": {"x": "${inputs.modl}"}}, {"model": "m"}, place="r.yaml")

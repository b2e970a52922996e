"""Masks of units: names both ways, set algebra, old transformers' arguments, and the range named when one is wrong."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassworks.circuits.subnetwork_units import UnitMask, unit_index, unit_name
from glassworks.errors import OptionError

UNITS = st.lists(st.booleans(), min_size=15, max_size=15).map(lambda bits: torch.tensor(bits).reshape(3, 5))


def test_names_are_the_published_ones_and_read_edge_prunings_too() -> None:
    mask = UnitMask.from_names(["a1.h3", "a0.mlp", "m2"], 3, 4)
    assert mask.names() == ["a0.mlp", "a1.h3", "a2.mlp"]
    assert unit_name(2, 4, 4) == "a2.mlp"
    assert (mask.size, mask.sparsity) == (3, pytest.approx(0.8))


@given(UNITS)
def test_names_restore_the_mask(units: torch.Tensor) -> None:
    mask = UnitMask.from_units(units)
    assert UnitMask.from_names(mask.names(), 3, 4) == mask
    assert torch.equal(mask.units, units)


@given(UNITS, UNITS)
def test_set_algebra_is_that_of_sets(one: torch.Tensor, two: torch.Tensor) -> None:
    a, b = UnitMask.from_units(one), UnitMask.from_units(two)
    first, second = set(a.names()), set(b.names())
    assert set((a & b).names()) == first & second
    assert set((a | b).names()) == first | second
    assert set((a - b).names()) == first - second
    assert hash(a) == hash(UnitMask.from_units(one))


def test_masks_of_old_transformers() -> None:
    head_mask = torch.tensor([[1, 0], [1, 1]])
    assert UnitMask.from_head_mask(head_mask).names() == ["a0.h0", "a0.mlp", "a1.h0", "a1.h1", "a1.mlp"]
    assert UnitMask.from_heads_to_prune({0: [1]}, 2, 2) == UnitMask.from_head_mask(head_mask)
    with pytest.raises(OptionError, match="head_mask: expected zeros and ones"):
        UnitMask.from_head_mask(torch.tensor([[0.5, 1]]))


@pytest.mark.parametrize("name", ["a3.h0", "a0.h99", "m3", "a3.mlp"])
def test_units_that_are_not_there_name_the_range(name: str) -> None:
    with pytest.raises(OptionError, match=f"no unit '{name}'.*a0.h0 to a2.h3 and a0.mlp to a2.mlp"):
        unit_index(name, 3, 4)


def test_faults() -> None:
    with pytest.raises(OptionError, match="'head 3' names no unit"):
        unit_index("head 3", 3, 4)
    with pytest.raises(OptionError, match="do not combine"):
        UnitMask.full(2, 2) & UnitMask.full(3, 2)
    with pytest.raises(OptionError, match="expected heads"):
        UnitMask(torch.ones(2, 2, dtype=torch.bool), torch.ones(3, dtype=torch.bool))
    with pytest.raises(OptionError, match="true or false"):
        UnitMask(torch.ones(2, 2), torch.ones(2))

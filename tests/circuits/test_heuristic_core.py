"""Core, chance and effective size: the worked numbers, and properties that any masks have."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassworks.circuits.heuristic_core import (
    chance_p_value,
    chance_size,
    core_recall,
    dependence,
    effective_size,
    heuristic_core,
    is_faithful,
    jaccard,
    joint_frequency,
)
from glassworks.errors import OptionError

ROWS = [torch.tensor([row]).bool() for row in ([1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 0, 0])]


def test_core_frequency_and_chance_of_three_masks() -> None:
    core = heuristic_core(ROWS)
    assert core.names() == ["a0.h0"]
    assert core.frequency.tolist() == [pytest.approx([1, 2 / 3, 1 / 3, 2 / 3])]
    assert core.chance == pytest.approx(1.125)
    assert (core.size, core.subnetworks) == (1, 3)


@pytest.mark.parametrize(("size", "expected"), [(72, 0.035156), (100, 1.8114), (65, 0.010303)])
def test_chance_level_of_twelve_sets_of_144_heads(size: int, expected: float) -> None:
    assert chance_size([size] * 12, 144) == pytest.approx(expected, rel=1e-4)


def test_chance_of_two_halves_of_six() -> None:
    tail = [1.0, 0.95, 0.5, 0.05]
    for observed, expected in enumerate(tail):
        assert chance_p_value([3, 3], 6, observed, draws=20_000) == pytest.approx(expected, abs=0.012)
    assert chance_p_value([3, 0], 6, 1, draws=99) == pytest.approx(0.01)


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5))
def test_more_subnetworks_never_enlarge_the_core(rows: list[list[bool]]) -> None:
    masks = [torch.tensor(row).reshape(2, 3) for row in rows]
    cores = [heuristic_core(masks[:k], draws=10) for k in range(1, len(masks) + 1)]
    assert all(later.size <= earlier.size for earlier, later in pairwise(cores))
    assert all(core.size <= min(int(mask.sum()) for mask in masks[:k]) for k, core in enumerate(cores, 1))
    assert torch.equal(cores[-1].frequency == 1, cores[-1].heads)


def test_joint_table_counts_every_head_once() -> None:
    table = joint_frequency(ROWS, ROWS[:1])
    assert table.tolist() == [[0, 0], [1, 0], [0, 2], [0, 1]]
    assert table.sum() == 4


def test_jaccard_of_each_pair() -> None:
    assert jaccard(ROWS) == pytest.approx([0.5, 2 / 3, 0.25])
    assert jaccard([torch.zeros(1, 2).bool()] * 2) == [1.0]


def test_effective_size_official_and_monotone() -> None:
    sweep = {5: 0.82, 10: 0.835, 20: 0.825, 30: 0.80, 40: 0.815, 50: 0.79, 60: 0.77}
    assert effective_size(0.84, sweep) == (60, 80)
    assert effective_size(0.84, {5: 0.5}) == (100, 100)
    assert effective_size(0.84, {}) == (100, 100)


def test_a_tie_does_not_pass_whatever_binary_fractions_say() -> None:
    assert 0.81 > 0.84 - 0.03  # the trap that is avoided
    assert not is_faithful(0.81, 0.84)
    assert is_faithful(0.8101, 0.84)


def test_dependence_and_recall() -> None:
    assert dependence(0.6, 0.9, 0.5, 0.52) == pytest.approx((0.3, 0.02))
    one, two = torch.tensor([[1, 1, 0]]).bool(), torch.tensor([[1, 0, 1]]).bool()
    assert core_recall(one, two) == 0.5
    assert core_recall(one, torch.zeros_like(one)) == 1.0


def test_faults() -> None:
    with pytest.raises(OptionError, match="no subnetwork"):
        heuristic_core([])
    with pytest.raises(OptionError, match="different models"):
        heuristic_core([torch.ones(1, 2).bool(), torch.ones(2, 2).bool()])
    with pytest.raises(OptionError, match="different models"):
        joint_frequency([torch.ones(1, 2).bool()], [torch.ones(2, 2).bool()])

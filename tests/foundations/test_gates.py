"""Hard-concrete gates: the published constants' figures, ranking rules, and what a saturated gate does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import OptionError
from glassworks.foundations import gates

SIX = torch.tensor([10.0, 3.0, 0.5, -0.5, -4.0, -10.0])


def close(received: torch.Tensor, expected: list[float], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(received.double(), torch.tensor(expected).double(), atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize(
    ("uniform", "alpha", "expected"),
    [
        (0.5, 0.0, 0.5),
        (0.2, 1.0, 0.330873),
        (0.9, -1.5, 0.787970),
        (0.35, 0.3, 0.359111),
        (0.5, 10.0, 1.0),
        (0.5, -10.0, 0.0),
        (0.01, 10.0, 1.0),
    ],
)
def test_a_sample_has_the_published_value(uniform: float, alpha: float, expected: float) -> None:
    close(gates.sample(torch.tensor(alpha), torch.tensor(uniform)), expected)


@pytest.mark.parametrize(
    ("alpha", "stretched", "clipped"),
    [
        (-1.0, [-0.090164, 0.118911, 0.929170], [0.0, 0.118911, 0.929170]),
        (0.0, [-0.057143, 0.5, 1.057143], [0.0, 0.5, 1.0]),
        (2.0, [0.411891, 1.043089, 1.097791], [0.411891, 1.0, 1.0]),
    ],
)
def test_the_gate_before_and_after_clipping(alpha: float, stretched: list[float], clipped: list[float]) -> None:
    uniform = torch.tensor([0.1, 0.5, 0.9])
    close(gates.stretched(torch.tensor(alpha), uniform), stretched)
    close(gates.sample(torch.tensor(alpha), uniform), clipped)


def test_probability_of_a_closed_gate() -> None:
    alpha = torch.tensor([10.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -10.0])
    expected = [9.1789e-6, 0.026633, 0.069229, 0.168178, 0.354665, 0.599025, 0.802406, 0.999775]
    close(gates.prob_zero(alpha), expected)
    close(gates.expected_open(alpha), [1 - p for p in expected])
    assert gates.prob_zero(torch.tensor([100.0, -100.0])).tolist() == pytest.approx([1e-6, 1 - 1e-6], rel=1e-6)


def test_expected_value_of_a_gate() -> None:
    alpha = torch.tensor([0.0, 2.0, -2.0, 10.0])
    close(gates.expected_value(alpha), [0.5, 0.85732, 0.14268, 0.99994], 1e-5)
    alphas = torch.linspace(-12, 12, 41, dtype=torch.float64)
    midpoints = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    reference = torch.stack([gates.sample(alpha, midpoints).mean() for alpha in alphas])
    torch.testing.assert_close(gates.expected_value(alphas), reference, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("alpha", "mean", "zero", "one"), [(0, 0.5, 0.168, 0.168), (-1, 0.293, 0.355, 0.069), (2, 0.857, 0.027, 0.599)]
)
def test_many_samples_agree_with_the_formulas(alpha: float, mean: float, zero: float, one: float) -> None:
    draws = 400_000
    parameter = torch.tensor(float(alpha))
    uniform = gates.draw_uniform(parameter, examples=draws, generator=torch.Generator().manual_seed(3))
    z = gates.sample(parameter, uniform)
    p0 = float(gates.prob_zero(parameter))
    assert abs(float((z == 0).float().mean()) - p0) < 3 * (p0 * (1 - p0) / draws) ** 0.5
    assert abs(float(z.mean()) - float(gates.expected_value(parameter))) < 3 * float(z.std()) / draws**0.5
    interior = 1 - float((z == 0).float().mean()) - float((z == 1).float().mean())
    assert interior == pytest.approx(float(gates.prob_interior(parameter)), abs=0.003)
    assert (float(z.mean()), p0, float((z == 1).float().mean())) == pytest.approx((mean, zero, one), abs=0.002)


def test_a_gate_that_starts_at_ten_almost_never_has_a_gradient() -> None:
    alpha = torch.full((1_000_000,), 10.0, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    gates.sample(alpha, gates.draw_uniform(alpha, generator=generator)).sum().backward()
    assert alpha.grad is not None
    moving = float((alpha.grad != 0).float().mean())
    assert moving == pytest.approx(2.2e-4, abs=5e-5)
    assert float(gates.prob_interior(torch.tensor(10.0))) == pytest.approx(2.2e-4, abs=1e-5)
    assert float(gates.prob_interior(torch.tensor(3.0))) == pytest.approx(0.19, abs=0.005)


def test_noise_is_repeatable_and_can_differ_by_example() -> None:
    alpha = gates.initial_alpha(3, 4, generator=torch.Generator().manual_seed(1))
    assert alpha.dtype == torch.float32
    assert float((alpha - 3).abs().max()) < 0.05
    first, again = (gates.draw_uniform(alpha, examples=8, generator=torch.Generator().manual_seed(2)) for _ in range(2))
    assert first.shape == (8, 3, 4)
    assert torch.equal(first, again)
    assert gates.sample(alpha, first).shape == (8, 3, 4)
    assert not torch.equal(first[0], first[1])


def test_half_precision_gates_are_computed_in_fp32() -> None:
    alpha = torch.tensor([3.0, -3.0], dtype=torch.bfloat16)
    for result in (gates.prob_zero(alpha), gates.soft_gate(alpha), gates.sample(alpha, gates.draw_uniform(alpha))):
        assert result.dtype == torch.float32


def test_deterministic_gates_of_one_tensor() -> None:
    assert float(gates.prob_zero(SIX).sum()) == pytest.approx(2.285921, abs=1e-5)
    close(gates.deterministic(SIX), [0.999994, 0.973403, 0.645656, 0.354344, 0, 0])
    assert gates.soft_sparsity(SIX) == pytest.approx(0.504434, abs=1e-6)
    assert gates.binarise(SIX).tolist() == [True, True, True, False, False, False]
    layer = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0, 10.0])
    close(gates.soft_gate(layer), [0.026597, 0.231475, 0.5, 0.768525, 0.916827, 0.999994])
    close(gates.deterministic(layer), [0, 0.231475, 0.5, 0.768525, 0.916827, 0.999994])


def test_a_lone_gate_closes_when_closed_is_likelier() -> None:
    closed, open_ = torch.tensor([-1.7]), torch.tensor([-1.5])
    assert float(gates.prob_zero(closed)) == pytest.approx(0.525329, abs=1e-6)
    assert gates.deterministic(closed).tolist() == [0]
    assert float(gates.prob_zero(open_)) == pytest.approx(0.475371, abs=1e-6)
    close(gates.deterministic(open_), [0.141851])


def test_among_equal_gates_the_lower_index_stays() -> None:
    tied = torch.tensor([-1.0, 2.0, -1.0, -1.0, 2.0])
    assert (gates.deterministic(tied) > 0).tolist() == [True, True, True, False, True]
    groups = torch.tensor([0, 1, 0, 0, 1])
    assert (gates.deterministic(tied, groups=groups) > 0).tolist() == [True, True, True, False, True]


def test_rounding_by_layer_and_over_all_layers_differ() -> None:
    alpha = torch.tensor([[2, 2, -0.2, -0.2], [2, 2, -0.2, -0.2]])
    layers = torch.arange(2).unsqueeze(1).expand(2, 4)
    close(gates.prob_zero(alpha).sum(1), [0.4493, 0.4493], 1e-4)
    assert int((gates.deterministic(alpha, groups=layers) == 0).sum()) == 0
    assert int((gates.deterministic(alpha) == 0).sum()) == 1
    assert int(gates.binarise(alpha, rule="per_layer", groups=layers).sum()) == 8
    assert int(gates.binarise(alpha, rule="global", sparsity=0.5).sum()) == 4


def test_the_threshold_rule_keeps_what_is_above_it() -> None:
    assert gates.binarise(SIX, rule="threshold", threshold=0.5).tolist() == [True, True, True, False, False, False]
    assert gates.binarise(SIX, rule="threshold", threshold=0.7).tolist() == [True, True] + [False] * 4
    assert gates.binarise(SIX, rule="per_layer").tolist() == [True, True, True, True, False, False]


def test_entries_that_do_not_exist_are_neither_ranked_nor_counted() -> None:
    padded = torch.stack([SIX, torch.full((6,), -20.0)], dim=1)
    exists = torch.tensor([True, False]).expand(6, 2)
    result = gates.deterministic(padded, exists)
    torch.testing.assert_close(result[:, 0], gates.deterministic(SIX))
    assert not result[:, 1].any()
    assert gates.soft_sparsity(padded, exists) == pytest.approx(0.504434, abs=1e-6)
    assert torch.equal(gates.binarise(padded, exists)[:, 0], gates.binarise(SIX))


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([-4.0, -1.6, -0.5, 0.0, 0.7, 3.0, 40.0]), min_size=1, max_size=40),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_a_global_cut_is_exact_ordered_and_breaks_ties_by_index(
    values: list[float], sparsity: float, bits: int
) -> None:
    alpha = torch.tensor(values)
    exists = torch.tensor([bool(bits >> (i % 32) & 1) for i in range(len(values))])
    kept = gates.binarise(alpha, exists, sparsity=sparsity)
    assert int(kept.sum()) == round((1 - sparsity) * int(exists.sum()))
    assert not bool((kept & ~exists).any())
    for i in torch.nonzero(kept).flatten().tolist():
        for j in torch.nonzero(exists & ~kept).flatten().tolist():
            assert (alpha[i], -i) > (alpha[j], -j)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-8, 8, width=32), st.integers(0, 3)), min_size=1, max_size=40))
def test_grouped_gates_equal_each_group_alone(entries: list[tuple[float, int]]) -> None:
    alpha = torch.tensor([value for value, _ in entries])
    groups = torch.tensor([group for _, group in entries])
    together = gates.deterministic(alpha, groups=groups)
    for group in groups.unique():
        torch.testing.assert_close(together[groups == group], gates.deterministic(alpha[groups == group]))


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(OptionError, match="sparsity is 1.2"):
        gates.binarise(SIX, sparsity=1.2)
    with pytest.raises(OptionError, match="takes no sparsity"):
        gates.binarise(SIX, rule="per_layer", sparsity=0.5)
    with pytest.raises(OptionError, match="unknown rule"):
        gates.binarise(SIX, rule="median")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="7 entries are to be kept, but 6 exist"):
        gates.keep_largest(SIX, 7)
    with pytest.raises(OptionError, match="NaN"):
        gates.keep_largest(torch.tensor([0.0, float("nan")]), 1)

"""Textbook numbers, scipy and brute force against the statistics that every evaluation uses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from glassworks.errors import OptionError
from glassworks.foundations.statistics import (
    auc,
    bootstrap_mean,
    cohen_kappa,
    holm,
    mcnemar,
    paired_difference,
    proportion,
    spearman,
)

# Student's sleep data (1908): extra hours under two drugs, ten patients.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
numbers = st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 3))


def test_wilson_intervals_from_newcombe_1998() -> None:
    for successes, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        estimate = proportion(successes, n)
        assert estimate.value == successes / n
        assert estimate.interval == pytest.approx((low, high), abs=5e-5)
    assert proportion(29, 29).interval == pytest.approx((0.8830, 1.0), abs=5e-5)


def test_bootstrap_mean_is_scipys_bca_and_close_to_t() -> None:
    values = np.array(DRUG_2) - DRUG_1
    estimate = bootstrap_mean(values, seed=3)
    wanted = stats.bootstrap((values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(3))
    assert estimate.interval == pytest.approx(tuple(wanted.confidence_interval))
    assert estimate.value == pytest.approx(1.58)
    assert bootstrap_mean(values, seed=3) == estimate
    assert bootstrap_mean(values, seed=4) != estimate


def test_bootstrap_covers_at_its_level() -> None:
    generator = np.random.default_rng(0)
    samples = generator.exponential(size=(300, 40))
    hits = [e.interval.low <= 1 <= e.interval.high for e in (bootstrap_mean(s, resamples=400) for s in samples)]
    assert 0.89 <= np.mean(hits) <= 0.99


def test_degenerate_means() -> None:
    assert bootstrap_mean([0.1] * 7).interval == pytest.approx((0.1, 0.1))
    assert bootstrap_mean([2.0]).interval == (-math.inf, math.inf)


def test_paired_difference_on_student_sleep_data() -> None:
    result = paired_difference(DRUG_2, DRUG_1)
    assert result.difference == pytest.approx(1.58)
    # All differences are at least 0 and one is 0: two of the 2^9 patterns of the others are as extreme.
    assert (result.p_value, result.exact, result.n) == (2 / 512, True, 10)
    assert 0 < result.interval.low < 1.58 < result.interval.high
    opposite = paired_difference(DRUG_1, DRUG_2)
    assert (opposite.difference, opposite.p_value) == (pytest.approx(-1.58), result.p_value)
    assert paired_difference(DRUG_1, DRUG_1).p_value == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8))
def test_exact_p_value_equals_scipy_permutation_test(pairs: list[tuple[float, float]]) -> None:
    a, b = np.array(pairs).T
    wanted = [
        abs(sum(s * d for s, d in zip(signs, a - b, strict=True)))
        for signs in itertools.product([1, -1], repeat=len(a))
    ]
    observed = abs((a - b).sum())
    p_value = paired_difference(a, b, resamples=300).p_value
    assert p_value == pytest.approx(np.mean([w >= observed - 1e-9 for w in wanted]))
    reference = stats.permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True
    )
    assert p_value == pytest.approx(reference.pvalue)


def test_drawn_p_value_is_close_to_the_exact_one_and_never_zero() -> None:
    generator = np.random.default_rng(1)
    a = generator.normal(0.35, 1, 14)
    exact = paired_difference(a, np.zeros(14), resamples=2**14)
    drawn = paired_difference(a, np.zeros(14), resamples=9_000)
    assert exact.exact
    assert not drawn.exact
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.02)
    assert paired_difference(np.ones(60), np.zeros(60), resamples=500).p_value == 1 / 501


def test_mcnemar_exact() -> None:
    # 1 against 9 discordant pairs: 2 * (C(10,0) + C(10,1)) / 2^10.
    first = [True] * 20 + [True] * 1 + [False] * 9 + [False] * 5
    second = [True] * 20 + [False] * 1 + [True] * 9 + [False] * 5
    result = mcnemar(first, second)
    assert (result.only_first, result.only_second, result.n) == (1, 9, 35)
    assert result.p_value == pytest.approx(22 / 1024)
    assert mcnemar(first, first).p_value == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_mcnemar_is_the_sign_flip_test_of_the_differences(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    flips = paired_difference(np.array(first, float), np.array(second, float), resamples=5000)
    assert mcnemar(first, second).p_value == pytest.approx(flips.p_value)


def test_spearman_textbook() -> None:
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    estimate = spearman(iq, hours)
    assert estimate.value == pytest.approx(-29 / 165)
    z, half = math.atanh(-29 / 165), 1.959964 * math.sqrt((1 + (29 / 165) ** 2 / 2) / 7)
    assert estimate.interval == pytest.approx((math.tanh(z - half), math.tanh(z + half)), abs=1e-6)
    assert spearman([1, 2, 3, 9], [2, 4, 6, 7]) == (1.0, (1.0, 1.0), 4)
    with pytest.raises(OptionError, match="equal"):
        spearman([1, 1, 1, 1], [1, 2, 3, 4])


def test_holm_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(p_values)) + 1e-12
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_auc_counts_pairs_and_has_delongs_error() -> None:
    scores, labels = [0.1, 0.4, 0.35, 0.8], [False, False, True, True]
    assert auc(scores, labels).value == 0.75
    # DeLong by hand: shares (1/2, 1) over positives and (1, 1/2) over negatives, each variance 1/8.
    half = 1.959964 * math.sqrt(1 / 8 / 2 + 1 / 8 / 2)
    assert auc(scores, labels).interval == pytest.approx((0.75 - half, 1.0), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=10),
    st.lists(st.integers(0, 5), min_size=2, max_size=10),
)
def test_auc_is_mann_whitney_and_symmetric(positive: list[int], negative: list[int]) -> None:
    scores = np.array([*positive, *negative], float)
    labels = [True] * len(positive) + [False] * len(negative)
    estimate = auc(scores, labels)
    u = stats.mannwhitneyu(positive, negative).statistic / len(positive) / len(negative)
    assert estimate.value == pytest.approx(u)
    turned = auc(-scores, labels)
    assert turned.value == pytest.approx(1 - u)
    assert turned.interval == pytest.approx((1 - estimate.interval.high, 1 - estimate.interval.low), abs=1e-6)
    assert 0 <= estimate.interval.low <= u + 1e-9
    assert u - 1e-9 <= estimate.interval.high <= 1


def test_perfect_separation_still_has_an_interval() -> None:
    few, many = (auc([*range(2 * n)], [False] * n + [True] * n) for n in (3, 30))
    assert few.value == many.value == 1.0
    assert few.interval.high == many.interval.high == 1.0
    assert few.interval.low < many.interval.low < 1.0


def test_kappa_textbook() -> None:
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    estimate = cohen_kappa(a, b)
    assert estimate.value == pytest.approx(0.4)
    # Fleiss, Cohen and Everitt's error, term by term: p = (.4, .1; .2, .3), chance .5.
    same = 0.4 * (1 - 1.1 * 0.6) ** 2 + 0.3 * (1 - 0.9 * 0.6) ** 2
    other = 0.36 * (0.1 * (0.6 + 0.5) ** 2 + 0.2 * (0.4 + 0.5) ** 2)
    error = math.sqrt((same + other - (0.4 - 0.5 * 0.6) ** 2) / 50) / 0.5
    assert estimate.interval == pytest.approx((0.4 - 1.959964 * error, 0.4 + 1.959964 * error), abs=1e-6)
    assert cohen_kappa([1, 2, 3], [1, 2, 3]).value == 1.0
    with pytest.raises(OptionError, match="one category"):
        cohen_kappa([1, 1], [1, 1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 3), numbers)
def test_mean_interval_moves_and_scales_with_the_data(seed: int, scale: float, shift: float) -> None:
    values = np.random.default_rng(seed).gamma(2.0, size=12)
    there = bootstrap_mean(values * scale + shift, resamples=200)
    here = bootstrap_mean(values, resamples=200)
    assert there.interval == pytest.approx([end * scale + shift for end in here.interval], abs=1e-6)


def test_refusals() -> None:
    for call in (
        lambda: proportion(3, 2),
        lambda: proportion(0, 0),
        lambda: proportion(1, 2, confidence=95),
        lambda: bootstrap_mean([]),
        lambda: bootstrap_mean([1.0, math.nan]),
        lambda: paired_difference([1.0], [1.0, 2.0]),
        lambda: spearman([1, 2, 3], [1, 2, 3]),
        lambda: auc([1.0, 2.0], [True, True]),
        lambda: holm([1.2]),
        lambda: cohen_kappa([], []),
    ):
        with pytest.raises(OptionError):
            call()
    with pytest.raises(OptionError, match=r"values: entry 1 is nan"):
        bootstrap_mean([1.0, math.nan])

"""AlpacaEval's win rates: the oracle of the spec, the official package's figures, and what must never change."""

from __future__ import annotations

import numpy as np
import pytest
from cases.win_rate_oracles import DIFFICULTY, LENGTH_1, LENGTH_2, P
from hypothesis import given
from hypothesis import strategies as st

from glassworks.errors import OptionError
from glassworks.preference.alpaca_eval import (
    GamedRows,
    choose_penalty,
    discrete_win_rate,
    fit_l1,
    fit_mle,
    is_extreme,
    length_controlled,
    length_controlled_interval,
    length_feature,
    raw_win_rate,
    win_probabilities,
)

LENGTH = length_feature(LENGTH_1, LENGTH_2)


def synthetic(n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray, GamedRows]:
    """A judge who likes length: comparisons and two gamed baselines, drawn by seed."""
    draw = np.random.default_rng(0)
    first, second = draw.integers(200, 2000, n), draw.integers(200, 2600, n)
    hard = draw.normal(size=n)
    noise = draw.normal(size=n)
    p = 1 / (1 + np.exp(-(0.8 * np.tanh((second - first) / 600) + 0.5 * hard - 0.3 + noise)))
    gamed = GamedRows(draw.uniform(size=2 * n), draw.normal(size=2 * n), np.tile(hard, 2))
    return p, length_feature(first, second), hard, gamed


def test_the_oracle_without_penalty() -> None:
    assert float((LENGTH_1 - LENGTH_2).std(ddof=1)) == pytest.approx(280.523050, abs=1e-6)
    found = length_controlled(P, LENGTH, DIFFICULTY, kind="mle")
    assert list(found.weights.values()) == pytest.approx([-2.137464, 0.100715, -0.294211], abs=1e-6)
    assert raw_win_rate(P).value == pytest.approx(58.75, abs=1e-9)
    assert found.rate.value == pytest.approx(42.905500, abs=1e-5)


def test_figures_of_alpaca_eval_0_6_6_on_the_same_rows() -> None:
    p, length, hard, gamed = synthetic()
    # Computed by alpaca_eval.metrics.glm_winrate, version 0.6.6, with the scikit-learn that this package needs.
    assert raw_win_rate(p)[:2] == pytest.approx((47.681290, 1.768217), abs=1e-6)
    assert discrete_win_rate(p).value == pytest.approx(45.0)
    official = {"v1": (44.202295, 0.644368), "noreg": (43.435951, 0.773739), "minimal": (43.670084, 0.0)}
    for kind, figures in official.items():
        rate = length_controlled(p, length, hard, kind=kind, gamed=gamed).rate  # type: ignore[arg-type]
        assert rate[:2] == pytest.approx(figures, abs=1e-5), kind


def test_stored_preferences_and_draws() -> None:
    stored = np.array([1.0, 2.0, 1.5, 0.0, np.nan])
    p = win_probabilities(stored)
    assert p[:4].tolist() == [0.0, 1.0, 0.5, 0.5]
    assert np.isnan(p[4])
    assert raw_win_rate(p).n == 4
    assert discrete_win_rate(np.array([0.51, 0.49, 0.5, np.nan])).value == pytest.approx(50.0)
    with pytest.raises(OptionError, match="annotation 1: a preference of 2.5"):
        win_probabilities(np.array([1.0, 2.5]))
    with pytest.raises(OptionError, match="no annotation"):
        raw_win_rate(np.array([np.nan]))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_a_win_rate_and_its_mirror_sum_to_100(values: list[float]) -> None:
    p = np.array(values)
    for rate in (raw_win_rate, discrete_win_rate):
        assert rate(p).value + rate(1 - p).value == pytest.approx(100)
        assert rate(p).standard_error == pytest.approx(rate(1 - p).standard_error)


def test_swapping_the_sides_mirrors_length_control() -> None:
    found = length_controlled(P, LENGTH, DIFFICULTY, kind="mle").rate.value
    mirrored = length_controlled(1 - P, -LENGTH, DIFFICULTY, kind="mle").rate.value
    assert found + mirrored == pytest.approx(100, abs=1e-4)
    assert length_controlled(np.full(12, 0.5), LENGTH, DIFFICULTY, kind="noreg").rate.value == pytest.approx(50)


def test_the_weakest_penalty_is_almost_none_and_folds_choose_from_the_grid() -> None:
    x = np.column_stack([np.tanh(LENGTH), DIFFICULTY, np.ones(12)])
    assert fit_l1(x, P, np.ones(12), 1e4) == pytest.approx(fit_mle(x, P), abs=2e-3)
    assert np.abs(fit_l1(x, P, np.ones(12), 1e-4)).max() == 0
    assert choose_penalty(x, P, np.ones(12)) in np.logspace(-4, 4, 10)


def test_comparisons_without_a_preference_are_left_out_of_the_fit_alone() -> None:
    missing = P.copy()
    missing[3] = np.nan
    found = length_controlled(missing, LENGTH, DIFFICULTY, kind="mle")
    x = np.column_stack([np.tanh(LENGTH), DIFFICULTY, np.ones(12)])
    kept = np.arange(12) != 3
    assert list(found.weights.values()) == pytest.approx(fit_mle(x[kept], P[kept]).tolist())
    assert found.rate.n == 12


def test_the_interval_has_width_where_the_official_error_has_none() -> None:
    p, length, _, _ = synthetic()
    found = length_controlled(p, length, None, kind="minimal")
    low, high = length_controlled_interval(p, length, None, kind="minimal", penalty=found.penalty)
    assert found.rate.standard_error < 1e-9
    assert low < found.rate.value < high
    assert 3 < high - low < 12
    assert (low, high) == length_controlled_interval(p, length, None, kind="minimal", penalty=found.penalty)


def test_draws_in_which_all_are_lost_widen_the_interval(capfd: pytest.CaptureFixture[str]) -> None:
    p, length = np.array([0.0, 0, 0, 0, 0, 0, 1, 1]), length_feature(np.ones(8), np.arange(8.0))
    low, high = length_controlled_interval(p, length, None, kind="minimal", penalty=1.0)
    assert low == 0 < high < 100
    assert "class label" not in "".join(capfd.readouterr())


def test_extreme_changes() -> None:
    assert is_extreme(20, 9)
    assert not is_extreme(20, 11)
    assert is_extreme(20, 41)
    assert not is_extreme(50, 62)
    assert is_extreme(50, 62.6)


def test_refused_fits() -> None:
    with pytest.raises(OptionError, match="needs the difficulty"):
        length_controlled(P, LENGTH, None, kind="v1")
    with pytest.raises(OptionError, match="df_gamed.csv"):
        length_controlled(P, LENGTH, DIFFICULTY, kind="v1")
    with pytest.raises(OptionError, match="5 folds"):
        length_controlled(P[:4], LENGTH[:4], None, kind="minimal")
    with pytest.raises(OptionError, match="has no end"):
        length_controlled((LENGTH < 0).astype(float), LENGTH, None, kind="mle")
    assert length_feature(np.array([3, 3]), np.array([1, 1])).tolist() == [0, 0]

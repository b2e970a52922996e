"""AlpacaEval 2: how often does a judge prefer the model, and how often at equal length?

Dubois et al. 2024 (arXiv 2404.04475, section 3: length-controlled win rates as a generalised linear model). In: one
annotation a prompt, the stored preference in [1, 2] (2: the model's output won) and both outputs. Out: raw, discrete
and length-controlled win rates in percent with standard errors. The penalised fit is liblinear's, with the official
grid and folds, so official annotations give official numbers; `mle` is the same model without a penalty. Pure
functions of arrays; files are in `annotations`, the judge in `judges`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from glassworks.errors import OptionError

Floats = NDArray[np.float64]
LengthControl = Literal["v1", "noreg", "minimal", "mle"]
FOLDS, SEED = 5, 123
GRID = np.logspace(-4, 4, 10)  # scikit-learn's default of ten penalties, which the official code takes
GAMED_WEIGHT = 0.2 / 2  # a weight of 0.2 shared by the two gamed baselines


class WinRate(NamedTuple):
    """Percent of comparisons that were won, its standard error in points, and how many were judged."""

    value: float
    standard_error: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """The normal 95 % interval, cut to [0, 100]."""
        half = 1.959964 * self.standard_error
        return max(0.0, self.value - half), min(100.0, self.value + half)


class LengthControlled(NamedTuple):
    """The length-controlled win rate and the fitted weights of length, difficulty (where it is used) and constant.

    penalty: the inverse strength that the folds chose; None without a penalty.
    """

    rate: WinRate
    weights: dict[str, float]
    penalty: float | None = None


@dataclass(frozen=True)
class GamedRows:
    """Annotations of the verbose and concise baselines: preference in [0, 1], length feature before tanh, difficulty.

    Each array [rows]; the constant's feature of these rows is 0.
    """

    preference: Floats
    length: Floats
    difficulty: Floats


def win_probabilities(stored: Floats) -> Floats:
    """P(model wins) [rows] from preferences as they are stored, [1, 2] [rows]; 0 and 1.5 are draws, NaN stays NaN.

    Raises OptionError, naming the row, for other numbers.
    """
    stored = np.where(stored == 0, 1.5, np.asarray(stored, dtype=float))
    wrong = np.flatnonzero((stored < 1) | (stored > 2))
    if len(wrong):
        raise OptionError(
            f"a preference of {stored[wrong[0]]:g}, expected 1 to 2 (or 0 for a draw)", place=f"annotation {wrong[0]}"
        )
    return stored - 1


def raw_win_rate(p: Floats) -> WinRate:
    """Mean of the win probabilities [rows], NaN left out, in percent; standard error with ddof 1."""
    judged = p[~np.isnan(p)]
    if not len(judged):
        raise OptionError("no annotation has a preference", place="annotations")
    return WinRate(100 * float(judged.mean()), 100 * _standard_error(judged), len(judged))


def discrete_win_rate(p: Floats) -> WinRate:
    """As `raw_win_rate`, each comparison counted as won (p > 0.5), lost or half."""
    return raw_win_rate(np.where(np.isnan(p), np.nan, (np.sign(p - 0.5) + 1) / 2))


def length_feature(baseline_lengths: Floats, model_lengths: Floats) -> Floats:
    """(baseline - model) / standard deviation of that difference (ddof 1), before tanh; lengths [rows], characters."""
    difference = np.asarray(baseline_lengths, dtype=float) - np.asarray(model_lengths, dtype=float)
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return difference / spread if spread > 0 else np.zeros_like(difference)


def length_controlled(
    p: Floats,
    length: Floats,
    difficulty: Floats | None,
    *,
    kind: LengthControl = "v1",
    gamed: GamedRows | None = None,
) -> LengthControlled:
    """Win rate if both outputs had one length: the mean of sigma(prediction at length feature 0), in percent.

    p: win probabilities [rows], NaN is left out of the fit. length: `length_feature` [rows]. difficulty: of each
    prompt [rows]; not used by `minimal`. kind: v1 adds the gamed rows with weight 0.2; noreg, minimal and mle do
    not; mle has no penalty. The standard error is the official one: the spread of the predictions alone.
    """
    design = _design(p, length, difficulty, kind, gamed)
    if kind == "mle":
        coefficients, penalty = fit_mle(design.x, design.target), None
    else:
        penalty = choose_penalty(design.x, design.target, design.weight)
        coefficients = fit_l1(design.x, design.target, design.weight, penalty)
    predicted = special.expit(design.at_equal_length @ coefficients)
    rate = WinRate(100 * float(predicted.mean()), 100 * _standard_error(predicted), len(predicted))
    return LengthControlled(rate, dict(zip(design.names, map(float, coefficients), strict=True)), penalty)


def length_controlled_interval(
    p: Floats,
    length: Floats,
    difficulty: Floats | None,
    *,
    kind: LengthControl,
    gamed: GamedRows | None = None,
    penalty: float | None = None,
    rounds: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap 95 % interval, percent: comparisons are drawn anew and the model fitted at the chosen `penalty`.

    The official standard error is the spread of predictions; it leaves out that the fit itself is uncertain, and is 0
    where no difficulty is used. Arguments as in `length_controlled`.
    """
    generator, values = np.random.default_rng(seed), []
    for _ in range(rounds):
        at = generator.integers(0, len(p), size=len(p))
        judged = p[at][~np.isnan(p[at])]
        if not len(judged):
            continue
        if judged.min() == judged.max() and judged[0] in (0, 1):  # nothing to fit: won or lost throughout
            values.append(100 * float(judged[0]))
            continue
        design = _design(p[at], length[at], None if difficulty is None else difficulty[at], kind, gamed)
        if penalty is None:
            coefficients = _logistic(design.x, design.target, ridge=1e-3)
        else:
            coefficients = fit_l1(design.x, design.target, design.weight, penalty)
        values.append(100 * float(special.expit(design.at_equal_length @ coefficients).mean()))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


class _Design(NamedTuple):
    """What is fitted, x [rows, features] with soft targets and weights [rows], and the prompts at length feature 0."""

    names: list[str]
    x: Floats
    target: Floats
    weight: Floats
    at_equal_length: Floats


def _design(
    p: Floats, length: Floats, difficulty: Floats | None, kind: LengthControl, gamed: GamedRows | None
) -> _Design:
    check_kind(kind, difficulty, gamed)
    names, columns = ["length"], [np.tanh(length)]
    if difficulty is not None and kind != "minimal":
        names.append("difficulty")
        columns.append(np.asarray(difficulty, dtype=float))
    names.append("constant")
    features = np.column_stack([*columns, np.ones_like(length)])
    known = ~np.isnan(p)
    x, target, weight = features[known], p[known], np.ones(int(known.sum()))
    if kind == "v1" and gamed is not None:
        other = np.column_stack([np.tanh(gamed.length), gamed.difficulty, np.zeros_like(gamed.length)])
        # The gamed rows come first, which decides the folds.
        x, target = np.concatenate([other, x]), np.concatenate([gamed.preference, target])
        weight = np.concatenate([np.full(len(other), GAMED_WEIGHT), weight])
    features[:, 0] = 0
    return _Design(names, x, target, weight, features)


def fit_mle(x: Floats, target: Floats) -> Floats:
    """Weights [features] of a logistic model without intercept or penalty for soft targets; x [rows, features]."""
    found = _logistic(x, target)
    if not np.isfinite(found).all() or np.abs(found).max() > 50:
        raise OptionError(
            "the outputs' lengths decide every win, so the fit without penalty has no end",
            place="length_control", remedy="Use minimal, which is penalised.",
        )  # fmt: skip
    return found


def choose_penalty(x: Floats, target: Floats, weight: Floats) -> float:
    """The inverse strength of the L1 penalty with the least held-out log-loss; both outcomes of a row in one fold."""
    if len(x) < FOLDS:
        raise OptionError(f"{len(x)} annotations, but the penalty is chosen on {FOLDS} folds", place="annotations")
    twice, outcome, share = _twice(x, target, weight)
    group = np.tile(np.arange(len(x)), 2)
    losses = np.zeros(len(GRID))
    for train, test in GroupKFold(FOLDS).split(twice, outcome, group):
        rows = group[test]
        # One generator along the grid, as in scikit-learn's LogisticRegressionCV: the losses of near-equal penalties
        # differ by less than liblinear's tolerance, so another order of draws would choose another one.
        generator = np.random.RandomState(SEED)
        for at, c in enumerate(GRID):
            score = twice[test] @ _liblinear(twice[train], outcome[train], share[train], float(c), generator)
            # log-loss of a soft target from the score: log(1 + e^s) - p s
            losses[at] += float(np.mean(weight[rows] * (np.logaddexp(0, score) - target[rows] * score)))
    return float(GRID[int(np.argmin(losses))])


def fit_l1(x: Floats, target: Floats, weight: Floats, penalty: float) -> Floats:
    """As `fit_mle` with an L1 penalty of inverse strength `penalty`, and a weight a row [rows]."""
    return _liblinear(*_twice(x, target, weight), penalty)


def _twice(x: Floats, target: Floats, weight: Floats) -> tuple[Floats, NDArray[np.int_], Floats]:
    """A soft target as two rows: won with weight p, lost with 1 - p."""
    share = np.concatenate([target * weight, (1 - target) * weight])
    return np.concatenate([x, x]), np.repeat([1, 0], len(x)), share


def _logistic(x: Floats, target: Floats, ridge: float = 0.0) -> Floats:
    def loss(w: Floats) -> tuple[float, Floats]:
        score = x @ w
        value = np.logaddexp(0, score).sum() - target @ score + ridge * w @ w
        return float(value), x.T @ (special.expit(score) - target) + 2 * ridge * w

    found = optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-10})
    return np.asarray(found.x)


def is_extreme(raw: float, controlled: float) -> bool:
    """Whether length control moved a win rate (percent) so far that the fit may have failed."""
    too_low = controlled < min(0.75 * raw, raw - 10)
    too_high = controlled > max(raw + 0.25 * (100 - raw), raw + 10)
    return too_low or too_high


def _liblinear(
    x: Floats, outcome: NDArray[np.int_], weight: Floats, c: float, generator: int | np.random.RandomState = SEED
) -> Floats:
    model = LogisticRegression(l1_ratio=1, solver="liblinear", fit_intercept=False, C=c, random_state=generator)
    coefficients: Floats = model.fit(x, outcome, sample_weight=weight).coef_[0]
    return coefficients


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def check_kind(kind: LengthControl, difficulty: Floats | None, gamed: GamedRows | None) -> None:
    """Refuse a kind of length control whose data is not there. Raises OptionError."""
    if kind in ("v1", "noreg") and difficulty is None:
        raise OptionError(
            f"'{kind}' needs the difficulty of each prompt", place="length_control",
            remedy="Give df_gamed.csv or instruction_difficulty.csv with --difficulty, or use minimal.",
        )  # fmt: skip
    if kind == "v1" and gamed is None:
        raise OptionError(
            "'v1' needs the annotations of the gamed baselines", place="length_control",
            remedy="Give df_gamed.csv with --difficulty, or use noreg.",
        )  # fmt: skip

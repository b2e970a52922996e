"""How sure is a measured figure, and do two systems differ? Intervals, paired tests, agreement, ranking.

Inputs: counts or plain sequences of numbers, one a question. Outputs: named tuples of plain floats. Every
function is deterministic given its seed. Proportions: Wilson (1927). Means: bias-corrected and accelerated
bootstrap (Efron 1987). Paired differences: sign-flip permutation. Paired yes/no: exact McNemar. Rank
correlation: Fisher's z with Bonett and Wright's (2000) error. AUC: DeLong et al. (1988). Kappa: Fleiss, Cohen and
Everitt (1969). Several tests: Holm (1979). scipy computes what it has. Knows nothing of what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from glassworks.errors import OptionError, check_at_least

Numbers = Sequence[float] | NDArray[np.floating]


class Interval(NamedTuple):
    """The two ends of a confidence interval, low <= high."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A figure, its confidence interval and how many observations it rests on."""

    value: float
    interval: Interval
    n: int


class PairedResult(NamedTuple):
    """Mean of a - b over n pairs, its interval, the two-sided p-value; exact: every sign pattern was counted."""

    difference: float
    interval: Interval
    p_value: float
    n: int
    exact: bool


class McNemarResult(NamedTuple):
    """Of n pairs, how many only the first got right, how many only the second, and the exact two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float
    n: int


def proportion(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Share of successes with Wilson's score interval. 0 <= successes <= n, n >= 1. Raises OptionError."""
    _check_confidence(confidence)
    if n < 1 or not 0 <= successes <= n:
        raise OptionError(f"expected 0 <= successes <= n and n >= 1, received {successes} of {n}", place="successes")
    low, high = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, Interval(float(low), float(high)), int(n))


def bootstrap_mean(values: Numbers, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean of values [n] with a BCa bootstrap interval.

    Equal values have an interval of no width; one value says nothing of its spread, so its interval is infinite.
    Raises OptionError for no value or one that is not finite.
    """
    _check_confidence(confidence)
    numbers = _finite(values, "values")
    mean = float(numbers.mean())
    return Estimate(mean, _mean_interval(numbers, confidence, resamples, seed), len(numbers))


def paired_difference(
    a: Numbers, b: Numbers, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> PairedResult:
    """Mean of a - b over pairs [n]: BCa bootstrap interval and sign-flip permutation p-value, two-sided.

    All 2^n sign patterns are counted where there are at most `resamples`; otherwise that many are drawn and the
    observed one is counted among them, so that p is never 0. Raises OptionError.
    """
    _check_confidence(confidence)
    first, second = _paired(a, b)
    differences = first - second
    interval = _mean_interval(differences, confidence, resamples, seed)
    p_value, exact = _sign_flip_p_value(differences, resamples, seed)
    return PairedResult(float(differences.mean()), interval, p_value, len(differences), exact)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemarResult:
    """Do two systems differ in which of the same n questions they get right? Exact: binomial on discordant pairs.

    Raises OptionError for lists of different length or none.
    """
    a, b = _paired([float(bool(x)) for x in first], [float(bool(x)) for x in second])
    only_first, only_second = int((a > b).sum()), int((b > a).sum())
    discordant = only_first + only_second
    p_value = float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return McNemarResult(only_first, only_second, p_value, len(a))


def spearman(a: Numbers, b: Numbers, *, confidence: float = 0.95) -> Estimate:
    """Rank correlation of pairs [n], in [-1, 1], ties at their mean rank.

    Interval: Fisher's z with the error sqrt((1 + r^2 / 2) / (n - 3)). Raises OptionError for n < 4 or constant
    values, which have no ranks to correlate.
    """
    _check_confidence(confidence)
    first, second = _paired(a, b)
    if len(first) < 4:
        raise OptionError(f"a rank correlation needs at least 4 pairs, received {len(first)}", place="a")
    for name, values in (("a", first), ("b", second)):
        if np.all(values == values[0]):
            raise OptionError("all values are equal, so there is no rank correlation", place=name)
    r = float(stats.spearmanr(first, second).statistic)
    if abs(r) >= 1:
        return Estimate(math.copysign(1.0, r), Interval(*[math.copysign(1.0, r)] * 2), len(first))
    half = _normal_quantile(confidence) * math.sqrt((1 + r * r / 2) / (len(first) - 3))
    z = math.atanh(r)
    return Estimate(r, Interval(math.tanh(z - half), math.tanh(z + half)), len(first))


def holm(p_values: Numbers) -> list[float]:
    """p-values [tests] adjusted so that the chance of any false alarm among them keeps the level (Holm)."""
    p = _finite(p_values, "p_values")
    if ((p < 0) | (p > 1)).any():
        raise OptionError("p-values lie in [0, 1]", place="p_values")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = steps
    return [float(value) for value in adjusted]


def auc(scores: Numbers, labels: Sequence[bool], *, confidence: float = 0.95) -> Estimate:
    """Chance that a positive scores above a negative (ties count half), in [0, 1], from scores and labels [n].

    Interval: DeLong, cut to [0, 1]. Where its variance is 0 (separation without a mistake) that interval would
    have no width, so Hanley and McNeil's variance is solved as a score interval instead (Newcombe 2006).
    Raises OptionError where one class is missing.
    """
    _check_confidence(confidence)
    values, truth = _paired(scores, [float(bool(label)) for label in labels])
    positive, negative = values[truth == 1], values[truth == 0]
    if not len(positive) or not len(negative):
        raise OptionError("both classes are needed", place="labels")
    m, n = len(positive), len(negative)
    together = stats.rankdata(np.concatenate([positive, negative]))
    wins = (together[:m] - stats.rankdata(positive)) / n  # share of negatives below each positive
    losses = 1 - (together[m:] - stats.rankdata(negative)) / m  # share of positives above each negative
    area = float(wins.mean())
    spread = (wins.var(ddof=1) / m if m > 1 else 0.0) + (losses.var(ddof=1) / n if n > 1 else 0.0)
    if spread == 0 or m == 1 or n == 1:
        return Estimate(area, _score_interval(area, m, n, confidence), m + n)
    half = _normal_quantile(confidence) * math.sqrt(spread)
    return Estimate(area, Interval(max(0.0, area - half), min(1.0, area + half)), m + n)


def cohen_kappa(a: Sequence[object], b: Sequence[object], *, confidence: float = 0.95) -> Estimate:
    """Agreement of two raters on n items beyond chance, at most 1; interval from the large-sample error.

    a, b: one category an item. Raises OptionError where both raters use one and the same category throughout,
    for then chance explains everything.
    """
    _check_confidence(confidence)
    if len(a) != len(b) or not a:
        raise OptionError(f"expected pairs of ratings, received {len(a)} and {len(b)}", place="a")
    names = {category: i for i, category in enumerate(dict.fromkeys([*a, *b]))}
    table = np.zeros((len(names), len(names)))
    np.add.at(table, ([names[x] for x in a], [names[x] for x in b]), 1 / len(a))
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    agreement, chance = float(np.trace(table)), float(rows @ columns)
    if chance >= 1 - 1e-12:
        raise OptionError("both raters used one category only, so agreement beyond chance is undefined", place="a")
    kappa = (agreement - chance) / (1 - chance)
    diagonal = np.diag(table)
    same = float((diagonal * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    crossed = table * (columns[:, None] + rows[None, :]) ** 2
    other = (1 - kappa) ** 2 * float(crossed.sum() - np.trace(crossed))
    variance = (same + other - (kappa - chance * (1 - kappa)) ** 2) / (len(a) * (1 - chance) ** 2)
    half = _normal_quantile(confidence) * math.sqrt(max(variance, 0.0))
    return Estimate(kappa, Interval(max(-1.0, kappa - half), min(1.0, kappa + half)), len(a))


def _sign_flip_p_value(differences: NDArray[np.float64], resamples: int, seed: int) -> tuple[float, bool]:
    """Two-sided p of the mean under random signs, and whether all patterns were counted."""
    moving = differences[differences != 0]  # flipping the sign of 0 changes nothing
    if not len(moving):
        return 1.0, True
    observed = abs(float(moving.sum()))
    # Sums that are equal in exact arithmetic must count as equal.
    threshold = observed - 1e-12 * float(np.abs(moving).sum())
    exact = 2.0 ** len(moving) <= resamples
    if exact:
        patterns = (np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving))) & 1
        return float((np.abs((1 - 2 * patterns) @ moving) >= threshold).mean()), True
    generator = np.random.default_rng(seed)
    count, block = 0, max(1, 4_000_000 // len(moving))
    for start in range(0, resamples, block):
        size = (min(block, resamples - start), len(moving))
        signs = 1 - 2 * generator.integers(0, 2, size=size, dtype=np.int8)
        count += int((np.abs(signs @ moving) >= threshold).sum())
    return (count + 1) / (resamples + 1), False


def _mean_interval(values: NDArray[np.float64], confidence: float, resamples: int, seed: int) -> Interval:
    check_at_least(1, resamples=resamples)
    if len(values) == 1:
        return Interval(-math.inf, math.inf)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return Interval(*[float(values.mean())] * 2)
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, 4_000_000 // len(values)),
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def _score_interval(area: float, m: int, n: int, confidence: float) -> Interval:
    """The areas that the observed one does not reject, with Hanley and McNeil's variance at each."""
    z, middle = _normal_quantile(confidence), (m + n) / 2 - 1

    def gap(other: float) -> float:
        pairs = 1 + middle * ((1 - other) / (2 - other) + other / (1 + other))
        return (area - other) ** 2 - z**2 * other * (1 - other) * pairs / (m * n)

    low = 0.0 if area <= 0 else float(optimize.brentq(gap, 0.0, area))
    high = 1.0 if area >= 1 else float(optimize.brentq(gap, area, 1.0))
    if area >= 1:
        low = float(optimize.brentq(gap, 0.0, 1 - 1e-12))
    if area <= 0:
        high = float(optimize.brentq(gap, 1e-12, 1.0))
    return Interval(low, high)


def _normal_quantile(confidence: float) -> float:
    return float(stats.norm.ppf(0.5 + confidence / 2))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise OptionError(f"expected a number between 0 and 1, received {confidence}", place="confidence")


def _finite(values: Numbers, place: str) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise OptionError(f"expected a list of at least one number, received shape {numbers.shape}", place=place)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise OptionError(f"entry {wrong[0]} is {numbers[wrong[0]]}, expected a finite number", place=place)
    return numbers


def _paired(a: Numbers, b: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = _finite(a, "a"), _finite(b, "b")
    if len(first) != len(second):
        raise OptionError(f"pairs are expected, received {len(first)} and {len(second)} values", place="b")
    return first, second

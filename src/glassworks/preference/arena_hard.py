"""Arena-Hard: what share of games does a model win against the baseline, with and without its style?

Li et al. 2024 (arXiv 2406.11939). In: for each prompt two games with swapped sides, each a verdict such as "A>>B" or
None. Out: v0.1, a Bradley-Terry rating on the Elo scale (baseline 1000) and its win rate; v2.0, the mean score; v2.0
with style control, Bradley-Terry with style differences as covariates. A strong verdict counts `weight` times. The
official style control for "length" or "markdown" alone slices the columns that name the models; here the columns of
the features asked for are kept beside them. Pure functions of arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from glassworks.errors import OptionError
from glassworks.foundations.statistics import Interval

Floats = NDArray[np.float64]
Resample = Literal["battles", "prompts"]
VERDICT = re.compile(r"\[\[([AB<>=]+)\]\]")
STRONG = 3
ROUNDS, SEED = 100, 42
FEATURES = ("length", "header", "list", "bold")

# P(side A is better), and whether the verdict is a strong one
_VERDICTS = {
    "A>>B": (1.0, True), "A>B": (1.0, False), "A=B": (0.5, False), "B=A": (0.5, False), "A<B": (0.0, False),
    "A<<B": (0.0, True), "B>A": (0.0, False), "B>>A": (0.0, True), "B<A": (1.0, False), "B<<A": (1.0, True),
}  # fmt: skip


class Battles(NamedTuple):
    """Games against the baseline, each field [games]: the prompt's number, the model's score, how often it counts."""

    prompt: NDArray[np.int_]
    score: Floats
    weight: Floats


class Tally(NamedTuple):
    """Weighted games that the model won, lost and tied, and games without a verdict."""

    wins: float
    losses: float
    ties: float
    unparsable: int


class ArenaScore(NamedTuple):
    """Win rate in [0, 1] with its interval; rating on the Elo scale, None where all games were won or all lost."""

    win_rate: float
    interval: Interval
    rating: float | None
    games: int


class Style(NamedTuple):
    """What style control looks at in an answer: its length in tokens, and counts of Markdown marks."""

    length: float
    header: float
    list: float
    bold: float


def parse_verdict(judgment: str) -> str | None:
    """The one verdict in a judge's text, None where there is none or several differ."""
    found = {match for match in VERDICT.findall(judgment) if match in _VERDICTS}
    return found.pop() if len(found) == 1 else None


def battles(games: Sequence[tuple[str | None, str | None]], *, weight: int = STRONG, whole: bool = False) -> Battles:
    """Games as rows. games: (verdict with the baseline as A, verdict with the model as A) a prompt.

    whole: leave out both games of a prompt where one has no verdict (v2.0); otherwise that game alone (v0.1).
    """
    prompts, scores, weights = [], [], []
    for number, pair in enumerate(games):
        known = [(side, _VERDICTS[verdict]) for side, verdict in enumerate(pair) if verdict in _VERDICTS]
        if whole and len(known) < len(pair):
            continue
        for side, (first, strong) in known:
            prompts.append(number)
            scores.append(first if side == 1 else 1 - first)
            weights.append(float(weight) if strong else 1.0)
    if not prompts:
        raise OptionError("no game has a verdict", place="judgments", remedy="Look at the judge's texts.")
    return Battles(np.array(prompts), np.array(scores), np.array(weights))


def tally(rows: Battles, games: int) -> Tally:
    """Weighted wins, losses and ties of `rows`, out of `games` that were played."""
    by = [float(rows.weight[rows.score == outcome].sum()) for outcome in (1.0, 0.0, 0.5)]
    return Tally(by[0], by[1], by[2], games - len(rows.score))


def rating(win_rate: float) -> float | None:
    """Elo rating of a model that wins this share against a baseline of 1000; None at 0 and 1, where it has no end."""
    return 1000 + 400 * math.log10(win_rate / (1 - win_rate)) if 0 < win_rate < 1 else None


def arena_score(
    rows: Battles, *, level: float = 0.95, rounds: int = ROUNDS, seed: int = SEED, resample: Resample = "battles"
) -> ArenaScore:
    """Weighted share of games won, ties half: for one model and the baseline, what Bradley-Terry fits.

    level: 0.95 in v0.1, 0.9 in v2.0. resample: battles repeats the official bootstrap, in which a strong verdict is
    three games of their own; prompts draws prompts with all their games, since two games of a prompt are not two
    independent observations: an honest and wider interval.
    """
    value = float(np.average(rows.score, weights=rows.weight))
    draws = [float(np.average(rows.score, weights=w)) for w in resampled_weights(rows, rounds, seed, resample)]
    ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return ArenaScore(value, Interval(float(ends[0]), float(ends[1])), rating(value), len(rows.score))


def resampled_weights(rows: Battles, rounds: int, seed: int, resample: Resample) -> list[Floats]:
    """The weight of each game [games] in each bootstrap round; a round in which no game is drawn cannot occur."""
    generator = np.random.default_rng(seed)
    if resample == "battles":
        total = round(float(rows.weight.sum()))
        return list(generator.multinomial(total, rows.weight / rows.weight.sum(), size=rounds).astype(float))
    names, at = np.unique(rows.prompt, return_inverse=True)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=rounds)
    return list(drawn[:, at] * rows.weight)


def bradley_terry(design: Floats, score: Floats, weight: Floats) -> Floats:
    """Log-odds weights [columns] that make scores most likely: sigma(design @ w); design [games, columns].

    A column a model (+1 where it plays first, -1 second) gives ratings; further columns are covariates. The least
    norm is taken where several fit (a tiny ridge), so a model that won everything has a large, finite weight.
    """

    def loss(w: Floats) -> tuple[float, Floats]:
        logit = design @ w
        value = weight @ (np.logaddexp(0, logit) - score * logit) + 1e-8 * w @ w
        return float(value), design.T @ (weight * (special.expit(logit) - score)) + 2e-8 * w

    start = np.zeros(design.shape[1])
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9})
    return np.asarray(found.x)


def style_of(text: str) -> Style:
    """Length in words and counts of Markdown headers, list items and bold passages outside code blocks."""
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    return Style(
        float(len(text.split())),
        float(len(re.findall(r"^#{1,6}\s", prose, flags=re.M))),
        float(len(re.findall(r"^\s*(?:\d+\.|[-*+])\s", prose, flags=re.M))),
        float(len(re.findall(r"\*\*[^*\n]+\*\*|__[^_\n]+__", prose))),
    )


def style_differences(model: Sequence[Style], baseline: Sequence[Style]) -> Floats:
    """Standardised style differences [games, 4]: relative length, then densities of headers, list items and bold.

    Length: difference over sum. A density is count / (length + 1), its difference over (sum + 1). Each column has
    mean 0 and standard deviation 1 (ddof 1); a column without spread is 0.
    """
    ours, theirs = np.asarray(model, dtype=float), np.asarray(baseline, dtype=float)
    length = (ours[:, 0] - theirs[:, 0]) / np.maximum(ours[:, 0] + theirs[:, 0], 1)
    density_m, density_b = (side[:, 1:] / (side[:, :1] + 1) for side in (ours, theirs))
    columns = np.column_stack([length, (density_m - density_b) / (density_m + density_b + 1)])
    spread = columns.std(axis=0, ddof=1) if len(columns) > 1 else np.zeros(4)
    return np.where(spread > 0, (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1), 0.0)


def style_controlled(
    models: Sequence[str],
    rows: Battles,
    styles: Floats,
    *,
    features: Sequence[str] = FEATURES,
    rounds: int = ROUNDS,
    seed: int = SEED,
    resample: Resample = "battles",
) -> tuple[dict[str, ArenaScore], Mapping[str, float]]:
    """Win rate of each model at equal style, and the weight of each feature.

    models: who plays each game [games]. styles: `style_differences` [games, 4]; features: which of its columns are
    held equal. The baseline's rating is 0. The interval is the 5th to the 95th percentile, as in v2.0.
    """
    unknown = set(features) - set(FEATURES)
    if unknown or not features:
        raise OptionError(f"expected some of {', '.join(FEATURES)}, received {list(features)}", place="style")
    names = sorted(set(models))
    who = np.array([[float(name == model) for name in names] for model in models])
    design = np.column_stack([who, styles[:, [FEATURES.index(name) for name in features]]])
    fitted = bradley_terry(design, rows.score, rows.weight)
    draws = [bradley_terry(design, rows.score, w) for w in resampled_weights(rows, rounds, seed, resample)]
    rates = special.expit(np.array(draws)[:, : len(names)])
    low, high = np.quantile(rates, [0.05, 0.95], axis=0)
    scores = {}
    for at, name in enumerate(names):
        value = float(special.expit(fitted[at]))
        played = sum(model == name for model in models)
        ends = Interval(min(float(low[at]), value), max(float(high[at]), value))
        scores[name] = ArenaScore(value, ends, rating(value), played)
    return scores, dict(zip(features, map(float, fitted[len(names) :]), strict=True))

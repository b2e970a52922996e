"""Arena-Hard: the oracle of the spec, Bradley-Terry against its closed form, and style control that finds style."""

from __future__ import annotations

import numpy as np
import pytest
from cases.win_rate_oracles import GAMES
from hypothesis import given
from hypothesis import strategies as st

from glassworks.errors import OptionError
from glassworks.preference.arena_hard import (
    Style,
    arena_score,
    battles,
    bradley_terry,
    parse_verdict,
    rating,
    resampled_weights,
    style_controlled,
    style_differences,
    style_of,
    tally,
)

VERDICTS = st.sampled_from(["A>>B", "A>B", "A=B", "B>A", "B>>A"])


def test_the_oracle() -> None:
    rows = battles(GAMES)
    assert tally(rows, 12) == (9, 8, 2, 1)
    score = arena_score(rows)
    assert score.win_rate == pytest.approx(0.526316, abs=1e-6)
    assert score.rating == pytest.approx(1018.303, abs=1e-3)
    assert score.interval.low < score.win_rate < score.interval.high


def test_version_2_leaves_out_a_prompt_with_a_missing_verdict() -> None:
    assert tally(battles(GAMES, whole=True), 12) == (8, 8, 2, 2)
    assert set(battles(GAMES, whole=True).prompt.tolist()) == {0, 1, 2, 3, 4}


@given(st.lists(st.tuples(VERDICTS, VERDICTS), min_size=1, max_size=20))
def test_swapping_model_and_baseline_mirrors_the_score(games: list[tuple[str, str]]) -> None:
    mirrored = [(second, first) for first, second in games]
    assert arena_score(battles(games), rounds=2).win_rate == pytest.approx(
        1 - arena_score(battles(mirrored), rounds=2).win_rate
    )


def test_bradley_terry_equals_the_closed_form_and_the_elo_scale() -> None:
    rows = battles(GAMES)
    weight = bradley_terry(np.ones((len(rows.score), 1)), rows.score, rows.weight)
    assert 1 / (1 + np.exp(-weight[0])) == pytest.approx(arena_score(rows, rounds=1).win_rate, abs=1e-6)
    assert 1000 + 400 / np.log(10) * weight[0] == pytest.approx(rating(10 / 19), abs=1e-3)


def test_bradley_terry_recovers_the_ratings_of_three_models() -> None:
    truth = np.array([0.8, -0.3])
    design = np.array([[1.0, 0], [0, 1], [1, -1]])
    score = 1 / (1 + np.exp(-design @ truth))
    assert bradley_terry(design, score, np.ones(3)) == pytest.approx(truth, abs=1e-4)


def test_who_wins_everything_has_no_rating() -> None:
    assert (rating(1.0), rating(0.0), rating(0.5)) == (None, None, 1000)
    score = arena_score(battles([("B>A", "A>B")] * 3))
    assert (score.win_rate, score.rating) == (1.0, None)


def test_resampling_battles_or_prompts() -> None:
    rows = battles(GAMES)
    for weights in resampled_weights(rows, 20, 0, "battles"):
        assert weights.sum() == rows.weight.sum()
    for weights in resampled_weights(rows, 20, 0, "prompts"):
        times = weights / rows.weight
        for prompt in range(6):  # the games of a prompt come together
            assert len(set(times[rows.prompt == prompt].tolist())) == 1
    wide = arena_score(rows, rounds=400, resample="prompts").interval
    narrow = arena_score(rows, rounds=400).interval
    assert wide.high - wide.low > narrow.high - narrow.low


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("so [[A>>B]].", "A>>B"),
        ("[[B>A]] ... [[B>A]]", "B>A"),
        ("[[A>B]] or [[B>A]]", None),
        ("no verdict", None),
        ("[[A<>B]]", None),
    ],
)
def test_verdicts_in_a_text(text: str, verdict: str | None) -> None:
    assert parse_verdict(text) == verdict


def test_style_counts() -> None:
    text = "# Head\n\n- one **bold**\n1. two\n\n```\n# no head\n- no item\n```\n"
    assert style_of(text) == Style(len(text.split()), 1, 2, 1)


def test_style_differences_by_hand_and_standardised() -> None:
    ours = [Style(20, 2, 0, 0), Style(10, 0, 0, 0), Style(5, 1, 0, 0)]
    theirs = [Style(10, 0, 0, 0), Style(10, 0, 0, 0), Style(10, 0, 0, 0)]
    found = style_differences(ours, theirs)
    raw = np.array([1 / 3, 0, -1 / 3])
    assert found[:, 0] == pytest.approx((raw - raw.mean()) / raw.std(ddof=1))
    header = np.array([(2 / 21) / (1 + 2 / 21), 0, (1 / 6) / (1 + 1 / 6)])
    assert found[:, 1] == pytest.approx((header - header.mean()) / header.std(ddof=1))
    assert found[:, 2:].tolist() == [[0, 0]] * 3


def style_games(n: int = 300) -> tuple[list[str], list[tuple[str, str]], np.ndarray]:
    """Two equal models; the judge prefers the longer answer, and model `long` is long more often."""
    draw = np.random.default_rng(0)
    models = ["long" if at % 2 else "short" for at in range(n)]
    length = np.array([draw.normal(0.8 if name == "long" else -0.8) for name in models])
    wins = draw.uniform(size=n) < 1 / (1 + np.exp(-2 * length))
    games = [("B>A", "A>B") if win else ("A>B", "B>A") for win in wins]
    styles = np.column_stack([(length - length.mean()) / length.std(ddof=1), draw.normal(size=(n, 3))])
    return models, games, styles


@pytest.mark.parametrize("features", [("length",), ("length", "header", "list", "bold")])
def test_style_control_takes_away_what_length_alone_won(features: tuple[str, ...]) -> None:
    models, games, styles = style_games()
    rows = battles(games)
    who = [models[at] for at in rows.prompt]
    raw = {
        name: arena_score(battles([g for g, m in zip(games, models, strict=True) if m == name]), rounds=2).win_rate
        for name in ("long", "short")
    }
    held, weights = style_controlled(who, rows, styles[rows.prompt], features=features, rounds=10)
    assert raw["long"] - raw["short"] > 0.3
    assert abs(held["long"].win_rate - held["short"].win_rate) < 0.15
    assert weights["length"] > 1
    assert list(weights) == list(features)


def test_markdown_alone_does_not_touch_length() -> None:
    models, games, styles = style_games()
    rows = battles(games)
    who = [models[at] for at in rows.prompt]
    held, weights = style_controlled(who, rows, styles[rows.prompt], features=("header", "list", "bold"), rounds=2)
    assert held["long"].win_rate - held["short"].win_rate > 0.3
    assert "length" not in weights


def test_refusals() -> None:
    with pytest.raises(OptionError, match="no game has a verdict"):
        battles([(None, None)])
    with pytest.raises(OptionError, match="length, header, list, bold"):
        style_controlled(["m"], battles([("A>B", "B>A")]), np.zeros((2, 4)), features=("lenght",))

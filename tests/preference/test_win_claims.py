"""Claims of a win rate: intervals hold the value, samples are marked where they were judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import Interval
from glassworks.preference.alpaca_eval import LengthControlled, WinRate, length_controlled, length_feature
from glassworks.preference.arena_hard import ArenaScore
from glassworks.preference.win_claims import game_sample, grade_sample, record_alpaca, record_arena


def record(out: str) -> None:
    """Stands for a verb."""


def test_alpaca_claims_and_samples(tmp_path: Path) -> None:
    p = np.array([0.9, 0.2, np.nan, 0.6, 0.8, 0.4, 0.7])
    rows = [{"instruction": str(n), "output_1": "a", "output_2": "b" * n} for n in range(7)]
    controlled = length_controlled(p, length_feature(np.ones(7), np.arange(7.0)), None, kind="mle")
    with Run.start(tmp_path / "run", record, {}) as run:
        record_alpaca(run, rows, p, controlled, (99.0, 100.0), "sha", "minimal")
    by = {item.metric: item for item in run.evidence}
    assert by["win_rate"].n == 6
    assert by["length_controlled_win_rate"].interval == (controlled.rate.value, 100.0)
    assert {item.baseline for item in run.evidence} == {50.0}
    samples = [json.loads(line) for line in (run.path / "samples.jsonl").read_text().splitlines()]
    assert [row["correct"] for row in samples] == [True, False, None, True, True, False, True]


def test_a_fit_without_weights_is_no_claim(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    p = np.array([1.0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0])
    rows = [{"instruction": str(n), "output_1": "a", "output_2": "b" * n} for n in range(12)]
    empty = LengthControlled(WinRate(50.0, 0.0, 12), {"length": 0.0, "constant": 0.0}, 1e-4)
    with Run.start(tmp_path / "run", record, {}) as run:
        record_alpaca(run, rows, p, empty, (50.0, 50.0), "minimal", "sha")
    assert [item.metric for item in run.evidence] == ["win_rate", "discrete_win_rate"]
    assert "no rate at equal length" in caplog.text


def test_a_model_without_a_finite_rating_has_no_rating_claim(tmp_path: Path) -> None:
    scores = {
        "best": ArenaScore(1.0, Interval(1.0, 1.0), None, 4),
        "mine": ArenaScore(0.5, Interval(0.2, 0.7), 1000, 4),
    }
    with Run.start(tmp_path / "run", record, {}) as run:
        record_arena(run, scores, "setting", 42, "sha")
    assert [(item.metric, item.value) for item in run.evidence] == [
        ("arena_win_rate", 100.0), ("arena_win_rate", 50.0), ("arena_rating", 1000),
    ]  # fmt: skip
    assert len({item.id for item in run.evidence}) == 3


def test_samples_of_games_and_grades() -> None:
    row = {"uid": "u", "model": "m", "games": [None, {"score": "A>B", "judgment": "why"}]}
    assert game_sample(row)["judgments"] == ["", "why"]
    asked = {"7": {"turns": ["q1"]}}
    graded = {"question_id": 7, "turn": 1, "model": "m", "score": 3, "judgment": "ok"}
    assert grade_sample(graded, asked)["question"] == "q1"
    assert grade_sample({**graded, "turn": 2}, asked)["question"] == "question 7, turn 2"

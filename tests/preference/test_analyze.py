"""The analysis of a checkpoint: equal to a plain computation; a relative reward asks for its start; early errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cases.aligned_runs import preference_checkpoint, preference_rows
from cases.preference_pairs import padded_log_probs

from glassworks.errors import OptionError, UnknownName
from glassworks.foundations.models import load_model, load_tokenizer
from glassworks.preference.analyze import WORST, prefs_analyze
from glassworks.preference.pairs import PairFormat, read_pairs, tokenize_pairs


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [preference_checkpoint(tmp_path_factory.mktemp("model"), seed) for seed in (0, 7)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return preference_rows(tmp_path_factory.mktemp("data") / "pairs.jsonl", 12)


def test_accuracies_equal_a_plain_computation(models: list[str], data: str, tmp_path: Path) -> None:
    run = prefs_analyze(models[0], data, out=str(tmp_path / "run"))
    found = {item.metric: item for item in run.evidence}
    pairs, _ = tokenize_pairs(read_pairs(data)[0], load_tokenizer(models[0]), PairFormat())
    model = load_model(models[0], device="cpu", dtype="float32")
    means = [
        padded_log_probs(model, pairs, side) / torch.tensor([len(pair[side]) for pair in pairs]) for side in (1, 2)
    ]
    expected = float((means[0] > means[1]).float().mean())
    assert found["likelihood_accuracy"].value == pytest.approx(expected)
    assert found["reward_accuracy"].value == pytest.approx(expected)  # SimPO's reward is the mean
    assert "margin_gain" not in found
    worst = [json.loads(line) for line in (run.path / WORST).read_text().splitlines()]
    margins = [row["margin"] for row in worst]
    assert margins == sorted(margins)
    assert margins[0] == pytest.approx(2 * float((means[0] - means[1]).min()), abs=1e-3)
    assert {path.name for path in (run.path / "figures").iterdir()} >= {"reward_margins.svg", "likelihood.svg"}


def test_a_reference_adds_what_changed(models: list[str], data: str, tmp_path: Path) -> None:
    run = prefs_analyze(models[1], data, models[0], str(tmp_path / "run"), "dpo", {"beta": 0.1}, limit=6)
    found = {item.metric: item for item in run.evidence}
    assert found["reward_accuracy"].n == 6
    assert found["margin_gain"].interval is not None
    same = prefs_analyze(models[0], data, models[0], str(tmp_path / "same"), "dpo", limit=6)
    unchanged = {item.metric: item for item in same.evidence}
    assert unchanged["margin_gain"].value == pytest.approx(0, abs=1e-6)
    assert unchanged["reward_accuracy"].value == 0.0  # a tie counts as wrong


def test_refusals_come_before_any_model(models: list[str], data: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="reference: the implicit reward of kto is relative"):
        prefs_analyze("no/model", data, out=str(tmp_path / "a"), method="kto")
    with pytest.raises(OptionError, match="limit"):
        prefs_analyze("no/model", data, out=str(tmp_path / "b"), limit=-1)
    with pytest.raises(UnknownName, match="simpo"):
        prefs_analyze("no/model", data, out=str(tmp_path / "c"), method="simp")

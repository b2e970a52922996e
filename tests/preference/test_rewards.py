"""Held-out figures from pairs whose answers can be counted by eye."""

from __future__ import annotations

import pytest
import torch
from cases.preference_pairs import padded_log_probs, token_pairs
from cases.tiny_models import tiny_model

from glassworks.preference.losses import PairLogProbs, settings_of
from glassworks.preference.rewards import held_out_log_probs, margin_figure, reward_evidence, rewards_of

SIMPO = settings_of("simpo", {"beta": 2.0, "gamma": 1.0})


def pairs(chosen: list[float], rejected: list[float]) -> PairLogProbs:
    lengths = torch.tensor([2, 4, 5, 8, 10]), torch.tensor([1, 2, 4, 2, 5])
    return PairLogProbs(torch.tensor(chosen), torch.tensor(rejected), *lengths)


def test_figures_of_five_pairs() -> None:
    before = rewards_of(pairs([-2.0, -4.0, -5.0, -8.0, -10.0], [-1.1, -1.9, -4.0, -2.2, -5.0]), "simpo", SIMPO)
    after = rewards_of(pairs([-1.0, -2.0, -5.0, -4.0, -10.0], [-1.1, -2.4, -4.0, -2.2, -5.0]), "simpo", SIMPO)
    found = {item.metric: item for item in reward_evidence(before, after, "simpo")}
    assert found["reward_accuracy"].value == pytest.approx(0.6)  # ties of pairs 3 and 5 count as wrong
    assert found["likelihood_accuracy"].baseline == pytest.approx(0.4)
    assert found["likelihood_accuracy_gain"].value == pytest.approx(0.2)
    assert found["reward_likelihood_agreement"].value == 1.0
    assert found["chosen_log_prob_change"].value == pytest.approx((0.5 + 0.5 + 0 + 0.5 + 0) / 5)
    assert found["length_correlation"].n == 10
    assert after.margins[0] == pytest.approx(2 * (-0.5 + 1.1))


def test_log_probs_of_held_out_pairs_keep_the_start_as_reference() -> None:
    data = token_pairs(4)
    start = held_out_log_probs(tiny_model("llama"), data)
    later = held_out_log_probs(tiny_model("llama", seed=5), data, start)
    assert later.reference_chosen is not None
    torch.testing.assert_close(later.reference_chosen, start.chosen)
    expected = padded_log_probs(tiny_model("llama", seed=5), data, 2).float()
    torch.testing.assert_close(later.rejected, expected, rtol=1e-5, atol=1e-5)
    assert later.chosen_lengths.tolist() == [len(pair.chosen_ids) for pair in data]


def test_the_margin_figure_marks_the_target() -> None:
    one = rewards_of(pairs([-2.0, -4.0, -5.0, -8.0, -10.0], [-1.1, -1.9, -4.0, -2.2, -5.0]), "simpo", SIMPO)
    axes = margin_figure(one, one, 1.0).axes[0]
    assert any(text.get_text() == "target margin 1" for text in axes.texts)

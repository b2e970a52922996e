"""Oracle numbers of divergences and differences."""

import pytest
import torch

from glassworks.circuits.objectives import by_example, divergence, logit_difference, probability_difference, restricted


def test_divergence_is_from_the_full_model_to_the_circuit() -> None:
    p, q = (torch.tensor([values]).log() for values in ((0.7, 0.2, 0.1), (0.5, 0.25, 0.25)))
    assert float(divergence(p, q)) == pytest.approx(0.0992728, abs=1e-6)
    assert float(divergence(q, p)) == pytest.approx(0.1166225, abs=1e-6)


def test_probability_difference_of_four_years() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    assert float(probability_difference(logits, torch.tensor([1]))) == pytest.approx(0.6)
    assert float(probability_difference(logits, torch.tensor([1]), within=1)) == pytest.approx(0.2)


def test_logit_difference_with_and_without_a_distractor() -> None:
    logits = torch.tensor([[1.0, 5.0, 0.0], [1.0, 5.0, 0.0]])
    found = logit_difference(logits, torch.tensor([1, 1]), torch.tensor([0, -1]))
    assert found.tolist() == pytest.approx([4.0, 3.0])


def test_means_are_over_tokens_then_examples() -> None:
    rows, weights = torch.tensor([0, 0, 1]), torch.tensor([0.25, 0.25, 0.5])
    assert by_example(torch.tensor([1.0, 3.0, 7.0]), rows, weights).tolist() == [2.0, 7.0]


def test_restriction_keeps_order_and_raises_precision() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16)
    found = restricted(logits, torch.tensor([2, 0]))
    assert found.tolist() == [[3.0, 1.0]]
    assert found.dtype == torch.float32

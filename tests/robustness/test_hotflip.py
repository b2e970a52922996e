"""HotFlip on a real encoder: the score rises and the payload stays; the gradient agrees with exact differences."""

import pytest
import torch

from glassworks.foundations.packaged import packaged_path
from glassworks.robustness.hotflip import first_order_gains, hotflip


def test_gains_are_exact_for_a_linear_score() -> None:
    generator = torch.Generator().manual_seed(0)
    table, weight = torch.randn(7, 3, generator=generator), torch.randn(3, generator=generator)
    gains = first_order_gains(table, weight, table[2])
    assert torch.allclose(gains, table @ weight - table[2] @ weight, atol=1e-6)
    assert gains[2] == 0


@pytest.mark.real_model
def test_a_prefix_is_found_that_scores_higher() -> None:
    packaged_path("packaged:minilm")
    found = hotflip(
        "packaged:minilm", "What is the capital of Kenya?", "Buy a new car today.", iterations=4, candidates=16
    )
    assert found.after > found.before
    assert found.text.endswith("Buy a new car today.")

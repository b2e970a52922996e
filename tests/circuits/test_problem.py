"""Losses do not depend on how pairs are batched or kept; ablations stand in as they say."""

import pytest
import torch
from cases.circuit_problems import random_problem, truth, written_problem

from glassworks.circuits.problem import Problem


def test_batches_padding_and_memory_change_no_loss() -> None:
    problem = random_problem()
    gates = torch.rand(problem.graph.exists.shape, dtype=torch.float64) * problem.masked.ones()
    together = problem.mean_loss(gates, batch_size=6)
    assert problem.mean_loss(gates, batch_size=1) == pytest.approx(together, rel=1e-6)  # from memory
    fresh = Problem(problem.masked, problem.pairs)
    assert fresh.mean_loss(gates, batch_size=1) == pytest.approx(together, rel=1e-6)
    fresh._cached = False
    assert fresh.mean_loss(gates, batch_size=4) == pytest.approx(together, rel=1e-6)
    assert problem.mean_loss(problem.masked.ones()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("ablation", ["interchange", "zero", "mean", "optimal"])
def test_true_circuit_under_each_ablation(ablation: str) -> None:
    problem = written_problem(16, ablation)
    kl = problem.mean_loss(truth().kept.float())
    full, empty = problem.mean_loss(problem.masked.ones()), problem.mean_loss(0 * problem.masked.ones())
    assert full == pytest.approx(0, abs=1e-5)
    assert empty > 1
    # Positions reach queries and keys through edges that interchange does not need: zero cuts them off.
    if ablation == "interchange":
        assert kl == pytest.approx(0, abs=1e-5)
    if ablation == "zero":
        assert kl > 0.01


def test_mean_ignores_padding() -> None:
    problem = random_problem("llama")
    mean = Problem(problem.masked, problem.pairs, "mean")._mean
    assert mean is not None
    rows = [problem.masked.writers(torch.tensor([pair.clean]))[:, 0] for pair in problem.pairs.pairs]
    expected = torch.cat(rows, dim=1).mean(dim=1)
    assert torch.allclose(mean[:, 0, 0], expected, atol=1e-6)


def test_logit_difference_is_minus_its_loss() -> None:
    problem = written_problem(4)
    assert problem.mean_loss(problem.masked.ones(), objective="logit_diff") == pytest.approx(-10, abs=1e-3)

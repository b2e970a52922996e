"""Losses do not depend on how pairs are batched or kept; ablations stand in as they say."""

import pytest
import torch
from cases.circuit_problems import random_problem, truth, written_problem
from cases.tiny_models import random_tokens

from glassworks.circuits.pairs import Pair, PairSet
from glassworks.circuits.problem import Problem
from glassworks.errors import OptionError


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


def test_pairs_that_are_equal_to_the_tokenizer_are_refused() -> None:
    pairs = PairSet("same", (Pair((1, 2, 3), (1, 2, 3), 3, (5,), (9,)),))
    with pytest.raises(OptionError, match="data 'same': to this tokenizer"):
        Problem(random_problem().masked, pairs)
    Problem(random_problem().masked, pairs, "zero")


def test_shared_places_are_left_out_and_change_nothing() -> None:
    masked, tokens = random_problem().masked, random_tokens(8, 10, seed=3).tolist()
    pairs = []
    for at in range(4):
        shared, size = 4 + at, 10 - at % 2
        corrupted = tokens[at][:shared] + tokens[at + 4][shared:size]
        pairs.append(Pair(tuple(tokens[at][:size]), tuple(corrupted), size, (5,), (9,)))
    assert [pair.shared for pair in pairs] == [4, 5, 6, 7]
    assert Pair((1, 2, 3), (1, 2, 3), 3, (5,), (9,)).shared == 2  # the place that is read stays
    problem = Problem(masked, PairSet("shared", tuple(pairs)))
    gates = (torch.rand(problem.graph.exists.shape, dtype=torch.float64) * masked.ones()).requires_grad_()

    def gradient(indices: list[int], leave_out: bool) -> torch.Tensor:
        prepared = problem.prepare(indices)
        assert prepared.prefix is not None
        prepared = prepared if leave_out else prepared._replace(prefix=None)
        return torch.autograd.grad(problem.loss(prepared, gates), gates)[0]

    for indices in ([0, 1, 2, 3], [2, 3], [3, 0]):  # the later ones from memory
        assert torch.allclose(gradient(indices, True), gradient(indices, False), rtol=1e-4, atol=1e-7)
    assert Problem(masked, problem.pairs, "zero").prepare([0]).prefix is None


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

"""Sweeps and single closures on the model whose circuit is known."""

import torch
from cases.circuit_problems import truth, written_problem

from glassworks.circuits.acdc import acdc, exact_patching, random_scores
from glassworks.circuits.attribution import Attribution


def test_acdc_keeps_exactly_the_known_edges_at_its_threshold() -> None:
    problem = written_problem(8)
    scores = acdc(problem, Attribution(threshold=0.01))
    assert torch.equal(scores >= 0.01, truth().kept)


def test_exact_patching_is_the_loss_of_one_closed_edge() -> None:
    problem = written_problem(8)
    scores = exact_patching(problem, Attribution(objective="kl", signed=True))
    gates = problem.masked.ones()
    row, column = truth().kept.nonzero()[1].tolist()
    gates[row, column] = 0
    assert float(scores[row, column]) == problem.mean_loss(gates) - problem.mean_loss(problem.masked.ones())
    assert torch.equal(scores.abs() > 0.01, truth().kept)


def test_random_scores_are_of_their_seed() -> None:
    problem = written_problem(2)
    assert torch.equal(random_scores(problem, 3), random_scores(problem, 3))
    assert not torch.equal(random_scores(problem, 3), random_scores(problem, 4))

"""Uniform gradient sampling finds the known circuit and repeats itself."""

import torch
from cases.circuit_problems import truth, written_problem

from glassworks.circuits.attribution import Attribution
from glassworks.circuits.uniform_gradient import uniform_gradient_sampling
from glassworks.foundations.circuit import Circuit


def test_known_edges_rise_and_idle_ones_sink() -> None:
    problem = written_problem()
    settings = Attribution(samples=80, batch_size=8)
    scores = uniform_gradient_sampling(problem, settings, seed=1)
    assert Circuit.from_scores(problem.graph, scores, 3).same_edges(truth())
    idle = scores[problem.graph.exists & ~truth().kept]
    assert float(idle.max()) < 1.0 < float(scores[truth().kept].min())
    assert torch.equal(scores, uniform_gradient_sampling(problem, settings, seed=1))

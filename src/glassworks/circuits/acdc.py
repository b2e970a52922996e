"""Scores from really closing edges: ACDC's greedy sweep, exact patching, and random scores to compare with.

ACDC (Conmy et al. 2023) goes through the edges from the output back to the input and drops each whose absence
raises the loss by less than a threshold, given what was dropped before. Exact patching closes each edge alone. One
forward pass an edge: for small graphs. Input: a `Problem`. Output: scores [writers, readers]: the rise of the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glassworks.circuits.attribution import Attribution
from glassworks.circuits.problem import Problem


@torch.no_grad()
def acdc(problem: Problem, settings: Attribution = Attribution()) -> Tensor:
    """The rise of the KL when each edge's turn came; the edges at or above the threshold are ACDC's circuit."""
    gates = problem.masked.ones()
    scores, now = torch.zeros_like(gates), problem.mean_loss(gates, batch_size=settings.batch_size)
    for column in reversed(range(problem.graph.n_readers)):
        # The nearest writers first, as in the reversed topological order of the paper.
        for row in reversed(range(int(problem.graph.visible[column]))):
            gates[row, column] = 0
            without = problem.mean_loss(gates, batch_size=settings.batch_size)
            scores[row, column] = without - now
            if without - now < settings.threshold:
                now = without
            else:
                gates[row, column] = 1
    return scores


@torch.no_grad()
def exact_patching(problem: Problem, settings: Attribution = Attribution()) -> Tensor:
    """The change of the objective when each edge alone is closed, as its size or, if `signed`, its rise."""
    gates = problem.masked.ones()
    before = problem.mean_loss(gates, objective=settings.objective, batch_size=settings.batch_size)
    scores = torch.zeros_like(gates)
    for row, column in problem.graph.exists.nonzero().tolist():
        gates[row, column] = 0
        after = problem.mean_loss(gates, objective=settings.objective, batch_size=settings.batch_size)
        scores[row, column] = after - before
        gates[row, column] = 1
    return scores if settings.signed else scores.abs()


def random_scores(problem: Problem, seed: int) -> Tensor:
    """Uniform scores [writers, readers], drawn by seed: what any method has to beat."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(problem.graph.exists.shape, generator=generator).to(problem.masked.device)

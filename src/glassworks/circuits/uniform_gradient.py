"""Uniform gradient sampling: gates drawn uniformly where an edge is undecided, scores from their gradients.

After Li and Janson 2024 (Optimal ablation for interpretability, section 3): each edge has a probability theta of
belonging. A pass draws its gate uniform in (0, 1) with probability theta (1 - theta), else 1 or 0 so that the mean
is theta; the uniform draws' gradients move theta. A sketch of that method in our gates, with a penalty on every
edge that is kept; the paper's schedule differs. Input: a `Problem`. Output: scores [writers, readers].
"""

from __future__ import annotations

import torch
from torch import Tensor

from glassworks.circuits.attribution import Attribution
from glassworks.circuits.problem import Problem

RATE = 1.0
BOUND = 4.0
PENALTY = 1e-3


def uniform_gradient_sampling(
    problem: Problem, settings: Attribution = Attribution(), *, seed: int = 0, penalty: float = PENALTY
) -> Tensor:
    """log-odds of theta after `settings.samples` passes, [writers, readers].

    penalty: what a kept edge costs, in the objective's unit.
    """
    exists = problem.graph.exists.to(problem.masked.device)
    logits = torch.full(exists.shape, 1.0, device=exists.device)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(settings.samples):
        chosen = torch.randperm(len(problem), generator=generator)[: settings.batch_size].tolist()
        noise, choice = (torch.rand(exists.shape, generator=generator).to(exists.device) for _ in range(2))
        theta = logits.clamp(-BOUND, BOUND).sigmoid()
        undecided = theta * (1 - theta)
        uniform = choice < undecided
        gates = torch.where(uniform, noise, (choice < undecided / 2 + theta).float()).requires_grad_()
        loss = problem.loss(problem.prepare(chosen), gates, "kl")
        (gradient,) = torch.autograd.grad(loss, gates)
        # Only the uniform draws estimate an edge's effect along its whole path. Steps are bounded, not normalised:
        # with Adam the penalty alone would move an idle gate as fast as any evidence.
        logits -= RATE * torch.where(uniform, gradient.clamp(-1, 1), 0) + penalty * undecided
    return logits

"""Edge scores from gradients: EAP, EAP-IG, and integrated gate gradients.

At all-open gates the gradient of a gate is <x_w - x'_w, dL/du_r>, which is Edge Attribution Patching (Syed et al.
2023) up to its sign: attribution and Edge Pruning share one code path. EAP-IG (Hanna et al. 2024) averages dL/du
while the embeddings go from the corrupted prompt's to the clean one's, times the full difference. "Gates" averages
the gate gradient along the diagonal z = 1/m .. 1. Input: a `Problem`. Output: scores [writers, readers], the larger
the more the edge matters. Knows no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassworks.circuits.objectives import Objective
from glassworks.circuits.problem import Prepared, Problem
from glassworks.errors import OptionError


@dataclass(frozen=True)
class Attribution:
    """How edges are scored from gradients, and how the other cheap methods are paid for.

    Args:
        objective: What is differentiated: kl (KL of the full model and the circuit) or logit_diff.
        steps: Points of the integral of EAP-IG.
        path: What is interpolated: inputs (EAP-IG) or all gates at once.
        signed: Rank by the signed score instead of its size.
        batch_size: Pairs of one pass.
        samples: Passes of uniform gradient sampling.
        threshold: Rise of the loss that makes ACDC keep an edge.
    """

    objective: Objective = "logit_diff"
    steps: int = 5
    path: Literal["inputs", "gates"] = "inputs"
    signed: bool = False
    batch_size: int = 32
    samples: int = 200
    threshold: float = 0.01

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.samples) < 1:
            raise OptionError("steps, batch_size and samples are at least 1", place="attribution")


def eap(problem: Problem, settings: Attribution = Attribution()) -> Tensor:
    """Edge Attribution Patching: the gate gradient with all gates open. Scores [writers, readers]."""
    gradient = torch.zeros_like(problem.masked.ones())
    for prepared in problem.batches(settings.batch_size):
        gradient += _gradient(problem, prepared, problem.masked.ones(), settings.objective) * _share(problem, prepared)
    return _importance(gradient, settings)


def eap_ig(problem: Problem, settings: Attribution = Attribution()) -> Tensor:
    """EAP-IG, or integrated gate gradients where settings.path is "gates". Scores [writers, readers]."""
    gradient, ones = torch.zeros_like(problem.masked.ones()), problem.masked.ones()
    if settings.path == "inputs" and problem.graph.embeddings == 0:
        raise OptionError(
            "the path over inputs needs embedding writers, and the graph has none", place="attribution.path",
            remedy="Use --graph.embeddings 1, or the path gates.",
        )  # fmt: skip
    for prepared in problem.batches(settings.batch_size):
        share, scoring = _share(problem, prepared) / settings.steps, None
        if settings.path == "inputs":
            scoring = _differences(problem, prepared)
        for step in range(1, settings.steps + 1):
            gates = ones * (step / settings.steps)
            if settings.path == "inputs":
                gates[problem.graph.embeddings :] = ones[problem.graph.embeddings :]
            gradient += _gradient(problem, prepared, gates, settings.objective, scoring) * share
    return _importance(gradient, settings)


def _gradient(
    problem: Problem, prepared: Prepared, gates: Tensor, objective: Objective, scoring: Tensor | None = None
) -> Tensor:
    """dL/dz [writers, readers] at `gates`."""
    gates = gates.clone().requires_grad_()
    loss = problem.loss(prepared, gates, objective, scoring)
    return torch.autograd.grad(loss, gates)[0]


@torch.no_grad()
def _differences(problem: Problem, prepared: Prepared) -> Tensor:
    """x_w - x'_w of a plain run on the clean prompts, [writers, batch, seq, hidden]."""
    clean = problem.masked.writers(prepared.batch.clean)
    return clean if prepared.stand_ins is None else clean - prepared.stand_ins


def _share(problem: Problem, prepared: Prepared) -> float:
    return len(prepared.batch.clean) / len(problem)


def _importance(gradient: Tensor, settings: Attribution) -> Tensor:
    """An edge matters if opening its gate lowers the loss: minus the gradient, or its size. [writers, readers]."""
    return -gradient if settings.signed else gradient.abs()

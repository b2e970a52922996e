"""How faithful is a circuit? What it answers beside the full model, example by example (Edge Pruning, section 4.1).

KL(full || circuit), agreement with the full model's answer, accuracy, logit difference, preference for the right of
two answers; for Greater-Than also the probability differences and Kendall's tau. Then the curve of faithfulness over
circuit sizes with its areas CPR and CMD (MIB, Mueller et al. 2025). Inputs: a `Problem` and gates. Outputs: figures
an example, [examples]. Every edge outside the circuit carries the stand-in of the problem's ablation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau
from torch import Tensor

from glassworks.circuits.objectives import by_example, divergence, logit_difference, probability_difference
from glassworks.circuits.problem import Prepared, Problem
from glassworks.errors import OptionError
from glassworks.foundations.circuit import Circuit

Values = NDArray[np.float64]
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of edges kept at which MIB measures faithfulness."""


class CurvePoint(NamedTuple):
    """A circuit of the `n_edges` highest scores: share of all edges, faithfulness (1 = full model), KL in nats."""

    share: float
    n_edges: int
    faithfulness: float
    kl: float


@torch.no_grad()
def measure_circuit(problem: Problem, gates: Tensor | None, *, batch_size: int = 64) -> dict[str, Values]:
    """Figures of each example, [examples] by name, of the model gated by `gates` [writers, readers]; None: ungated.

    kl in nats; exact_match and accuracy are shares of the example's answer tokens; logit_diff; preferred: the share
    whose logit is above the wrong answer's (NaN without one); where the task chooses among numbers also prob_diff,
    prob_diff_10, kendall_tau.
    """
    found: dict[str, list[Values]] = {}
    gates = None if gates is None else gates.to(problem.masked.ones())
    for prepared in problem.batches(batch_size):
        logits = prepared.full if gates is None else problem.logits(prepared, gates)
        for name, values in _answers(problem, prepared, logits).items():
            means = by_example(values, prepared.batch.at.rows, prepared.batch.weights)
            found.setdefault(name, []).append(means.cpu().double().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def faithfulness_curve(
    problem: Problem, circuit: Circuit, *, shares: Sequence[float] = SHARES, batch_size: int = 64
) -> list[CurvePoint]:
    """Faithfulness of the int(k N) highest-scored edges for each share k, dead edges removed first.

    f(k) = (m(k) - m(empty)) / (m(full) - m(empty)), m the mean logit difference. Raises OptionError where the
    circuit has no scores or the full model's metric equals the empty circuit's.
    """
    if circuit.scores is None:
        raise OptionError("the circuit has no scores to rank its edges by", place="circuit")
    ones = problem.masked.ones()

    def metric(gates: Tensor | None) -> tuple[float, float]:
        figures = measure_circuit(problem, gates, batch_size=batch_size)
        return float(figures["logit_diff"].mean()), float(figures["kl"].mean())

    full, empty = metric(None)[0], metric(0 * ones)[0]
    if full == empty:
        raise OptionError("the full model does no better than the empty circuit", place="data")
    points = []
    for share in shares:
        count = int(share * circuit.graph.n_edges)
        if count == circuit.graph.n_edges:
            points.append(CurvePoint(share, count, 1.0, 0.0))
            continue
        part = Circuit.from_scores(circuit.graph, circuit.scores, count)
        value, kl = metric((part.prune_dead() if problem.ablation == "interchange" else part).kept.to(ones))
        points.append(CurvePoint(share, count, (value - empty) / (full - empty), kl))
    return points


def area_under(points: Sequence[CurvePoint]) -> tuple[float, float]:
    """CPR and CMD of a curve: the areas of f and of |1 - f| over the share of edges, by trapezoids.

    With f = 1 everywhere CPR is 0.999, since the smallest share is 0.001.
    """
    shares, f = np.array([point.share for point in points]), np.array([point.faithfulness for point in points])
    return float(np.trapezoid(f, shares)), float(np.trapezoid(np.abs(1 - f), shares))


def _answers(problem: Problem, prepared: Prepared, logits: Tensor) -> dict[str, Tensor]:
    """Figures of each answer, [answers] by name. logits: [answers, choices]."""
    full, batch = prepared.full, prepared.batch
    targets, distractors = problem.targets(batch)
    difference = logit_difference(logits, targets, distractors)
    figures = {
        "kl": divergence(full, logits),
        "exact_match": (logits.argmax(-1) == full.argmax(-1)).double(),
        "logit_diff": difference,
        "preferred": torch.where(distractors < 0, torch.nan, (difference > 0).double()),
    }
    if problem.choices is None:
        return figures | {"accuracy": (logits.argmax(-1) == targets).double()}
    tau = [kendalltau(a, b).statistic for a, b in zip(full.cpu().numpy(), logits.cpu().numpy(), strict=True)]
    return figures | {
        "accuracy": (logits.argmax(-1) > batch.thresholds).double(),
        "prob_diff": probability_difference(logits, batch.thresholds),
        "prob_diff_10": probability_difference(logits, batch.thresholds, within=10),
        "kendall_tau": torch.tensor(tau, dtype=torch.float64, device=logits.device),
    }

"""How far do circuits agree: with a known one, with each other, over seeds?

Edge precision, recall, F1 and ROC-AUC against a ground truth (a compiled model's `circuit.json`), pairwise overlaps,
and an ensemble that keeps what most circuits keep. Inputs: circuits of one graph. Pure set arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from glassworks.errors import GraphMismatch, OptionError
from glassworks.foundations.circuit import Circuit, Provenance
from glassworks.foundations.statistics import auc


class Recovery(NamedTuple):
    """How well a circuit recovers a known one. auc: of its scores, None where it has none."""

    precision: float
    recall: float
    f1: float
    auc: float | None


def recovery(found: Circuit, truth: Circuit) -> Recovery:
    """Precision, recall and F1 of the effective edges of `found`; precision 1 where it is empty.

    Raises GraphMismatch for circuits of two graphs, OptionError for an empty truth.
    """
    overlap = found.overlap(truth)
    wanted, kept = int(truth.effective.sum()), int(found.effective.sum())
    if wanted == 0:
        raise OptionError("the known circuit has no edges", place="truth")
    precision, recall = (overlap.shared / kept if kept else 1.0), overlap.shared / wanted
    f1 = 2 * overlap.shared / (kept + wanted)
    if found.scores is None or wanted == truth.graph.n_edges:
        return Recovery(precision, recall, f1, None)
    exists = truth.graph.exists
    scores, labels = found.scores[exists].double(), truth.effective[exists]
    lowest = scores[torch.isfinite(scores)].min()
    ranked = torch.where(torch.isfinite(scores), scores, lowest)
    return Recovery(precision, recall, f1, auc(ranked.numpy(), labels.tolist()).value)


def votes(circuits: Sequence[Circuit]) -> torch.Tensor:
    """How many circuits keep each edge, int64 [writers, readers]. Raises GraphMismatch, OptionError for none."""
    if not circuits:
        raise OptionError("an ensemble needs at least one circuit", place="circuits")
    first = circuits[0].graph
    if other := next((circuit.graph for circuit in circuits if circuit.graph != first), None):
        raise GraphMismatch(f"one circuit is of a graph with {first}, another of one with {other}")
    return torch.stack([circuit.effective for circuit in circuits]).sum(dim=0)


def ensemble(circuits: Sequence[Circuit], n_edges: int | None = None) -> Circuit:
    """The edges with the most votes: `n_edges` of them, ties by index, or those that more than half keep."""
    counted = votes(circuits)
    graph = circuits[0].graph
    provenance = Provenance(method=f"ensemble of {len(circuits)}", task=circuits[0].provenance.task)
    if n_edges is not None:
        return Circuit.from_scores(graph, counted.float(), n_edges, provenance)
    return Circuit(graph, counted * 2 > len(circuits), counted.float(), provenance=provenance)

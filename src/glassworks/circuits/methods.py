"""Every way to find a circuit under one signature: (problem, options) -> circuit.

A table of names; values score the edges [writers, readers], and the highest scores are the circuit, cut to an exact
count. Edge Pruning trains, the others look. Knows no files but Edge Pruning's checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from glassworks.circuits.acdc import acdc, exact_patching, random_scores
from glassworks.circuits.attribution import Attribution, eap, eap_ig
from glassworks.circuits.edge_pruning import EdgePruning, Log, Trained, circuit_of, train
from glassworks.circuits.problem import Problem
from glassworks.circuits.uniform_gradient import uniform_gradient_sampling
from glassworks.errors import OptionError, UnknownName
from glassworks.foundations.circuit import Circuit, Provenance

Method = Literal["edge-pruning", "eap", "eap-ig", "acdc", "uniform", "exact", "random"]
METHODS: tuple[Method, ...] = ("edge-pruning", "eap", "eap-ig", "acdc", "uniform", "exact", "random")


@dataclass(frozen=True)
class Found:
    """A circuit, and what Edge Pruning trained it from (None for other methods)."""

    circuit: Circuit
    trained: Trained | None = None


def find(
    problem: Problem,
    method: Method,
    sparsity: float,
    *,
    pruning: EdgePruning = EdgePruning(),
    attribution: Attribution = Attribution(),
    seed: int = 0,
    checkpoint: Path | None = None,
    log: Log | None = None,
    provenance: Provenance | None = None,
) -> Found:
    """The circuit of round((1 - sparsity) N) edges that `method` ranks highest. Raises UnknownName, OptionError."""
    check_sparsity(sparsity)
    if method not in METHODS:
        raise UnknownName("method", method, METHODS, place="method")
    if method == "edge-pruning":
        trained = train(problem, pruning, target=sparsity, seed=seed, checkpoint=checkpoint, log=log)
        return Found(circuit_of(trained, sparsity, provenance), trained)
    scores = _scores(problem, method, attribution, seed).cpu().float()
    kept = round((1 - sparsity) * problem.graph.n_edges)
    return Found(Circuit.from_scores(problem.graph, scores, kept, provenance))


def check_sparsity(sparsity: float) -> None:
    """Raises OptionError unless 0 <= sparsity < 1."""
    if not 0 <= sparsity < 1:
        raise OptionError(
            f"expected a share of removed edges in [0, 1), received {sparsity}", place="sparsity",
            remedy="0.97 keeps 3 edges in 100; to push training beyond 1, use --pruning.target.",
        )  # fmt: skip


def _scores(problem: Problem, method: Method, attribution: Attribution, seed: int) -> Tensor:
    if method == "eap":
        return eap(problem, attribution)
    if method == "eap-ig":
        return eap_ig(problem, attribution)
    if method == "acdc":
        return acdc(problem, attribution)
    if method == "uniform":
        return uniform_gradient_sampling(problem, attribution, seed=seed)
    return exact_patching(problem, attribution) if method == "exact" else random_scores(problem, seed)

"""Recovery of a known circuit and ensembles, on graphs small enough to count by hand."""

import pytest
import torch

from glassworks.circuits.agreement import ensemble, recovery, votes
from glassworks.errors import GraphMismatch, OptionError
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.graph import Graph

GRAPH = Graph(1, 1, 1)
EDGES = GRAPH.edges()


def circuit(*places: int) -> Circuit:
    return Circuit.from_edges(GRAPH, [EDGES[place] for place in places])


def test_precision_recall_f1() -> None:
    found = recovery(circuit(0, 1, 2), circuit(1, 2, 3, 4))
    assert found[:3] == pytest.approx((2 / 3, 1 / 2, 4 / 7))
    assert found.auc is None
    assert recovery(circuit(), circuit(1))[:3] == (1.0, 0.0, 0.0)


def test_auc_is_of_the_ranking() -> None:
    scores = torch.full(GRAPH.exists.shape, float("nan"))
    scores[GRAPH.exists] = torch.arange(8.0)
    truth = circuit(6, 7)
    assert recovery(Circuit.from_scores(GRAPH, scores, 2), truth).auc == 1
    assert recovery(Circuit.from_scores(GRAPH, -scores, 2), truth).auc == 0


def test_votes_and_majority() -> None:
    three = [circuit(0, 1), circuit(1, 2), circuit(1, 2, 3)]
    assert votes(three)[GRAPH.exists].tolist() == [1, 3, 2, 1, 0, 0, 0, 0]
    assert ensemble(three).edges == [EDGES[1], EDGES[2]]
    assert ensemble(three, 3).edges == [EDGES[0], EDGES[1], EDGES[2]]


def test_refusals() -> None:
    with pytest.raises(OptionError, match="no edges"):
        recovery(circuit(1), circuit())
    with pytest.raises(GraphMismatch):
        votes([circuit(1), Circuit.from_edges(Graph(2, 1, 1), [])])
    with pytest.raises(OptionError, match="at least one"):
        votes([])

"""Oracle numbers of areas, and figures at the two ends of the gates."""

import numpy as np
import pytest
import torch
from cases.circuit_problems import truth, written_problem

from glassworks.circuits.acdc import exact_patching
from glassworks.circuits.faithfulness import SHARES, CurvePoint, area_under, faithfulness_curve, measure_circuit
from glassworks.circuits.pairs import PairSet
from glassworks.circuits.problem import Problem
from glassworks.errors import OptionError
from glassworks.foundations.circuit import Circuit


def test_areas_of_a_known_curve() -> None:
    f = (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1, 0.95, 1)
    points = [CurvePoint(share, 0, value, 0) for share, value in zip(SHARES, f, strict=True)]
    assert area_under(points) == pytest.approx((0.96765, 0.04635), abs=5e-6)
    perfect = [CurvePoint(share, 0, 1, 0) for share in SHARES]
    assert area_under(perfect) == pytest.approx((0.999, 0))


def test_full_model_is_faithful_and_the_empty_circuit_is_not() -> None:
    problem = written_problem(16)
    full = measure_circuit(problem, problem.masked.ones())
    assert full["kl"].max() < 1e-6
    assert full["accuracy"].mean() == full["exact_match"].mean() == 1
    assert full["logit_diff"] == pytest.approx(np.full(16, 10), abs=1e-3)
    empty = measure_circuit(problem, 0 * problem.masked.ones())
    assert empty["exact_match"].mean() == 0
    # What is left is the corrupted answer.
    assert empty["logit_diff"].mean() == pytest.approx(-10, abs=1e-3)
    known = measure_circuit(problem, truth().effective)
    assert known["kl"].max() < 1e-6


def test_curve_is_0_without_edges_and_1_with_the_known_ones() -> None:
    problem = written_problem(8)
    circuit = Circuit.from_scores(problem.graph, exact_patching(problem), 3)
    curve = faithfulness_curve(problem, circuit)
    assert [point.n_edges for point in curve] == [0, 0, 0, 0, 0, 2, 4, 9, 23, 46]
    assert [point.faithfulness for point in curve] == pytest.approx([0] * 6 + [1] * 4, abs=1e-4)
    with pytest.raises(OptionError, match="no scores"):
        faithfulness_curve(problem, truth())


def test_numbers_to_choose_from_get_their_own_figures() -> None:
    plain = written_problem(6)
    choices = tuple(range(1, 9))
    pairs = tuple(pair._replace(threshold=2) for pair in plain.pairs.pairs)
    problem = Problem(plain.masked, PairSet("numbers", pairs, choices))
    figures = measure_circuit(problem, problem.masked.ones())
    assert figures["kendall_tau"] == pytest.approx(np.ones(6))
    logits = plain.masked.plain_logits(*[plain.pairs.batch(range(6))[at] for at in (0, 2)])[:, 1:].softmax(-1)
    expected = logits[:, 3:].sum(-1) - logits[:, :2].sum(-1)
    assert torch.allclose(torch.tensor(figures["prob_diff"]), expected.double(), atol=1e-5)

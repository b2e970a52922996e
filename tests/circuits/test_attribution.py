"""Attribution scores against finite differences on gates, and against a written-out EAP-IG."""

import pytest
import torch
from cases.circuit_problems import random_problem, truth, written_problem

from glassworks.circuits.attribution import Attribution, eap, eap_ig
from glassworks.errors import OptionError
from glassworks.foundations.circuit import Circuit

SIGNED = Attribution(objective="logit_diff", signed=True, batch_size=4)


def test_eap_equals_finite_differences_on_gates() -> None:
    problem = random_problem()
    scores, ones = eap(problem, SIGNED), problem.masked.ones()
    for row, column in problem.graph.exists.nonzero()[::13].tolist():
        step = torch.zeros_like(ones)
        step[row, column] = 1e-4
        up, down = (problem.mean_loss(ones + sign * step, objective="logit_diff") for sign in (1, -1))
        assert float(scores[row, column]) == pytest.approx((down - up) / 2e-4, rel=1e-4, abs=1e-8)


def test_eap_ig_of_inputs_interpolates_embeddings_and_takes_full_differences() -> None:
    problem = random_problem(n=1)
    masked, prepared = problem.masked, problem.prepare([0])
    found = eap_ig(problem, Attribution(signed=True, steps=2, batch_size=1))
    clean, corrupted = masked.writers(prepared.batch.clean), masked.writers(prepared.batch.corrupted)
    # The final read, written out: gradient at embeddings half way and all the way, times x - x'.
    expected = 0
    core, place = masked.model.transformer, len(problem.pairs.pairs[0].clean) - 1
    for alpha in (0.5, 1.0):
        stream = corrupted[0] + alpha * (clean[0] - corrupted[0])
        for block in core.h:
            stream = block(stream)
            stream = stream[0] if isinstance(stream, tuple) else stream
        last = stream[0, place].clone().requires_grad_()
        logits = masked.model.lm_head(core.ln_f(last))
        (gradient,) = torch.autograd.grad(logits[5] - logits[9], last)
        expected = expected + torch.einsum("wd,d->w", (clean - corrupted)[:, 0, place], gradient) / 2
    assert torch.allclose(found[:, -1], expected, atol=1e-9)


def test_one_step_along_gates_is_eap() -> None:
    problem = random_problem("llama", n=3)
    along = eap_ig(problem, Attribution(path="gates", steps=1))
    assert torch.allclose(along, eap(problem, Attribution()), atol=1e-12)


def test_both_find_the_written_circuit() -> None:
    problem = written_problem()
    for scores in (eap(problem), eap_ig(problem), eap_ig(problem, Attribution(path="gates", objective="kl"))):
        assert Circuit.from_scores(problem.graph, scores, 3).same_edges(truth())


def test_settings_are_checked() -> None:
    with pytest.raises(OptionError, match="at least 1"):
        Attribution(steps=0)

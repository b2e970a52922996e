"""Every method under one signature, with an exact count."""

import pytest
from cases.circuit_problems import truth, written_problem

from glassworks.circuits.edge_pruning import EdgePruning
from glassworks.circuits.faithfulness import measure_circuit
from glassworks.circuits.masked_model import MaskedModel
from glassworks.circuits.methods import METHODS, Method, find
from glassworks.circuits.pairs import tokenise
from glassworks.circuits.problem import Problem
from glassworks.circuits.toy_model import indirect_object_rows, train_indirect_object
from glassworks.errors import OptionError, UnknownName

QUICK = EdgePruning(steps=5, lr_warmup_steps=1, batch_size=4)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_keeps_exactly_what_was_asked_for(method: Method) -> None:
    found = find(written_problem(8), method, 0.8, pruning=QUICK)
    assert found.circuit.n_edges == round(0.2 * 46)
    assert found.circuit.scores is not None
    assert (found.trained is None) == (method != "edge-pruning")


@pytest.mark.parametrize("method", ["eap", "eap-ig", "acdc", "exact"])
def test_methods_that_look_recover_the_known_circuit(method: Method) -> None:
    assert find(written_problem(8), method, 1 - 3 / 46).circuit.same_edges(truth())


def test_edge_pruning_is_more_faithful_than_its_peers_in_a_model_that_learnt() -> None:
    # benchmarks/circuits_toy.py in small: a model of one seed, a short search, fresh pairs to judge by.
    model, tokenizer = train_indirect_object(0, steps=150)
    masked = MaskedModel(model)
    training, test = (
        Problem(masked, tokenise(indirect_object_rows(n, seed), tokenizer, name="toy"))
        for n, seed in ((64, 0), (128, 100))
    )
    short = EdgePruning(steps=600, warmup_steps=450, lr_warmup_steps=30, batch_size=8)
    methods: tuple[Method, ...] = ("edge-pruning", "eap", "random")
    found = {method: find(training, method, 0.7, pruning=short) for method in methods}
    kl = {method: float(measure_circuit(test, one.circuit.effective)["kl"].mean()) for method, one in found.items()}
    assert kl["edge-pruning"] < 0.1 * kl["random"]
    assert kl["edge-pruning"] < kl["eap"]
    assert kl["random"] > 5
    trained = found["edge-pruning"].trained
    assert trained is not None
    assert trained.sparsity == pytest.approx(0.7, abs=0.05)


def test_refusals() -> None:
    for sparsity in (1.0, -0.1, 1.2):
        with pytest.raises(OptionError, match="sparsity"):
            find(written_problem(2), "eap", sparsity)
    with pytest.raises(UnknownName, match="eap"):
        find(written_problem(2), "eapp", 0.5)  # type: ignore[arg-type]

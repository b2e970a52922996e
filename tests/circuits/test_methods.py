"""Every method under one signature, with an exact count."""

import pytest
from cases.circuit_problems import truth, written_problem

from glassworks.circuits.edge_pruning import EdgePruning
from glassworks.circuits.methods import METHODS, Method, find
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


def test_refusals() -> None:
    for sparsity in (1.0, -0.1, 1.2):
        with pytest.raises(OptionError, match="sparsity"):
            find(written_problem(2), "eap", sparsity)
    with pytest.raises(UnknownName, match="eap"):
        find(written_problem(2), "eapp", 0.5)  # type: ignore[arg-type]

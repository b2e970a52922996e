"""Claims hold measured figures, intervals and the graph's convention."""

from cases.circuit_problems import truth, written_problem

from glassworks.circuits.claims import Measured, circuit_claims
from glassworks.circuits.faithfulness import measure_circuit


def test_claims_of_a_circuit() -> None:
    problem = written_problem(8)
    claims = circuit_claims(Measured(measure_circuit(problem, truth().effective), problem, truth(), 5, 0.9))
    found = {item.metric: item for item in claims}
    assert found["kl"].n == 8
    assert found["exact_match"].interval is not None
    assert found["edges_kept"].value == 3
    assert found["sparsity_reached"].value == 0.9
    assert "1 embedding writers" in found["edges_live"].setting
    assert {item.seed for item in claims} == {5}

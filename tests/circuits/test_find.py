"""The verb end to end on the model whose circuit is known, and what it refuses before any work."""

import json
from pathlib import Path

import pytest

from glassworks.circuits.compare import compare_circuits
from glassworks.circuits.data import toy_circuit_model
from glassworks.circuits.draw import draw_circuit
from glassworks.circuits.evaluate import evaluate_circuit
from glassworks.circuits.find import find_circuit
from glassworks.errors import OptionError
from glassworks.foundations.circuit_files import read_circuit, read_eap


def test_find_eval_compare_and_draw_on_the_written_model(tmp_path: Path) -> None:
    toy = toy_circuit_model("written", str(tmp_path / "toy")).path
    model, pairs = str(toy / "model"), str(toy / "pairs.jsonl")
    run = find_circuit(model, pairs, str(tmp_path / "eap"), method="eap", sparsity=1 - 3 / 46)
    found = {item.metric: item for item in run.evidence}
    assert found["kl"].value == pytest.approx(0, abs=1e-6)
    assert found["exact_match"].value == 1
    assert found["edges_kept"].baseline == 46
    assert "2 layers, 2 heads" in found["edge_sparsity"].setting
    circuit = read_circuit(run.path / "circuit.json")
    assert circuit.same_edges(read_circuit(toy / "truth.json"))
    assert circuit.same_edges(read_eap(run.path / "circuit.eap.json"))
    sample = json.loads((run.path / "samples.jsonl").read_text().splitlines()[0])
    assert sample["expected"] == sample["full model"] == sample["circuit"]
    assert {file.name for file in (run.path / "figures").iterdir()} == {"circuit.svg", "faithfulness.svg"}

    other = find_circuit(model, pairs, str(tmp_path / "random"), method="random", sparsity=0.9).path
    truth = str(toy / "truth.json")
    checked = evaluate_circuit(str(run.path), model, pairs, str(tmp_path / "eval"), truth=truth)
    assert {item.value for item in checked.evidence if item.metric in ("f1", "auc")} == {1.0}
    both = compare_circuits([str(run.path), str(other)], str(tmp_path / "both"), [model], pairs, truth=truth)
    assert {"iou", "kl", "f1"} <= {item.metric for item in both.evidence}
    drawn = draw_circuit(str(run.path), str(tmp_path / "drawn"), beside=str(other))
    assert (drawn.path / "circuits.html").exists()


def test_sparsity_of_1_is_refused_before_the_model_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="sparsity"):
        find_circuit("no-such-model", out=str(tmp_path / "x"), sparsity=1.0)
    assert not (tmp_path / "x").exists()

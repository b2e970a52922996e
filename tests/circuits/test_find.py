"""The verb end to end on the model whose circuit is known, and what it refuses before any work."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from cases.tiny_models import tiny_model

from glassworks.circuits.compare import compare_circuits
from glassworks.circuits.data import toy_circuit_model
from glassworks.circuits.draw import draw_circuit
from glassworks.circuits.edge_pruning import EdgePruning, train
from glassworks.circuits.evaluate import evaluate_circuit
from glassworks.circuits.find import GraphOptions, PairOptions, find_circuit, load_masked, task_pairs
from glassworks.circuits.pairs import Pair, PairSet
from glassworks.circuits.problem import Problem
from glassworks.errors import DataNotFound, OptionError
from glassworks.foundations.adapters import tokenizer_of
from glassworks.foundations.circuit_files import read_circuit, read_eap
from glassworks.report.stages import read_stages


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
    (stage,) = read_stages(run.path)  # as the dossier reads it
    for sample in stage.samples:
        assert sample.question
        assert sample.answer == sample.gold
        assert sample.extra == [("full model", sample.answer)]
    assert {file.name for file in (run.path / "figures").iterdir()} == {"circuit.svg", "faithfulness.svg"}

    other = find_circuit(model, pairs, str(tmp_path / "random"), method="random", sparsity=0.9).path
    truth = str(toy / "truth.json")
    checked = evaluate_circuit(str(run.path), model, pairs, str(tmp_path / "eval"), truth=truth)
    assert {item.value for item in checked.evidence if item.metric in ("f1", "auc")} == {1.0}
    with pytest.raises(DataNotFound, match="nowhere"):
        evaluate_circuit(str(run.path), model, pairs, str(tmp_path / "refused"), truth="nowhere")
    assert not (tmp_path / "refused").exists()
    both = compare_circuits([str(run.path), str(other)], str(tmp_path / "both"), [model], pairs, truth=truth)
    assert {"iou", "kl", "f1"} <= {item.metric for item in both.evidence}
    drawn = draw_circuit(str(run.path), str(tmp_path / "drawn"), beside=str(other))
    assert (drawn.path / "circuits.html").exists()


def test_a_search_that_was_killed_goes_on_and_logs_each_step_once(tmp_path: Path) -> None:
    toy = toy_circuit_model("written", str(tmp_path / "toy")).path
    model, data, settings = str(toy / "model"), str(toy / "pairs.jsonl"), EdgePruning(steps=130, lr_warmup_steps=10)

    def find(out: str) -> Path:
        return find_circuit(model, data, str(tmp_path / out), sparsity=0.9, pruning=settings).path

    whole = find("whole")
    killed = tmp_path / "killed"
    shutil.copytree(whole, killed)
    for file in ("circuit.json", "mask.safetensors"):
        (killed / file).unlink()
    manifest = json.loads((killed / "run.json").read_text())
    (killed / "run.json").write_text(json.dumps(manifest | {"status": "running"}))
    log = (killed / "metrics.jsonl").read_text().splitlines(keepends=True)
    (killed / "metrics.jsonl").write_text("".join(log[:2]))  # steps 0 and 64; the state is from before step 64
    training, _ = task_pairs(data, tokenizer_of(model), PairOptions(), 42)
    problem = Problem(load_masked(model, GraphOptions(), "cpu"), training)
    train(problem, settings, target=0.9, seed=42, checkpoint=killed / "mask.safetensors", stop_after=100)
    resumed = find("killed")
    steps = [[json.loads(line)["step"] for line in (run / "metrics.jsonl").open()] for run in (whole, resumed)]
    assert steps == [[0, 64, 128, 129]] * 2
    assert (resumed / "circuit.json").read_bytes() == (whole / "circuit.json").read_bytes()


def test_sparsity_of_1_is_refused_before_the_model_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="sparsity"):
        find_circuit("no-such-model", out=str(tmp_path / "x"), sparsity=1.0)
    assert not (tmp_path / "x").exists()


def test_a_model_in_bfloat16_has_gates_in_float32(tmp_path: Path) -> None:
    tiny_model("llama", dtype=torch.float32).save_pretrained(tmp_path / "model")
    masked = load_masked(str(tmp_path / "model"), GraphOptions(dtype="bfloat16"), "cpu")
    assert masked.dtype == torch.bfloat16
    pair = Pair(tuple(range(3, 9)), (3, *range(14, 19)), 6, (5,), (9,))
    problem = Problem(masked, PairSet("one", (pair,)))
    trained = train(problem, EdgePruning(steps=3, lr_warmup_steps=1, initial=1.0), target=0.5)
    assert trained.edges.dtype == masked.ones().dtype == torch.float32
    assert bool(torch.isfinite(trained.edges).all())

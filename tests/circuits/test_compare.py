"""Circuits side by side: in one model, and in a model before and after its mechanism moved to another head."""

from pathlib import Path

import pytest
import torch
from cases.circuit_problems import truth, written_problem

from glassworks.circuits.compare import compare_circuits, model_divergence, short_names
from glassworks.circuits.data import toy_circuit_model
from glassworks.circuits.find import find_circuit
from glassworks.errors import GraphMismatch, OptionError
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.circuit_files import write_circuit
from glassworks.foundations.graph import Graph
from glassworks.foundations.models import load_model, load_tokenizer

SIZE = 1 - 3 / 46


def moved_model(folder: Path, out: Path) -> str:
    """The written model with the two heads of its last layer exchanged and its answers less certain."""
    model = load_model(str(folder))
    attention = model.transformer.h[1].attn
    width = model.config.n_embd
    swapped = torch.arange(width).view(2, -1).flip(0).flatten()
    columns = torch.cat([part * width + swapped for part in range(3)])
    with torch.no_grad():
        attention.c_attn.weight.copy_(attention.c_attn.weight[:, columns])
        attention.c_attn.bias.copy_(attention.c_attn.bias[columns])
        attention.c_proj.weight.copy_(attention.c_proj.weight[swapped])
        model.lm_head.weight.mul_(0.5)
    model.save_pretrained(out)
    load_tokenizer(str(folder)).save_pretrained(out)
    return str(out)


def test_a_mechanism_that_moved_is_seen(tmp_path: Path) -> None:
    toy = toy_circuit_model("written", str(tmp_path / "toy")).path
    before, data = str(toy / "model"), str(toy / "pairs.jsonl")
    after = moved_model(toy / "model", tmp_path / "after" / "model")
    found = [
        str(find_circuit(model, data, str(tmp_path / name), method="eap", sparsity=SIZE).path)
        for name, model in (("old", before), ("new", after))
    ]
    run = compare_circuits(found, str(tmp_path / "moved"), [before, after], data)
    claims = {(item.metric, item.claim): item.value for item in run.evidence}
    shared = {metric: value for (metric, _), value in claims.items() if metric in ("iou", "share_of_first")}
    assert shared == {"iou": 1 / 5, "share_of_first": 1 / 3}  # of three edges only input -> m0 stayed
    kl = {claim: value for (metric, claim), value in claims.items() if metric == "kl"}
    own = [value for claim, value in kl.items() if "old in toy/" in claim or "new in after/" in claim]
    crossed = [value for claim, value in kl.items() if "old in after/" in claim or "new in toy/" in claim]
    assert own == pytest.approx([0, 0], abs=1e-5)
    assert min(crossed) > 1
    shift = next(value for (metric, _), value in claims.items() if metric == "model_shift")
    assert 0.01 < shift < 1  # the answers are the same, only less certain
    preferred = [item for item in run.evidence if item.metric == "model_preferred"]
    assert [item.value for item in preferred] == [1, 1]
    assert {file.name for file in (run.path / "figures").iterdir()} == {
        "old-and-new.svg", "divergence.svg", "faithfulness.svg",
    }  # fmt: skip


def test_divergence_of_a_model_from_itself_is_0() -> None:
    assert model_divergence(written_problem(6), written_problem(6)).tolist() == [0] * 6


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(OptionError, match="at least two"):
        compare_circuits(["x"], out)
    with pytest.raises(OptionError, match="2 models for 3 circuits"):
        compare_circuits(["x", "y", "z"], out, ["a", "b"])
    write_circuit(tmp_path / "a.json", truth())
    write_circuit(tmp_path / "b.json", Circuit.from_edges(Graph(1, 1, 1), []))
    with pytest.raises(GraphMismatch):
        compare_circuits([str(tmp_path / "a.json"), str(tmp_path / "b.json")], out)


def test_names_are_as_short_as_they_can_be() -> None:
    assert short_names(["runs/a/circuit.json", "runs/b/circuit.json"]) == ["a/circuit", "b/circuit"]
    assert short_names(["runs/eap", "runs/acdc"]) == ["eap", "acdc"]
    assert short_names(["x/eap", "x/eap"]) == ["1:x/eap", "2:x/eap"]

"""The verb `eliza compile`: what a run holds for each dialect, and that evidence is what was measured."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from glassworks.eliza.compile_verb import eliza_compile
from glassworks.eliza.layers import Options
from glassworks.errors import OptionError
from glassworks.foundations.circuit_files import read_circuit

SMALL = Options(max_len=256, max_count=16)


@pytest.mark.parametrize("script", ["packaged:small", "packaged:listener"])
def test_a_run(script: str, tmp_path: Path) -> None:
    run = eliza_compile(script, str(tmp_path / "run"), SMALL, conversations=1)
    figures = {item.metric: item for item in run.evidence}
    assert figures["forced_differences"].value == figures["free_differences"].value == 0
    assert (figures["free_differences"].n or 0) > 30
    assert figures["idle_non_edges"].value == 1
    circuit = read_circuit(run.path / "circuit.json")
    assert circuit.n_edges == figures["true_edges"].value
    assert read_circuit(run.path / "necessary.json").n_edges == figures["necessary_edges"].value
    assert len((run.path / "samples.jsonl").read_text().splitlines()) == 4
    assert json.loads((run.path / "model" / "heads.json").read_text())["a0.h0"] == "turn start"


def test_the_saved_folder_answers(tmp_path: Path) -> None:
    run = eliza_compile("packaged:small", str(tmp_path / "run"), SMALL, conversations=1)
    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(run.path / "model")
    prompt = tokenizer("$ U d a e a f b . E", return_tensors="pt")
    out = model.generate(prompt["input_ids"], attention_mask=torch.ones_like(prompt["input_ids"]), max_new_tokens=9)
    assert tokenizer.decode(out[0]).endswith("E p q e a f .")


def test_impossible_options_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="float32 holds 2048"):
        eliza_compile(out=str(tmp_path / "run"), mechanisms=Options(max_len=5000))
    assert not (tmp_path / "run").exists()

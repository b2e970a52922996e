"""The verb `eliza compile`: what a run holds for each dialect, and that evidence is what was measured."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from glassworks.eliza.compile_verb import check_synthetic, eliza_compile
from glassworks.eliza.compiling import compile_script
from glassworks.eliza.interpreter import converse, split_turns, transcript
from glassworks.eliza.layers import Options
from glassworks.eliza.script import parse_script
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
    if script == "packaged:small":
        assert read_circuit(run.path / "truth.json").n_edges == figures["pairs_necessary_edges"].value
        assert len((run.path / "pairs.jsonl").read_text().splitlines()) == figures["pairs_necessary_edges"].n
    assert len((run.path / "samples.jsonl").read_text().splitlines()) == 4
    assert json.loads((run.path / "model" / "heads.json").read_text())["a0.h0"] == "turn start"


def test_copying_by_induction_is_compared_with_a_script_that_copies_so() -> None:
    script = parse_script("U a 0 .\n E h 2 .\nU 0 .\n E n .\n")
    checked = check_synthetic(compile_script(script, Options(copy="induction", context=1, max_len=128)), script, 2, 0)
    assert (checked.forced.wrong, checked.free.wrong) == (0, 0)
    assert any(transcript(converse(script, [s for s, _ in split_turns(t)])) != t for t in checked.transcripts)


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

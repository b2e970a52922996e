"""The verb end to end: a saved model is taken apart, its template examined, and the figures recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cases.tiny_models import tiny_model
from cases.tokenizers import chat_tokenizer

from glassworks.errors import ModelNotFound, UnsafeCheckpoint, UnsupportedArchitecture
from glassworks.foundations.check_model import check_model
from glassworks.foundations.evidence import Evidence, read_evidence
from glassworks.foundations.models import model_sha


def saved(folder: Path, family: str, template: str = "llama3", **settings: object) -> str:
    """A tiny model of `family` and a tokenizer in `folder`; its path."""
    tiny_model(family, dtype=torch.float32, vocab_size=400, **settings).save_pretrained(folder)
    chat_tokenizer(template).save_pretrained(folder)
    return str(folder)


def by_metric(folder: Path) -> dict[str, Evidence]:
    """The evidence of a run folder by its metric."""
    return {item.metric: item for item in read_evidence(folder)}


def test_a_chat_model(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", "qwen3")
    run = check_model(model, out=str(tmp_path / "run"))
    about = json.loads((tmp_path / "run" / "anatomy.json").read_text())
    assert (about["num_layers"], about["num_heads"], about["num_key_value_heads"], about["head_dim"]) == (3, 4, 2, 12)
    assert about["layers"][2]["attention"]["output"] == "model.layers.2.self_attn.o_proj"
    assert "head query and key norms" in (tmp_path / "run" / "anatomy.txt").read_text()
    evidence = by_metric(tmp_path / "run")
    assert 0 <= evidence["recomposition_difference"].value <= 1e-4
    assert evidence["parameters"].value == tiny_model("qwen3", vocab_size=400).num_parameters()
    assert evidence["start_tokens"].value == 1
    assert evidence["template_problems"].value == 0
    assert {item.model_sha for item in evidence.values()} == {model_sha(model)}
    assert "recomposed from its parts" in run.summary()


def test_a_base_model_without_a_template_is_noted_not_refused(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", "llama")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    check_model(model, out=str(tmp_path / "run"))
    note = json.loads((tmp_path / "run" / "template.json").read_text())["note"]
    assert "no chat template" in note
    assert set(by_metric(tmp_path / "run")) == {"recomposition_difference", "parameters"}


@pytest.mark.parametrize("family", ["bert", "roberta_classifier"])
def test_an_encoder_is_loaded_with_the_head_it_was_saved_with(family: str, tmp_path: Path) -> None:
    model = saved(tmp_path / "model", family)
    check_model(model, out=str(tmp_path / "run"))
    about = json.loads((tmp_path / "run" / "anatomy.json").read_text())
    assert about["class"] == type(tiny_model(family)).__name__
    assert about["difference"] <= 1e-4


def test_what_cannot_be_taken_apart_or_found_is_refused(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", "bitnet")
    with pytest.raises(UnsupportedArchitecture, match="slice of head"):
        check_model(model, out=str(tmp_path / "run"))
    assert not (tmp_path / "run" / "anatomy.json").exists()
    with pytest.raises(ModelNotFound):
        check_model(str(tmp_path / "nowhere"), out=str(tmp_path / "other"))


@pytest.mark.real_model
def test_a_trained_model_recomposes(tmp_path: Path) -> None:
    """Trained weights have channels a thousand times the others; random ones do not."""
    check_model("packaged:smollm2", out=str(tmp_path / "run"))
    about = json.loads((tmp_path / "run" / "anatomy.json").read_text())
    assert (about["num_layers"], about["num_heads"], about["num_key_value_heads"], about["head_dim"]) == (30, 9, 3, 64)
    assert by_metric(tmp_path / "run")["recomposition_difference"].value <= 1e-3


def test_pickled_weights_are_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UnsafeCheckpoint):
        check_model(str(tmp_path / "model"), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()

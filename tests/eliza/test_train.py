"""The verb `eliza train`: positions stay zero, only replies are predicted, the loss falls, results repeat."""

from pathlib import Path

import pytest
import torch
from cases.eliza_data import data_folder
from transformers import AutoModelForCausalLM

from glassworks.eliza.dataset import Example, read_split
from glassworks.eliza.train import Shape, collate, eliza_train, row, without_positions
from glassworks.errors import OptionError


def test_training(tmp_path: Path) -> None:
    shape = Shape(layers=2, heads=2, width=32)
    run = eliza_train(data_folder(), str(tmp_path / "a"), shape, steps=25, batch_size=16, warmup_steps=5)
    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    assert not model.transformer.wpe.weight.any()
    assert run.evidence[0].value < 3.2  # ln 32 = 3.47 untrained
    again = eliza_train(data_folder(), str(tmp_path / "b"), shape, steps=25, batch_size=16, warmup_steps=5)
    assert again.evidence[0].value == run.evidence[0].value


def test_only_replies_are_predicted() -> None:
    item = row(Example(("$", "U", "a", ".", "E", "b", ".", "U", "."), ("none", "none")))
    assert item["labels"] == [-100] * 5 + [6, 2, -100, -100]
    batch = collate([item, row(Example(("$", "U", "."), ()))])
    assert batch["attention_mask"].sum(-1).tolist() == [9, 3]
    assert batch["labels"][1].tolist() == [-100] * 9


def test_the_model_has_no_positions() -> None:
    model = without_positions(Shape(1, 1, 16), 32).eval()
    ids = torch.tensor([[5, 5, 5, 5]])
    logits = model(ids).logits[0]
    assert torch.allclose(logits[1:], logits[:-1], atol=1e-5)


def test_settings_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="width that the heads divide"):
        eliza_train(data_folder(), str(tmp_path / "a"), Shape(1, 3, 16))
    for name, value in {"steps": 0, "batch_size": 0, "warmup_steps": -1, "learning_rate": 0.0}.items():
        with pytest.raises(OptionError, match=f"^{name}: expected"):
            eliza_train(data_folder(), str(tmp_path / name), **{name: value})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="unknown device 'tpu'"):
        eliza_train(data_folder(), str(tmp_path / "b"), device="tpu")
    with pytest.raises(OptionError, match="^limit: expected at least 1"):
        read_split(data_folder(), "test", 0)

"""An adapter's folder stands for its base with the adapter merged in; a broken one is refused."""

from pathlib import Path

import pytest
import torch
from cases.tiny_models import random_tokens, tiny_model
from peft import LoraConfig, get_peft_model

from glassworks.errors import NotAModel
from glassworks.foundations.adapters import base_of, load_merged, merged_sha
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.models import load_model, model_sha


def test_merged_model_answers_as_base_with_adapter(tmp_path: Path) -> None:
    base, folder = str(tmp_path / "base"), str(tmp_path / "adapter")
    tiny_model("llama", dtype=torch.float32).save_pretrained(base)
    torch.manual_seed(0)
    wrapped = get_peft_model(load_model(base), LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    wrapped.save_pretrained(folder)
    ids = random_tokens(2, 6, seed=1)
    with torch.no_grad():
        wanted, plain, found = (model(ids).logits for model in (wrapped.eval(), load_merged(base), load_merged(folder)))
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-3)
    assert anatomy(load_merged(folder)).num_layers == anatomy(load_merged(base)).num_layers
    assert base_of(folder) == base
    assert base_of(base) is None
    assert merged_sha(base) == model_sha(base)
    assert merged_sha(folder).startswith(f"{model_sha(base)}+")


def test_an_adapter_without_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(NotAModel, match="names no base model"):
        load_merged(str(tmp_path))

"""Exported models equal the gated ones after a round trip through files, or the reason for refusal is named."""

from pathlib import Path

import pytest
import torch
from cases.tiny_models import random_tokens, tiny_model
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from glassworks.circuits.export_subnetwork import masked_model, sliced_model
from glassworks.circuits.head_masks import masked
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import Means, collect_means, weights_sha
from glassworks.errors import OptionError
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.parts import Anatomy

IDS = random_tokens(2, 9)
FULL = UnitMask.full(3, 4)
HEADS = FULL - UnitMask.from_names(["a0.h1", "a1.h0", "a1.h3", "a2.h2"], 3, 4)
BAR = 2e-6


def prepared(family: str, **overrides: object) -> tuple[Anatomy, Means]:
    parts = anatomy(tiny_model(family, dtype=torch.float32, **overrides), check=False)
    return parts, collect_means(parts, [{"input_ids": IDS}])


def gap(parts: Anatomy, mask: UnitMask, means: Means | None, exported: PreTrainedModel) -> float:
    """Largest difference of the probabilities' logits, relative to their size above 1."""
    with torch.no_grad():
        with masked(parts, mask, means, ablation="zero" if means is None else "mean"):
            expected = parts.model(IDS).logits
        found = exported(IDS).logits
    return float((found - expected).abs().max() / max(1.0, float(expected.abs().max())))


def reloaded(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    model.save_pretrained(folder)
    auto = AutoModelForMaskedLM if "Masked" in type(model).__name__ else AutoModelForCausalLM
    loaded: PreTrainedModel = auto.from_pretrained(folder)
    return loaded.eval()


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "qwen3", "gpt_neox"])
def test_heads_folded_into_biases_equal_mean_ablation(family: str, tmp_path: Path) -> None:
    parts, means = prepared(family)
    before = weights_sha(parts.model)
    exported = masked_model(parts, HEADS, means)
    assert gap(parts, HEADS, means, reloaded(exported, tmp_path)) <= BAR
    assert weights_sha(parts.model) == before


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "gpt_neox"])
def test_mlps_too(family: str, tmp_path: Path) -> None:
    parts, means = prepared(family)
    mask = HEADS - UnitMask.from_names(["a1.mlp"], 3, 4)
    assert gap(parts, mask, means, reloaded(masked_model(parts, mask, means), tmp_path)) <= BAR


def test_zero_ablation_needs_no_bias(tmp_path: Path) -> None:
    parts, _ = prepared("qwen3")
    mask = HEADS - UnitMask.from_names(["a1.mlp"], 3, 4)
    exported = reloaded(masked_model(parts, mask), tmp_path)
    assert gap(parts, mask, None, exported) <= BAR
    assert not any("o_proj.bias" in name for name in exported.state_dict())


@pytest.mark.parametrize(("family", "pruned"), [
    ("llama", ["a0.h0", "a0.h1", "a1.h2", "a1.h3", "a2.h0", "a2.h1"]),  # a whole group of each layer
    ("qwen3", ["a0.h0", "a0.h3", "a1.h1", "a1.h2", "a2.h0", "a2.h2"]),  # one head of each group
])  # fmt: skip
def test_sliced_models_are_smaller_and_equal(family: str, pruned: list[str], tmp_path: Path) -> None:
    parts, means = prepared(family)
    mask = FULL - UnitMask.from_names(pruned, 3, 4)
    exported = reloaded(sliced_model(parts, mask, means), tmp_path)
    assert gap(parts, mask, means, exported) <= BAR
    assert exported.config.num_attention_heads == 2
    assert exported.num_parameters() < parts.model.num_parameters()


@pytest.mark.parametrize(("family", "mask", "reason"), [
    ("llama", HEADS, "must keep equally many"),
    ("bert", FULL, "hidden size / heads"),
    ("gpt2", FULL, "share one module"),
    ("qwen3", FULL - UnitMask.from_names(["a0.mlp"], 3, 4), "without its MLP"),
    ("llama", FULL - UnitMask.from_names(["a0.h0", "a1.h0", "a2.h0"], 3, 4), "unequal numbers of query heads"),
])  # fmt: skip
def test_what_cannot_be_sliced_says_why(family: str, mask: UnitMask, reason: str) -> None:
    parts, means = prepared(family)
    with pytest.raises(OptionError, match=f"{reason}.*Export the masked form"):
        sliced_model(parts, mask, means)


def test_a_bias_that_a_family_cannot_have_is_named() -> None:
    parts, means = prepared("qwen2")
    with pytest.raises(OptionError, match="bias in the attention output, which 'qwen2' cannot have.*--ablation zero"):
        masked_model(parts, HEADS, means)
    parts, means = prepared("mixtral")
    with pytest.raises(OptionError, match="mixture of experts"):
        masked_model(parts, FULL - UnitMask.from_names(["a0.mlp"], 3, 4), means)
    other = prepared("llama", num_hidden_layers=2)[1]
    with pytest.raises(OptionError, match="means have shapes"):
        masked_model(parts, HEADS, other)

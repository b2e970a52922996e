"""The parts that are found are the right ones, in families that are named and in ones that are not."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
import torch
from cases.tiny_models import DECODERS, FAMILIES, tiny_model
from transformers import AutoModel, BertConfig, MambaConfig, MambaForCausalLM, T5Config, T5ForConditionalGeneration

from glassworks.errors import UnsupportedArchitecture
from glassworks.foundations.anatomy import anatomy


class Facts(NamedTuple):
    """What is known of a tiny model: key-value heads, head size, the second layer's modules, norms, numbers."""

    key_value_heads: int
    head_dim: int
    attention_output: str
    mlp_output: str
    norms: str = "pre"
    parallel: bool = False
    multiplier: float = 1.0


_LLAMA = ("model.layers.1.self_attn.o_proj", "model.layers.1.mlp.down_proj")
_NEOX = ("gpt_neox.layers.1.attention.dense", "gpt_neox.layers.1.mlp.dense_4h_to_h")
_BERT = ("bert.encoder.layer.1.attention.output.dense", "bert.encoder.layer.1.output.dense")
_ROBERTA = tuple(name.replace("bert", "roberta", 1) for name in _BERT)
_DISTILBERT = ("distilbert.transformer.layer.1.attention.out_lin", "distilbert.transformer.layer.1.ffn.lin2")

KNOWN = {
    "gpt2": Facts(4, 8, "transformer.h.1.attn.c_proj", "transformer.h.1.mlp.c_proj"),
    "gpt_neox": Facts(4, 8, *_NEOX, parallel=True),
    "gpt_neox_sequential": Facts(4, 8, *_NEOX),
    "llama": Facts(2, 8, *_LLAMA),
    "llama_bias": Facts(2, 8, *_LLAMA),
    "mistral": Facts(2, 8, *_LLAMA),
    "mixtral": Facts(2, 8, _LLAMA[0], "model.layers.1.mlp"),
    "qwen2": Facts(2, 8, *_LLAMA),
    "qwen3": Facts(2, 12, *_LLAMA),
    "phi3": Facts(2, 8, *_LLAMA),
    "granite": Facts(2, 8, *_LLAMA, multiplier=0.4),
    "olmo2": Facts(2, 8, *_LLAMA, norms="post"),
    "gemma2": Facts(2, 12, *_LLAMA, norms="pre post"),
    "gemma3": Facts(2, 12, *_LLAMA, norms="pre post"),
    "bert": Facts(4, 8, *_BERT, norms="sum"),
    "bert_classifier": Facts(4, 8, *_BERT, norms="sum"),
    "roberta": Facts(4, 8, *_ROBERTA, norms="sum"),
    "roberta_classifier": Facts(4, 8, *_ROBERTA, norms="sum"),
    "distilbert_classifier": Facts(4, 8, *_DISTILBERT, norms="sum"),
    "electra_classifier": Facts(4, 8, *(name.replace("bert", "electra", 1) for name in _BERT), norms="sum"),
    "deberta_classifier": Facts(4, 8, *(name.replace("bert", "deberta", 1) for name in _BERT), norms="sum"),
    "modernbert_classifier": Facts(4, 8, "model.layers.1.attn.Wo", "model.layers.1.mlp.Wo"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_of_each_family(family: str) -> None:
    known, found = KNOWN[family], anatomy(tiny_model(family))
    layer = found.layers[1]
    assert (found.num_layers, found.num_heads, found.hidden_size) == (3, 4, 32)
    assert (found.num_key_value_heads, layer.attention.head_dim) == (known.key_value_heads, known.head_dim)
    assert found.name_of(found.attention_output(1)) == known.attention_output
    assert found.name_of(found.mlp_output(1)) == known.mlp_output
    assert layer.parallel is known.parallel
    assert layer.attention_multiplier == layer.mlp_multiplier == known.multiplier
    for sub in ("attention", "mlp"):
        present = {
            "pre": getattr(layer, f"pre_{sub}_norm"),
            "post": getattr(layer, f"post_{sub}_norm"),
            "sum": getattr(layer, f"{sub}_sum_norm"),
        }
        assert " ".join(name for name, norm in present.items() if norm is not None) == known.norms


def test_numbers_that_change_scores_and_logits() -> None:
    gemma, granite, gemma3 = (anatomy(tiny_model(family)) for family in ("gemma2", "granite", "gemma3"))
    local, full = gemma.layers[0].attention, gemma.layers[1].attention
    assert (local.sliding_window, local.layer_type) == (5, "sliding_attention")
    assert (full.sliding_window, full.layer_type) == (None, "full_attention")
    assert (local.soft_cap, gemma.head.soft_cap, gemma.head.scale) == (2.0, 3.0, 1.0)
    assert local.scale == pytest.approx(10**-0.5)
    assert granite.embedding.scales == (3.0,)
    assert granite.head.scale == pytest.approx(1 / 2.5, abs=0)
    assert granite.layers[0].attention.scale == 0.3
    assert (gemma3.layers[0].attention.norm_scope, gemma3.layers[0].attention.rotary) == ("head", True)
    assert anatomy(tiny_model("olmo2")).layers[0].attention.norm_scope == "projection"


def test_embeddings_and_heads_of_encoders_and_decoders() -> None:
    gpt2, bert, classifier = (anatomy(tiny_model(family)) for family in ("gpt2", "bert", "bert_classifier"))
    assert gpt2.embedding.names == ("token", "position")
    assert gpt2.embedding.norm is None
    assert sorted(bert.embedding.names) == ["position", "token", "type"]
    assert bert.embedding.norm is not None
    assert bert.head.final_norm is None
    assert bert.name_of(bert.head.unembedding) == "cls.predictions.decoder"
    assert [classifier.name_of(module) for module in classifier.head.modules] == ["bert.pooler", "classifier"]
    assert gpt2.name_of(gpt2.head.final_norm) == "transformer.ln_f"
    assert gpt2.head.unembedding is gpt2.model.get_output_embeddings()


UNNAMED: dict[str, dict[str, Any]] = {
    "olmo": {},
    "stablelm": {"use_parallel_residual": True, "qk_layernorm": True},
    "starcoder2": {},
    "cohere": {},
    "smollm3": {},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "nemotron": {},
    "exaone4": {},
    "phi": {},
    "persimmon": {},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 3, "n_head": 4},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "bloom": {},
    "mpt": {"d_model": 32, "n_layers": 3, "n_heads": 4},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen3_moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}


@pytest.mark.parametrize("family", UNNAMED)
def test_families_that_no_line_names_are_read_by_structure(family: str) -> None:
    found = anatomy(tiny_model(family, **UNNAMED[family]))
    assert found.difference is not None
    assert found.difference <= 1e-10
    assert (found.num_layers, found.num_heads) == (3, 4)


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        # Queries, values and keys interleaved in an order of its own: recomposes, but its slices are not heads.
        ("codegen", {"n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4}, "slice of head"),
        # Two attentions are subtracted between heads, which then are not separate writers.
        ("diffllama", {}, "slice of head"),
        # A norm over all heads before the output map.
        ("bitnet", {}, "slice of head"),
        ("minimax", {}, "stream"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(family: str, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=reason) as refusal:
        anatomy(tiny_model(family, **settings))
    assert f"model type '{family}'" in str(refusal.value)
    assert "llama" in refusal.value.remedy
    assert "docs/how-to-add-a-family.md" in refusal.value.remedy


def test_other_kinds_of_model_are_refused() -> None:
    t5 = T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    mamba = MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, state_size=4)
    bert = BertConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    for model, reason in [
        (T5ForConditionalGeneration(t5), "encoder-decoder"),
        (MambaForCausalLM(mamba), "num_attention_heads|query, key and value"),
        (AutoModel.from_config(bert), "no logits"),
    ]:
        with pytest.raises(UnsupportedArchitecture, match=reason):
            anatomy(model)


@pytest.mark.parametrize("family", ["gpt2", "bert", "mixtral", "codegen"])
def test_the_model_is_left_as_it_was(family: str) -> None:
    settings = {"n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4} if family == "codegen" else {}
    model = tiny_model(family, **settings).train()
    next(model.children()).eval()
    next(model.parameters()).requires_grad_(False)

    def state() -> dict[str, Any]:
        modules = {
            name: (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m))
            for name, m in model.named_modules()
        }
        weights = {name: (p.requires_grad, p.grad, p.sum().item()) for name, p in model.named_parameters()}
        return {"modules": modules, "weights": weights, "random": torch.get_rng_state().sum().item()}

    before = state()
    if family == "codegen":
        with pytest.raises(UnsupportedArchitecture):
            anatomy(model)
    else:
        anatomy(model)
    assert state() == before


@pytest.mark.parametrize("family", DECODERS)
def test_descriptions_name_every_part(family: str) -> None:
    found = anatomy(tiny_model(family))
    about = json.loads(json.dumps(found.as_dict()))
    assert about["layers"][1]["attention"]["output"] == KNOWN[family].attention_output
    assert about["num_parameters"] == found.model.num_parameters()
    text = found.describe()
    assert "4 heads" in text
    assert KNOWN[family].attention_output.split("layers.1.")[-1].split("h.1.")[-1] in text
    assert "logits differ by" in text
    assert "not checked" in anatomy(found.model, check=False).describe()

"""Small random models, one a family: what each test that needs "any Hugging Face model" runs on.

A model has 3 layers, 4 heads, hidden size 32 and a vocabulary of 97 unless the family's point is another
shape. Every parameter is random, the scales and biases of norms and projections too, so that a part that is
forgotten changes the output. Dropout is 0 and the model is in eval mode. The same (family, seed, overrides)
gives the same weights in every process.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

VOCABULARY = 97
PAD_TOKEN = 0

_DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 130,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": PAD_TOKEN,
}
_ENCODER: dict[str, Any] = _DECODER | {
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "num_labels": 3,
}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
}
_DISTILBERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "dim": 32,
    "hidden_dim": 48,
    "n_layers": 3,
    "n_heads": 4,
    "max_position_embeddings": 130,
    "pad_token_id": PAD_TOKEN,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "seq_classif_dropout": 0.0,
    "num_labels": 3,
}
_LOCAL_AND_GLOBAL = ["sliding_attention", "full_attention", "sliding_attention"]


class _Family(NamedTuple):
    """model_type: as transformers names it; settings: arguments of its configuration; task: its Auto class."""

    model_type: str
    settings: dict[str, Any]
    task: str = "causal_lm"


_TABLE: dict[str, _Family] = {
    "gpt2": _Family("gpt2", _GPT2),
    "gpt_neox": _Family("gpt_neox", _DECODER | {"use_parallel_residual": True}),
    "gpt_neox_sequential": _Family("gpt_neox", _DECODER | {"use_parallel_residual": False}),
    "llama": _Family("llama", _DECODER),
    "llama_bias": _Family("llama", _DECODER | {"attention_bias": True, "mlp_bias": True}),
    "mistral": _Family("mistral", _DECODER | {"sliding_window": 5, "head_dim": 8}),
    "mixtral": _Family("mixtral", _DECODER | {"num_local_experts": 4, "head_dim": 8}),
    "qwen2": _Family("qwen2", _DECODER | {"tie_word_embeddings": True}),
    "qwen3": _Family("qwen3", _DECODER | {"head_dim": 12}),
    "phi3": _Family("phi3", _DECODER | {"resid_pdrop": 0.0, "embd_pdrop": 0.0}),
    "granite": _Family(
        "granite",
        _DECODER
        | {
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.3,
            "logits_scaling": 2.5,
        },
    ),
    "olmo2": _Family("olmo2", _DECODER),
    "gemma2": _Family(
        "gemma2",
        _DECODER
        | {
            "head_dim": 12,
            "sliding_window": 5,
            "query_pre_attn_scalar": 10,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "layer_types": _LOCAL_AND_GLOBAL,
        },
    ),
    "gemma3": _Family(
        "gemma3_text",
        _DECODER
        | {
            "head_dim": 12,
            "sliding_window": 5,
            "query_pre_attn_scalar": 10,
            "layer_types": _LOCAL_AND_GLOBAL,
        },
    ),
    "bert": _Family("bert", _ENCODER, "masked_lm"),
    "bert_classifier": _Family("bert", _ENCODER, "sequence_classification"),
    "roberta": _Family("roberta", _ENCODER, "masked_lm"),
    "roberta_classifier": _Family("roberta", _ENCODER, "sequence_classification"),
    "distilbert_classifier": _Family("distilbert", _DISTILBERT, "sequence_classification"),
    "electra_classifier": _Family("electra", _ENCODER | {"embedding_size": 16}, "sequence_classification"),
    "deberta_classifier": _Family("deberta-v2", _ENCODER, "sequence_classification"),
    "modernbert_classifier": _Family(
        "modernbert", _ENCODER | {"cls_token_id": 1, "sep_token_id": 2}, "sequence_classification"
    ),
}
FAMILIES: tuple[str, ...] = tuple(_TABLE)
DECODERS: tuple[str, ...] = tuple(name for name, family in _TABLE.items() if family.task == "causal_lm")
ENCODERS: tuple[str, ...] = tuple(name for name, family in _TABLE.items() if family.task != "causal_lm")

_AUTO = {
    "causal_lm": AutoModelForCausalLM,
    "masked_lm": AutoModelForMaskedLM,
    "sequence_classification": AutoModelForSequenceClassification,
}


def tiny_model(
    family: str, *, dtype: torch.dtype = torch.float64, seed: int = 0, task: str | None = None, **overrides: Any
) -> PreTrainedModel:
    """The small random model of `family`, in eval mode.

    family: one of FAMILIES, or the model_type of another decoder in transformers, which gets the usual sizes.
    task: causal_lm, masked_lm or sequence_classification instead of the family's own. overrides: arguments of the
    family's configuration.
    """
    row = _TABLE.get(family, _Family(family, _DECODER))
    config = AutoConfig.for_model(row.model_type, **(row.settings | overrides))
    # The grouped kernels for experts have no float64.
    model = _AUTO[task or row.task].from_config(config, dtype=dtype, experts_implementation="eager")
    randomise(model, seed=seed)
    return model.eval()


@torch.no_grad()
def randomise(model: nn.Module, *, seed: int = 0) -> None:
    """Redraw every parameter of `model` in place: vectors + 0.3 N(0, 1), matrices N(0, 1 / last dimension).

    Vectors are the scales and biases of norms and projections, which initialisation leaves at 0 and 1.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
        if parameter.ndim < 2:
            parameter.add_(0.3 * noise)
        else:
            parameter.copy_(noise * parameter.shape[-1] ** -0.5)


def random_tokens(batch: int, length: int, *, seed: int = 0, vocabulary: int = VOCABULARY) -> torch.Tensor:
    """Random token ids [batch, length] without the three special ones (padding, start, end)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, vocabulary, (batch, length), generator=generator)

"""The last step of a language model, hidden state to logits, as data: weight, bias, scale and soft cap.

`log_probs` works from this instead of from logits. `unembedding_of` reads it off a Hugging Face model by the
accessors and configuration fields that transformers itself uses; `verify_unembedding` proves it on that model.
Knows no model family by name.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.errors import OptionError, UnsupportedArchitecture

SCALES = {"logit_scale": 1, "output_multiplier": 1, "lm_head_multiplier": 1, "logits_scaling": -1}
"""Configuration fields that scale the logits, and the power they enter with (Cohere multiplies, Granite divides)."""

SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


@dataclass(frozen=True, eq=False)
class Unembedding:
    """logits = cap tanh(scale (hidden weight^T + bias) / cap), without tanh where soft_cap is None.

    weight: [vocab, hidden]; bias: [vocab] or None; soft_cap > 0. Raises OptionError.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    soft_cap: float | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.weight.shape)
        if len(shape) != 2:
            raise OptionError(f"the unembedding weight has shape {shape}, expected [vocab, hidden]")
        if self.bias is not None and tuple(self.bias.shape) != shape[:1]:
            raise OptionError(f"the bias has shape {tuple(self.bias.shape)}, expected [{shape[0]}]")
        if self.soft_cap is not None and not self.soft_cap > 0:
            raise OptionError(f"soft_cap is {self.soft_cap}, expected above 0", remedy="None means no cap.")

    @property
    def vocabulary(self) -> int:
        """The number of tokens that logits are given for."""
        return self.weight.shape[0]

    def logits(self, hidden: Tensor, columns: slice = slice(None)) -> Tensor:
        """Logits of the tokens in `columns`, fp32 (float64 for float64 weights), [..., columns].

        hidden: [..., hidden], of the weight's dtype. Holds the whole result: for few positions, or by parts.
        """
        product = F.linear(hidden, self.weight[columns], None if self.bias is None else self.bias[columns])
        logits = product if product.dtype == torch.float64 else product.float()
        if self.scale != 1:
            logits = logits * self.scale
        return logits if self.soft_cap is None else torch.tanh(logits / self.soft_cap) * self.soft_cap


def language_model_of(model: nn.Module) -> Any:
    """The Hugging Face model inside an adapter wrapper (peft), or the model itself."""
    unwrap = getattr(model, "get_base_model", None)
    return unwrap() if callable(unwrap) else model


def unembedding_of(model: nn.Module) -> Unembedding:
    """The unembedding of a causal language model; its tensors are the model's own, so gradients reach them.

    Raises UnsupportedArchitecture where the model has no linear output layer.
    """
    inner = language_model_of(model)
    getter = getattr(inner, "get_output_embeddings", None)
    layer = getter() if callable(getter) else None
    if not isinstance(layer, nn.Linear):
        raise UnsupportedArchitecture(
            f"the output layer is {type(layer).__name__}, expected a Linear",
            place=type(inner).__name__,
            remedy="Load the model with AutoModelForCausalLM.",
        )
    config = inner.config.get_text_config()
    scale = 1.0
    for field, power in SCALES.items():
        scale *= float(getattr(config, field, None) or 1.0) ** power
    caps = [cap for field in SOFT_CAPS if (cap := getattr(config, field, None))]
    return Unembedding(layer.weight, layer.bias, scale, caps[0] if caps else None)


def hidden_states(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
) -> Tensor:
    """What the model's unembedding reads, after the final norm, [batch, seq, hidden].

    input_ids: [batch, seq]; attention_mask: 1 for tokens, 0 for padding, [batch, seq]; position_ids: [batch, seq],
    counted from a row's first token where absent, so that left and right padding give the same states.
    """
    backbone = language_model_of(model).base_model
    accepted = inspect.signature(backbone.forward).parameters
    arguments: dict[str, object] = {"use_cache": False} if "use_cache" in accepted else {}
    if position_ids is None and attention_mask is not None:
        position_ids = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)
    if position_ids is not None and "position_ids" in accepted:
        arguments["position_ids"] = position_ids
    states: Tensor = backbone(input_ids=input_ids, attention_mask=attention_mask, **arguments)[0]
    return states


@torch.no_grad()
def verify_unembedding(model: PreTrainedModel, tolerance: float = 1e-3) -> Unembedding:
    """The model's unembedding, after its logits on four tokens were compared with the model's own.

    tolerance: largest difference allowed, relative to the largest logit. Raises UnsupportedArchitecture.
    """
    unembedding = unembedding_of(model)
    tokens = torch.arange(4, device=unembedding.weight.device).unsqueeze(0) % unembedding.vocabulary
    mask = torch.ones_like(tokens)
    training = model.training
    model.eval()
    try:
        expected = model(input_ids=tokens, attention_mask=mask).logits.float()
        received = unembedding.logits(hidden_states(model, tokens, mask)).float()
    finally:
        model.train(training)
    if received.shape == expected.shape:
        difference = float((received - expected).abs().max() / expected.abs().max().clamp_min(1e-6))
        if difference <= tolerance:
            return unembedding
    raise UnsupportedArchitecture(
        "the logits from its hidden states and output layer are not the model's own logits",
        place=type(language_model_of(model)).__name__,
        remedy="It transforms them further: add the configuration field to SCALES or SOFT_CAPS.",
    )

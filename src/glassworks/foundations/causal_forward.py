"""One call of any decoder-only transformers model: the arguments that it takes, eval mode, no gradient.

Input: a model, token ids, mask, positions, a key-value cache. Output: logits. It finds out from the model what
can be done with its state: kept as keys and values, or only computed again. Knows no prompt and no policy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from glassworks.errors import UnsupportedArchitecture
from glassworks.foundations.unembedding import language_model_of

_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


class CausalForward:
    """A causal language model, called with the arguments that its forward takes, in eval mode, without gradient.

    cached: keys and values can be kept, copied and cut; otherwise every step reads the whole text again (models
    with a recurrent state, or without a cache). padded: rows of different lengths can share a batch; a recurrent
    state would take the padding in.
    Raises UnsupportedArchitecture for encoder-decoders.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        if getattr(config, "is_encoder_decoder", False):
            raise UnsupportedArchitecture(
                f"{config.model_type} is an encoder-decoder", remedy="Use a decoder-only language model."
            )
        inner = language_model_of(model)
        self._accepted = frozenset(inspect.signature(inner.forward).parameters)
        text = config.get_text_config(decoder=True)
        stateful = getattr(inner, "_is_stateful", False) or set(getattr(text, "layer_types", None) or ()) - _ATTENTION
        self.model: Any = model
        # transformers renamed the argument in the course of version 5.
        self._cache_name = "cache" if "cache" in self._accepted else "past_key_values"
        self.cached = self._cache_name in self._accepted and not stateful
        self.padded = "attention_mask" in self._accepted and not stateful
        lengths = (getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len"))
        self.vocabulary = int(text.vocab_size)
        self.limit: int | None = next((length for length in lengths if length), None)

    @property
    def device(self) -> torch.device:
        """Where the inputs go."""
        device: torch.device = self.model.device
        return device

    @torch.no_grad()
    def __call__(
        self,
        ids: Tensor,
        *,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
        cache: DynamicCache | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits [batch, seq, vocab], or [batch, 1, vocab] with last_only; `cache` grows by seq.

        ids [batch, seq]; mask [batch, past + seq], None where nothing is padded; positions [batch, seq].
        """
        arguments: dict[str, object] = {
            "attention_mask": mask,
            "position_ids": positions,
            self._cache_name: cache,
            "use_cache": cache is not None,
        }
        if last_only:
            arguments["logits_to_keep"] = 1
        known = {name: value for name, value in arguments.items() if name in self._accepted and value is not None}
        training = [module for module in self.model.modules() if module.training] if self.model.training else []
        self.model.eval()
        try:
            logits: Tensor = self.model(input_ids=ids, **known).logits
        finally:
            for module in training:
                module.training = True
        return logits[:, -1:] if last_only else logits


def mapped_cache(cache: DynamicCache, change: Callable[[Tensor], Tensor]) -> DynamicCache:
    """A cache with `change` applied to every layer's keys and values, each [rows, heads, seq, dim]."""
    # Layers that read another layer's keys and values stay empty.
    return DynamicCache(
        [(None, None) if keys is None else (change(keys), change(values)) for keys, values, *_ in cache]
    )

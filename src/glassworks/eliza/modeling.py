"""`compiled_eliza`: a decoder without norms whose weights are a compiled program, as a transformers model.

Plain causal softmax attention without scaling, ReLU MLPs, token and position tables, all in float32 or float64:
lower precision cannot hold positions and is refused. Bounds of the program (length, counts) are checked while it
runs; beyond one there is an error, never an answer. Supports a KV cache, generate(), safetensors and Auto classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from glassworks.errors import OptionError

FLOAT32_POSITIONS = 2048
"""Longest sequence whose squared positions float32 holds in a score: 64 p² / 16 <= 2^24."""


class CompiledElizaConfig(PreTrainedConfig):
    """Sizes of a compiled program. overflow: the dimension that is 1 where a count exceeds its bound."""

    model_type = "compiled_eliza"

    def __init__(
        self,
        vocab_size: int = 32,
        hidden_size: int = 64,
        intermediate_size: int = 64,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 2,
        head_dim: int = 8,
        max_position_embeddings: int = 512,
        max_count: int = 64,
        superposed: bool = False,
        **kwargs: Any,
    ) -> None:
        self.vocab_size, self.hidden_size, self.intermediate_size = vocab_size, hidden_size, intermediate_size
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.head_dim, self.max_position_embeddings = head_dim, max_position_embeddings
        self.max_count, self.superposed = max_count, superposed
        kwargs.setdefault("tie_word_embeddings", False)
        kwargs.setdefault("pad_token_id", 0)
        super().__init__(**kwargs)


class CompiledElizaAttention(nn.Module):
    """Causal softmax attention, scores unscaled."""

    scaling = 1.0

    def __init__(self, config: CompiledElizaConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads, self.head_dim = layer, config.num_attention_heads, config.head_dim
        inner = self.heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.o_proj = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(self, hidden_states: Tensor, mask: Tensor, cache: DynamicCache | None = None) -> tuple[Tensor, Tensor]:
        """What the heads write [batch, seq, hidden] and their weights [batch, heads, seq, keys]; mask is added."""
        q, k, v = (
            part(hidden_states).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        if cache is not None:
            k, v = cache.update(k, v, self.layer)
        weights = torch.softmax(q @ k.transpose(-1, -2) + mask, dim=-1)
        return self.o_proj((weights @ v).transpose(1, 2).flatten(2)), weights


class CompiledElizaMLP(nn.Module):
    """Linear, ReLU, linear."""

    def __init__(self, config: CompiledElizaConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[batch, seq, hidden] -> [batch, seq, hidden]."""
        written: Tensor = self.down_proj(torch.relu(self.up_proj(hidden_states)))
        return written


class CompiledElizaLayer(nn.Module):
    """Attention, then MLP, each added to the stream."""

    def __init__(self, config: CompiledElizaConfig, layer: int) -> None:
        super().__init__()
        self.attention = CompiledElizaAttention(config, layer)
        self.mlp = CompiledElizaMLP(config)

    def forward(self, hidden_states: Tensor, mask: Tensor, cache: DynamicCache | None = None) -> tuple[Tensor, Tensor]:
        """The stream after this layer [batch, seq, hidden], and the attention weights."""
        written, weights = self.attention(hidden_states, mask, cache)
        hidden_states = hidden_states + written
        return hidden_states + self.mlp(hidden_states), weights


class CompiledElizaModel(nn.Module):
    """The tables and layers. overflow: direction [hidden] along which the stream says that a count is too large."""

    def __init__(self, config: CompiledElizaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(CompiledElizaLayer(config, n) for n in range(config.num_hidden_layers))
        self.overflow = nn.Parameter(torch.zeros(config.hidden_size), requires_grad=False)


class CompiledElizaForCausalLM(PreTrainedModel, GenerationMixin):
    """A compiled script as a language model; make one with `compiling.compile_script`."""

    config_class = CompiledElizaConfig
    base_model_prefix = "model"

    def __init__(self, config: CompiledElizaConfig) -> None:
        super().__init__(config)
        self.model = CompiledElizaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights come from the compiler; a fresh model is all zeros."""
        for parameter in module.parameters(recurse=False):
            nn.init.zeros_(parameter)

    def get_input_embeddings(self) -> nn.Module:
        """The token table."""
        table: nn.Module = self.model.embed_tokens
        return table

    def get_output_embeddings(self) -> nn.Module:
        """The map to logits."""
        head: nn.Module = self.lm_head
        return head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: DynamicCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int = 0,
        past_key_values: DynamicCache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [batch, seq, vocab] of input_ids [batch, seq]; attention_mask [batch, past + seq] marks padding.

        Raises OptionError for half precision, a conversation beyond the program's length, or a count beyond its
        bound.
        """
        stream = self.model.embed_tokens(input_ids)
        if stream.dtype not in (torch.float32, torch.float64):
            raise OptionError(f"a compiled script runs in float32 or float64, not {stream.dtype}", place="dtype")
        cache = past_key_values if cache is None else cache  # the name is a matter of transformers' version
        if use_cache and cache is None:
            cache = DynamicCache()
        past = 0 if cache is None else int(cache.get_seq_length())
        places, mask = self._places(input_ids, attention_mask, position_ids, past)
        stream, mask = stream + self.model.embed_positions(places), mask.to(stream.dtype)
        streams, attentions = [stream] if output_hidden_states else [], []
        for layer in self.model.layers:
            stream, weights = layer(stream, mask, cache)
            if output_hidden_states:
                streams.append(stream)
            if output_attentions:
                attentions.append(weights)
        self._check_counts(stream, attention_mask)
        logits = self.lm_head(stream[:, -logits_to_keep:] if logits_to_keep else stream)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        # By place: the third field is called cache or past_key_values, by version of transformers.
        return CausalLMOutputWithPast(
            loss,  # type: ignore[arg-type]
            logits,
            cache,
            hidden_states=tuple(streams) if output_hidden_states else None,  # type: ignore[arg-type]
            attentions=tuple(attentions) if output_attentions else None,  # type: ignore[arg-type]
        )

    def _places(
        self, input_ids: Tensor, attention_mask: Tensor | None, position_ids: Tensor | None, past: int
    ) -> tuple[Tensor, Tensor]:
        """Positions [batch, seq] and the additive mask [batch, 1, seq, past + seq]."""
        batch, size = input_ids.shape
        total, limit = past + size, self.config.max_position_embeddings
        if self.dtype == torch.float32:
            limit = min(limit, FLOAT32_POSITIONS)
        order = torch.arange(total, device=input_ids.device)
        hidden = order > order[past:, None]
        if attention_mask is None:
            places = order[past:].expand(batch, -1)
            hidden = hidden.expand(batch, -1, -1)
        else:
            shown = attention_mask.to(torch.long)
            places = (shown.cumsum(-1) - 1).clamp_min(0)[:, past:]
            # A padded query may see itself, so that its row of the softmax is defined.
            own = order == order[past:, None]
            hidden = hidden | ((shown == 0)[:, None, :] & ~own)
        places = places if position_ids is None else position_ids.expand(batch, -1)
        if int(places.max()) >= limit:
            raise OptionError(
                f"the conversation has {int(places.max()) + 1} tokens, the compiled program holds {limit}",
                place="sequence",
                remedy="Compile with a larger --mechanisms.max_len, in float64 above 2048.",
            )
        return places, torch.zeros(hidden.shape, device=hidden.device).masked_fill(hidden, -torch.inf)[:, None]

    def _check_counts(self, stream: Tensor, attention_mask: Tensor | None) -> None:
        """Refuse to answer where a count of the program is beyond its bound. stream [batch, seq, hidden]."""
        flags = stream @ self.model.overflow.to(stream.dtype)
        if attention_mask is not None:
            flags = flags * attention_mask[:, -flags.shape[1] :]
        if bool((flags > 0.5).any()):
            raise OptionError(
                f"the conversation counts beyond {self.config.max_count} inputs of a kind",
                place="sequence",
                remedy="Compile with a larger --mechanisms.max_count.",
            )


AutoConfig.register("compiled_eliza", CompiledElizaConfig, exist_ok=True)
AutoModelForCausalLM.register(CompiledElizaConfig, CompiledElizaForCausalLM, exist_ok=True)

"""Where the heads and MLP blocks of an encoder-decoder are (T5 and its kin), for the gates of `head_masks`.

The Heuristic Core's units (2024, section 2) in three groups of rows, each with a gate a head: the encoder's
self-attention, the decoder's self-attention, and its cross-attention. The feed-forward block of an encoder layer is
gated in the encoder's row, that of a decoder layer in the row of its cross-attention, which it follows; rows of the
decoder's self-attention have none: `existing_units` says so, and a search does not count them. `foundations.anatomy`
reads models of one stack; this reads two by the family's own names, and refuses others. `parts_of` takes either.
Computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.errors import UnsupportedArchitecture
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.parts import Anatomy

FAMILIES = ("t5", "mt5", "umt5")
"""Model types whose blocks are layer[0].SelfAttention.o, layer[1].EncDecAttention.o and, last, DenseReluDense.wo."""


@dataclass(frozen=True)
class Row:
    """One attention: its group (encoder, decoder or cross), its output map and the MLP that follows it, if any."""

    group: str
    attention_output: nn.Module
    mlp_output: nn.Module | None


@dataclass(frozen=True, eq=False)
class EncoderDecoder:
    """Rows in the order encoder, decoder, cross, each group from its first layer on."""

    model: PreTrainedModel
    rows: tuple[Row, ...]
    num_heads: int
    head_dim: int
    hidden_size: int

    @property
    def num_layers(self) -> int:
        """Number of rows: encoder layers and twice the decoder layers."""
        return len(self.rows)

    def attention_output(self, row: int) -> nn.Module:
        """The map that writes the heads of a row; its input is [batch, seq, heads * head_dim]."""
        return self.rows[row].attention_output

    def mlp_output(self, row: int) -> nn.Module | None:
        """The last map of the MLP of a row, with output [batch, seq, hidden]; None for the decoder's self-attention."""
        return self.rows[row].mlp_output

    def row_of(self, group: str, layer: int) -> int:
        """The row of a layer of a group, as gates and unit names (a{row}.h{head}) count it."""
        return [index for index, row in enumerate(self.rows) if row.group == group][layer]

    def token_weights(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is a token and what padding, by group: 0 or 1, [batch, seq] of the encoder's or the decoder's input."""
        source = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
        if "decoder_input_ids" in batch:
            target = batch.get("decoder_attention_mask", torch.ones_like(batch["decoder_input_ids"]))
        else:  # a classifier's decoder gets the input, one place later
            target = torch.cat([torch.ones_like(source[:, :1]), source[:, :-1]], dim=1)
        return {"encoder": source, "decoder": target, "cross": target}


Parts = Anatomy | EncoderDecoder


def parts_of(model: PreTrainedModel) -> Parts:
    """Where the units of a model of one stack or of two are. Raises UnsupportedArchitecture."""
    return encoder_decoder(model) if model.config.is_encoder_decoder else anatomy(model)


def existing_units(parts: Parts) -> Tensor | None:
    """Which heads and MLPs there are, bool [rows, heads + 1]; None where every row has all."""
    if isinstance(parts, Anatomy):
        return None
    exists = torch.ones(parts.num_layers, parts.num_heads + 1, dtype=torch.bool)
    exists[:, -1] = torch.tensor([row.mlp_output is not None for row in parts.rows])
    return exists


def encoder_decoder(model: PreTrainedModel) -> EncoderDecoder:
    """The rows of a T5-like model. Raises UnsupportedArchitecture for another family, or blocks of other parts."""
    config = model.config
    if config.model_type not in FAMILIES:
        raise UnsupportedArchitecture(
            "its two stacks are not known",
            place=f"model type '{config.model_type}' ({type(model).__name__})",
            remedy=f"Encoder-decoders that work: {', '.join(FAMILIES)}.",
        )
    core = model.base_model  # of a classifier; a model with a language-model head is its own
    stacks = {name: core.get_submodule(name).get_submodule("block") for name in ("encoder", "decoder")}
    try:
        encoder = [
            Row("encoder", block.get_submodule("layer.0.SelfAttention.o"), _feed_forward(block))
            for block in stacks["encoder"].children()
        ]
        decoder = [
            Row("decoder", block.get_submodule("layer.0.SelfAttention.o"), None)
            for block in stacks["decoder"].children()
        ]
        cross = [
            Row("cross", block.get_submodule("layer.1.EncDecAttention.o"), _feed_forward(block))
            for block in stacks["decoder"].children()
        ]
    except AttributeError as error:
        raise UnsupportedArchitecture(
            f"a block has other parts than T5's ({error})", place=f"model type '{config.model_type}'",
            remedy="Layers with local attention or a mixture of experts are not read.",
        ) from None  # fmt: skip
    return EncoderDecoder(model, (*encoder, *decoder, *cross), config.num_heads, config.d_kv, config.d_model)


def _feed_forward(block: nn.Module) -> nn.Module:
    layers = list(block.get_submodule("layer").children())
    return layers[-1].get_submodule("DenseReluDense.wo")

"""Find the parts of a model from one recorded forward pass, by shapes and by which tensor went where.

Inputs: a model and the Recording of a short random input. Outputs: the Embedding, Layers and Head of `parts`.
Module names are used for one thing only: which of three equally shaped projections are queries, keys and values.
What is found is a hypothesis; `recompose.self_check` proves it or refuses the model. Raises Unexplained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from glassworks.foundations.dataflow import (
    Call,
    Recording,
    Unexplained,
    coefficients,
    is_linear,
    is_norm,
    linear_weight,
    same,
)
from glassworks.foundations.families import Fused
from glassworks.foundations.parts import Attention, Embedding, Head, Layer, Mlp, Projection
from glassworks.foundations.wiring import BlockTensors, wire

Pooling = Literal["none", "first", "last"]
Three = tuple[Projection, Projection, Projection]
ACTIVATIONS = (nn.ReLU(), nn.Tanh(), nn.GELU())


@dataclass(frozen=True)
class Finder:
    """Looks for parts in one recording. fused: the order assumed in fused projections, see families."""

    model: PreTrainedModel
    recording: Recording
    fused: Fused = "concatenated"

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the text model."""
        config: PreTrainedConfig = self.model.config.get_text_config()
        return config

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self._size("hidden_size")

    def _size(self, name: str) -> int:
        size = getattr(self.config, name, None)
        if not isinstance(size, int):
            raise Unexplained(f"the configuration has no {name}")
        return size

    @cached_property
    def blocks(self) -> nn.ModuleList:
        """The list of blocks: as many as the configuration says, each run once."""
        wanted = self._size("num_hidden_layers")
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == wanted and self._run_once(module):
                return module
        raise Unexplained(f"no list of {wanted} blocks that run once each")

    def _run_once(self, modules: nn.ModuleList) -> bool:
        return all(self.recording.of(module) is not None for module in modules)

    # The embedding

    def embedding(self) -> Embedding:
        """The tables whose rows, scaled and added, are the first block's input, and the norm and map after them."""
        before = self.recording.before(self.blocks[0])
        target = self.recording.once(self.blocks[0]).read
        tokens = self.recording.once(self.model.get_input_embeddings())
        projection = next((call for call in before if is_linear(call.module) and same(call.output, target)), None)
        if projection is not None:
            target = projection.read
        norm = next((call for call in before if is_norm(call.module) and same(call.output, target)), None)
        if norm is not None:
            target = norm.read
        others = [
            call
            for call in before
            if isinstance(call.module, nn.Embedding)
            and call.module is not tokens.module
            and call.output.ndim == 3
            and call.output.shape[-1] == tokens.output.shape[-1]
        ]
        tables = [tokens, *others]
        known = [*numbers_of(self.config), math.sqrt(self.hidden_size)]
        scales = coefficients(target, [call.output for call in tables], known)
        if scales is None:
            raise Unexplained("the first block's input is not a sum of embeddings")
        names = ("token", *("type" if "type" in call.name else "position" for call in others))
        modules = tuple(call.module for call in tables)
        after = (None if call is None else call.module for call in (norm, projection))
        return Embedding(modules, names, tuple(scales), *after)

    # The blocks

    def layers(self) -> tuple[Layer, ...]:
        """Every block with its parts."""
        layers = []
        for index, block in enumerate(self.blocks):
            try:
                layers.append(self._layer(index, block))
            except Unexplained as reason:
                raise Unexplained(f"layer {index}: {reason}") from None
        return tuple(layers)

    def _layer(self, index: int, block: nn.Module) -> Layer:
        attention = self._attention(index, block)
        norms = [call for call in self.recording.inside(block) if self._norms_the_stream(call, attention)]
        # An MLP is a module (Llama), a row of modules (OPT) or spread over others (BERT): whatever runs in the
        # block besides attention and norms.
        avoid = [attention.module, attention.output, *(call.module for call in norms)]
        mlp_calls = self.recording.outermost(block, avoid)
        if not mlp_calls:
            raise Unexplained("nothing runs besides attention and norms, so there is no MLP")
        mlp = Mlp(tuple(call.module for call in mlp_calls), self._mlp_output(mlp_calls[-1]))
        call = self.recording.once(block)
        tensors = BlockTensors(
            stream=call.read,
            out=call.output,
            attention_in=self.recording.once(attention.query.module).read,
            attention_out=self.recording.once(attention.output).output,
            mlp_in=mlp_calls[0].read,
            mlp_out=mlp_calls[-1].output,
        )
        wiring = wire(tensors, norms, numbers_of(self.config))
        return Layer(
            index,
            block,
            attention,
            mlp,
            parallel=wiring.parallel,
            attention_multiplier=wiring.attention_multiplier,
            mlp_multiplier=wiring.mlp_multiplier,
            **wiring.norms,
        )

    def _norms_the_stream(self, call: Call, attention: Attention) -> bool:
        inside = any(call.module is module for module in attention.module.modules())
        return is_norm(call.module) and not inside and call.output.shape[-1] == self.hidden_size

    def _mlp_output(self, last: Call) -> nn.Module:
        """The linear map that ends the MLP, else the whole module (a mixture of experts)."""
        if is_linear(last.module):
            return last.module
        inside = self.recording.inside(last.module)
        ends = [c.module for c in inside if is_linear(c.module) and same(c.output, last.output)]
        return ends[-1] if ends else last.module

    # Attention

    def _attention(self, index: int, block: nn.Module) -> Attention:
        # The attention reads the stream first, so a fused projection is the first linear map that runs; by its
        # shape alone it could be an MLP's.
        first = next((call.module for call in self.recording.inside(block) if is_linear(call.module)), None)
        for module in block.modules():
            projections = self._separate(module)
            if projections is None and first is not None and any(child is first for child in module.children()):
                projections = self._fused(first)
            if projections is not None and self.recording.of(module) is not None:
                output = self._attention_output(block, module, projections)
                return self._described(index, module, projections, output)
        raise Unexplained("no module holds the query, key and value projections")

    def _separate(self, module: nn.Module) -> Three | None:
        """Three linear maps side by side, told apart by the first letter of their names."""
        found: dict[str, nn.Module] = {}
        for name, child in module.named_children():
            letter = name.lower().removeprefix("w")[:1]
            if is_linear(child) and letter in ("q", "k", "v") and self.recording.of(child) is not None:
                found.setdefault(letter, child)
        if len(found) < 3:
            return None
        sizes = {letter: linear_weight(child).shape[0] for letter, child in found.items()}
        head_dim, odd = divmod(sizes["q"], self._size("num_attention_heads"))
        if odd or sizes["k"] % head_dim or sizes["k"] != sizes["v"]:
            raise Unexplained(f"projections of sizes {sizes} do not divide into heads")
        heads = {letter: size // head_dim for letter, size in sizes.items()}
        q, k, v = (Projection(found[x], 1, 0, heads[x], heads[x], head_dim) for x in "qkv")
        return q, k, v

    def _fused(self, linear: nn.Module) -> Three | None:
        """Queries, keys and values out of one linear map, recognised by its shape."""
        heads = self._size("num_attention_heads")
        head_dim = getattr(self.config, "head_dim", None) or self.hidden_size // heads
        size, width = linear_weight(linear).shape
        key_heads, odd = divmod(size - heads * head_dim, 2 * head_dim)
        if width != self.hidden_size or odd or key_heads < 1 or heads % key_heads:
            return None
        groups = 1 if self.fused == "concatenated" else key_heads
        q, kv = heads // groups, key_heads // groups
        edges = [(0, q), (q, q + kv), (q + kv, q + 2 * kv)]
        a, b, c = (Projection(linear, groups, *edge, q + 2 * kv, head_dim) for edge in edges)
        return a, b, c

    def _attention_output(self, block: nn.Module, module: nn.Module, found: Three) -> nn.Module:
        """The linear map from all heads to the residual stream: inside the module, or fed by it (BERT)."""
        width = found[0].num_heads * found[0].head_dim
        result = self.recording.once(module).output
        inside = set(map(id, module.modules())) - {id(p.module) for p in found}
        for call in reversed(self.recording.inside(block)):
            candidate: nn.Module = call.module
            fits = is_linear(candidate) and linear_weight(candidate).shape == (self.hidden_size, width)
            if fits and (id(candidate) in inside or same(call.input, result)):
                return candidate
        raise Unexplained(f"no linear map takes {width} head outputs to the residual stream")

    def _described(self, index: int, module: nn.Module, found: Three, output: nn.Module) -> Attention:
        norms = {name: norm for name, norm in module.named_children() if is_norm(norm)}
        first = {letter: next((n for name, n in norms.items() if name[0] == letter), None) for letter in "qk"}
        scope: Literal["none", "head", "projection"] = "none"
        if first["q"] is not None and (call := self.recording.of(first["q"])) is not None:
            scope = "projection" if call.output.shape[-1] == found[0].num_heads * found[0].head_dim else "head"
        types = getattr(self.config, "layer_types", None)
        kwargs = self.recording.once(module).kwargs
        window = _number(module, "sliding_window", "window_size")
        return Attention(
            module,
            *found,
            output,
            first["q"],
            first["k"],
            scope,
            scale=_number(module, "scaling", "scale"),
            soft_cap=_number(module, "attn_logit_softcapping", "softcap"),
            sliding_window=None if window is None else int(window),
            layer_type=types[index] if types else "",
            rotary=kwargs.get("position_embeddings") is not None,
        )

    # The head

    def head(self) -> Head:
        """Final norm, the modules after it, and how their output becomes the model's logits."""
        last = self.blocks[-1]
        after = {id(call) for call in self.recording.after(last)}
        calls = [call for call in self.recording.outermost(self.model, self.blocks) if id(call) in after]
        stream, final_norm = self.recording.once(last).output, None
        if calls and is_norm(calls[0].module) and same(calls[0].input, stream):
            stream, final_norm = calls[0].output, calls.pop(0).module
        linears = [call.module for call in self.recording.after(last) if is_linear(call.module)]
        if not calls or not linears:
            raise Unexplained("no linear map to logits after the last block")
        scale, soft_cap, pooling = self._logits(calls[-1].output)
        if same(calls[0].input, stream[:, 0]):
            pooling = "first"
        return Head(final_norm, tuple(_with_activations(calls)), linears[-1], scale, soft_cap, pooling)

    def _logits(self, output: Tensor) -> tuple[float, float | None, Pooling]:
        """Scale, soft-cap and pooling that make the head's output [batch, (seq,) labels] the model's logits."""
        logits = self.recording.logits
        pooling: Pooling = "none"
        if output.ndim == 3 and logits.ndim == 2:
            output, pooling = output[:, -1], "last"
        if same(output, logits):
            return 1.0, None, pooling
        if output.shape == logits.shape:
            rows, wanted = (x.reshape(1, -1, x.shape[-1]) for x in (output, logits))
            # A cap that the configuration names is tried first: on small logits it is nearly a factor of 1.
            for cap in soft_caps_of(self.config):
                if coefficients(wanted, [cap * torch.tanh(rows.double() / cap)]) == [1.0]:
                    return 1.0, cap, pooling
            known = numbers_of(self.config)
            if scale := coefficients(wanted, [rows], [*known, *(1 / number for number in known)]):
                return scale[0], None, pooling
        raise Unexplained("the logits are neither the head's output, nor that times a number or through a soft-cap")


def _with_activations(calls: Sequence[Call]) -> Iterator[nn.Module]:
    """The modules of a head in turn, with the activations that stand between them in code alone (DistilBERT)."""
    for before, call in zip([None, *calls], calls, strict=False):
        if before is not None and call.input is not None and not same(before.output, call.input):
            yield from [act for act in ACTIVATIONS if same(act(before.output), call.input)][:1]
        yield call.module


def numbers_of(config: PreTrainedConfig) -> list[float]:
    """The positive numbers of a configuration: what a multiplier may be."""
    return [value for _, value in _numbers(config)]


def soft_caps_of(config: PreTrainedConfig) -> list[float]:
    """The numbers that a configuration names as caps of logits, not of attention scores, routers or gates."""
    elsewhere = ("att", "router", "gate", "mlp")
    return [x for name, x in _numbers(config) if "cap" in name and not any(part in name for part in elsewhere)]


def _numbers(config: PreTrainedConfig) -> Iterator[tuple[str, float]]:
    for name, value in config.to_dict().items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
            yield name, float(value)


def _number(module: nn.Module, *names: str) -> float | None:
    """The first of these attributes that is a number."""
    values = (getattr(module, name, None) for name in names)
    return next((v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)), None)

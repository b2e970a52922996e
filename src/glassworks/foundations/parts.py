"""The parts of a Hugging Face transformer under one set of names, whatever its family calls them.

Every block is read as (each norm may be absent, each multiplier is 1 in most families):

    x = pre_attention_norm(h)         a = post_attention_norm(Σ heads + bias)     r = h + attention_multiplier · a
    r = attention_sum_norm(r)         (BERT: the norm of the sum)
    y = pre_mlp_norm(r), or of h where the block is parallel    m = post_mlp_norm(mlp(y))
    h = mlp_sum_norm(r + mlp_multiplier · m)

The parts are the model's own modules: reading a weight through them copies nothing, hooking one hooks the model.
They know nothing of how they were found (dataflow, anatomy) and compute nothing but slices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from glassworks.foundations.dataflow import linear_weight


@dataclass(frozen=True, eq=False)
class Projection:
    """The rows of a linear map that make the queries, keys or values of each head.

    The map's output is read as [groups, slots, head_dim]; this projection's heads are slots[start:stop] of each
    group. Queries alone in a module: one group. GPT-2, Phi-3: one group of all queries, keys and values.
    GPT-NeoX: one group a head of a query, a key and a value.
    """

    module: nn.Module
    groups: int
    start: int
    stop: int
    slots: int
    head_dim: int

    @property
    def num_heads(self) -> int:
        """How many heads this projection feeds."""
        return self.groups * (self.stop - self.start)

    @property
    def weight(self) -> Tensor:
        """[heads, head_dim, hidden], a view of the module's weight wherever strides allow."""
        return self._of_heads(linear_weight(self.module))

    @property
    def bias(self) -> Tensor | None:
        """[heads, head_dim], None where the module has no bias."""
        bias = self.module.bias
        return self._of_heads(bias) if isinstance(bias, Tensor) else None

    def _of_heads(self, features: Tensor) -> Tensor:
        grouped: Tensor = features.unflatten(0, (self.groups, self.slots, self.head_dim))  # type: ignore[no-untyped-call]
        return grouped[:, self.start : self.stop].flatten(0, 1)


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention of one layer: projections, the linear map that writes, and what its scores are made of.

    module: the smallest module that holds the projections and runs the attention. output: the linear map from the
    concatenated heads to the residual stream (`o_proj`); its input is [batch, seq, num_heads * head_dim].
    scale: factor of the scores, None where the module does not say. norm_scope: whether query and key norms run
    over one head or over all of them together.
    """

    module: nn.Module
    query: Projection
    key: Projection
    value: Projection
    output: nn.Module
    query_norm: nn.Module | None = None
    key_norm: nn.Module | None = None
    norm_scope: Literal["none", "head", "projection"] = "none"
    scale: float | None = None
    soft_cap: float | None = None
    sliding_window: int | None = None
    layer_type: str = ""
    rotary: bool = False

    @property
    def num_heads(self) -> int:
        """Query heads."""
        return self.query.num_heads

    @property
    def num_key_value_heads(self) -> int:
        """Key heads, and as many value heads: a divisor of num_heads."""
        return self.key.num_heads

    @property
    def head_dim(self) -> int:
        """Size of one head's query, key and value."""
        return self.query.head_dim

    @property
    def output_weight(self) -> Tensor:
        """[hidden, heads, head_dim], a view: what each head writes into the residual stream per unit of output."""
        weight: Tensor = linear_weight(self.output).unflatten(1, (self.num_heads, self.head_dim))  # type: ignore[no-untyped-call]
        return weight

    @property
    def output_bias(self) -> Tensor | None:
        """[hidden], None where the output map has no bias."""
        bias = self.output.bias
        return bias if isinstance(bias, Tensor) else None

    def output_slice(self, head: int) -> tuple[slice, slice]:
        """Index of query head `head` into `output.weight` as stored: columns of a Linear, rows of a Conv1D."""
        part = slice(head * self.head_dim, (head + 1) * self.head_dim)
        return (part, slice(None)) if isinstance(self.output, Conv1D) else (slice(None), part)


@dataclass(frozen=True, eq=False)
class Mlp:
    """The MLP of one layer: modules applied one after the other, and the one whose output is the MLP's.

    output: the last linear map, or the whole module where it is a mixture of experts.
    """

    modules: tuple[nn.Module, ...]
    output: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        """What the MLP makes of x [batch, seq, hidden], before norm and multiplier; the same shape."""
        for module in self.modules:
            x = first_tensor(module(x))
        return x


@dataclass(frozen=True, eq=False)
class Layer:
    """One block; see the module's header for how its parts combine."""

    index: int
    block: nn.Module
    attention: Attention
    mlp: Mlp
    pre_attention_norm: nn.Module | None = None
    post_attention_norm: nn.Module | None = None
    attention_sum_norm: nn.Module | None = None
    pre_mlp_norm: nn.Module | None = None
    post_mlp_norm: nn.Module | None = None
    mlp_sum_norm: nn.Module | None = None
    parallel: bool = False
    attention_multiplier: float = 1.0
    mlp_multiplier: float = 1.0


@dataclass(frozen=True, eq=False)
class Embedding:
    """How tokens enter the residual stream: projection(norm(Σ scale_i · table_i(...))), tables[0] being the tokens'.

    projection: a linear map from rows that are narrower than the stream (ELECTRA).
    """

    tables: tuple[nn.Module, ...]
    names: tuple[str, ...]
    scales: tuple[float, ...]
    norm: nn.Module | None = None
    projection: nn.Module | None = None


@dataclass(frozen=True, eq=False)
class Head:
    """From the residual stream to logits: final_norm, choice of position, modules in turn, scale, soft-cap.

    unembedding: the linear map to the vocabulary or the labels. pooling: the position that a classifier of
    sequences reads, "none" where logits of all are returned or a module of the head itself chooses (BERT).
    """

    final_norm: nn.Module | None
    modules: tuple[nn.Module, ...]
    unembedding: nn.Module
    scale: float = 1.0
    soft_cap: float | None = None
    pooling: Literal["none", "first", "last"] = "none"


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The parts of `model`. difference: the largest error of the recomposed logits, None where not checked."""

    model: PreTrainedModel
    embedding: Embedding
    layers: tuple[Layer, ...]
    head: Head
    hidden_size: int
    difference: float | None = None

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.layers)

    @property
    def num_heads(self) -> int:
        """Query heads of a layer: one head count holds for all layers of the families that are read."""
        return self.layers[0].attention.num_heads

    @property
    def num_key_value_heads(self) -> int:
        """Key-value heads of a layer."""
        return self.layers[0].attention.num_key_value_heads

    def attention_output(self, layer: int) -> nn.Module:
        """The map that writes the heads of `layer`; pre-hook it to read or gate [batch, seq, heads * head_dim]."""
        return self.layers[layer].attention.output

    def mlp_output(self, layer: int) -> nn.Module:
        """The last module of the MLP of `layer`; hook it to read or gate [batch, seq, hidden]."""
        return self.layers[layer].mlp.output

    def head_output_slice(self, layer: int, head: int) -> tuple[slice, slice]:
        """Index of one query head into the weight of `attention_output(layer)` as stored."""
        return self.layers[layer].attention.output_slice(head)

    def name_of(self, module: nn.Module) -> str:
        """The qualified name of a part in the model; raises KeyError for a module that is not in it."""
        for name, candidate in self.model.named_modules():
            if candidate is module:
                return str(name)
        raise KeyError(type(module).__name__)

    def as_dict(self) -> dict[str, Any]:
        """Every part by its qualified name, with sizes and numbers, in plain types for JSON."""
        names = {id(module): name for name, module in self.model.named_modules()}

        def plain(value: Any) -> Any:
            if isinstance(value, nn.Module):
                return names[id(value)]
            if isinstance(value, tuple):
                return [plain(item) for item in value]
            if dataclasses.is_dataclass(value):
                return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return value

        sizes = {"num_layers": self.num_layers, "hidden_size": self.hidden_size, "num_heads": self.num_heads}
        sizes |= {"num_key_value_heads": self.num_key_value_heads, "head_dim": self.layers[0].attention.head_dim}
        return {
            "model_type": self.model.config.model_type,
            "class": type(self.model).__name__,
            "num_parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            **sizes,
            "difference": self.difference,
            "embedding": plain(self.embedding),
            "layers": [plain(layer) for layer in self.layers],
            "head": plain(self.head),
        }

    def describe(self) -> str:
        """The anatomy as a page of text: embedding, each kind of layer once, head, proof."""
        about = self.as_dict()
        lines = [
            f"{about['class']} ({about['model_type']}), {about['num_parameters']:,} parameters: {self.num_layers} "
            f"layers, hidden size {self.hidden_size}, {self.num_heads} heads and {self.num_key_value_heads} "
            f"key-value heads of {about['head_dim']}",
            f"embedding   {_embedding_line(about['embedding'])}",
        ]
        pages = [_layer_lines(layer) for layer in about["layers"]]
        for page in dict.fromkeys(pages):
            indices = [index for index, other in enumerate(pages) if other == page]
            lines += [f"layers {_ranges(indices)}", *page]
        lines.append(f"head        {_head_line(about['head'])}")
        proof = "not checked" if self.difference is None else f"logits differ by {self.difference:.3g}"
        return "\n".join([*lines, f"recomposed  {proof}"])


def _embedding_line(about: dict[str, Any]) -> str:
    tables = [
        name if scale == 1.0 else f"{scale:g} x {name}"
        for name, scale in zip(about["tables"], about["scales"], strict=True)
    ]
    return ", then ".join([" + ".join(tables), *(about[part] for part in ("norm", "projection") if about[part])])


def _head_line(about: dict[str, Any]) -> str:
    steps = [name for name in (about["final_norm"], *about["modules"]) if name]
    facts = [f"{about['pooling']} position"] if about["pooling"] != "none" else []
    facts += [f"logits x {about['scale']:g}"] if about["scale"] != 1.0 else []
    facts += [f"soft-cap {about['soft_cap']:g}"] if about["soft_cap"] is not None else []
    return "; ".join([", ".join(steps), *facts])


def _layer_lines(about: dict[str, Any]) -> tuple[str, str]:
    """The attention line and the MLP line of one layer, names relative to its block so that layers compare."""
    attention, prefix = about["attention"], about["block"] + "."

    def short(name: str) -> str:
        return name.removeprefix(prefix)

    def steps(*names: str | None) -> str:
        return " -> ".join(short(name) for name in names if name)

    projections = dict.fromkeys(short(attention[kind]["module"]) for kind in ("query", "key", "value"))
    facts = [about["attention"]["layer_type"], "rotary" if attention["rotary"] else ""]
    facts.append(f"{attention['norm_scope']} query and key norms" if attention["query_norm"] else "")
    facts += [f"{name.replace('_', ' ')} {attention[name]:g}" for name in _NUMBERS if attention[name] is not None]
    facts.append(f"x {about['attention_multiplier']:g}" if about["attention_multiplier"] != 1.0 else "")
    facts.append("beside the MLP" if about["parallel"] else "")
    path = steps(
        about["pre_attention_norm"],
        " ".join(projections),
        attention["output"],
        about["post_attention_norm"],
        about["attention_sum_norm"],
    )
    mlp = steps(about["pre_mlp_norm"], *about["mlp"]["modules"], about["post_mlp_norm"], about["mlp_sum_norm"])
    factor = f"; x {about['mlp_multiplier']:g}" if about["mlp_multiplier"] != 1.0 else ""
    return "; ".join([f"  attention {path}", *filter(None, facts)]), f"  MLP       {mlp}{factor}"


_NUMBERS = ("scale", "soft_cap", "sliding_window")


def _ranges(indices: Sequence[int]) -> str:
    """'0-3, 5' of sorted indices."""
    spans: list[list[int]] = []
    for index in indices:
        if spans and index == spans[-1][1] + 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans)


def first_tensor(output: Any) -> Tensor:
    """The tensor, of any shape, that a module returns alone or first among others (experts add router scores)."""
    tensor: Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return tensor

"""A forward pass written only from the parts, and the proof that it is the model's own.

What a model hands to its attention modules (masks, rotary angles) and to its embedding tables (position ids) is
recorded from one run of the model by `trace`; everything else is done from the parts: embeddings, norms, every
head from its own copy of the residual stream, heads' writes summed with the biases, MLPs, final norm, logits.
Inputs: an Anatomy and the inputs of the model. Raises Unexplained (which `anatomy` reports as
UnsupportedArchitecture) with the size of the difference.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from glassworks.foundations.attention import AttentionCall, head_outputs, head_writes
from glassworks.foundations.dataflow import Unexplained, hooked, is_linear
from glassworks.foundations.parts import Anatomy, Embedding, Head, Layer, first_tensor
from glassworks.foundations.sharding import Shards

# Allowed error of the recomposed logits, to be multiplied by max(1, max |logit|). Most models compute norms and
# rotary angles in float32 whatever their type, so that in float64 the last bit of a float32 can turn.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 5e-2}


@dataclass
class Trace:
    """One plain run of the model.

    attention_calls, table_inputs: what the model gave each attention module and each embedding table.
    embeddings: one [batch, seq, hidden] a table, scaled, before the norm. heads: one
    [batch, seq, heads, head_dim] a layer, before the output map. mlps: one [batch, seq, hidden] a layer, before
    post-norm and multiplier. Both empty where activations were not asked for. logits: the model's own.
    """

    input_ids: Tensor
    attention_calls: list[AttentionCall] = field(default_factory=list)
    table_inputs: list[tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)
    mlps: list[Tensor] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


def trace(anatomy: Anatomy, input_ids: Tensor, *, activations: bool = True, **inputs: Any) -> Trace:
    """Run the model on input_ids [batch, seq] and note what its parts were given and, if asked, what they wrote.

    inputs: further arguments of the model's forward (attention_mask, token_type_ids, ...). Attention calls of one
    input serve every input of the same batch, length and padding. Gradients follow the caller's mode.
    """
    run = Trace(input_ids)

    def note_table(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run.table_inputs.append((args, kwargs))

    def note_call(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run.attention_calls.append(AttentionCall.of(args, kwargs, anatomy.hidden_size))

    def note_heads(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        run.heads.append(args[0].reshape(*args[0].shape[:-1], -1, head_dims[module]))

    def note_mlp(_: nn.Module, __: Any, output: Any) -> None:
        run.mlps.append(first_tensor(output))

    head_dims = {layer.attention.output: layer.attention.head_dim for layer in anatomy.layers}
    handles = [table.register_forward_pre_hook(note_table, with_kwargs=True) for table in anatomy.embedding.tables]
    for layer in anatomy.layers:
        handles.append(layer.attention.module.register_forward_pre_hook(note_call, with_kwargs=True))
        if activations:
            handles.append(layer.attention.output.register_forward_pre_hook(note_heads))
            handles.append(layer.mlp.modules[-1].register_forward_hook(note_mlp))
    if "use_cache" in inspect.signature(anatomy.model.forward).parameters:
        inputs.setdefault("use_cache", False)
    with hooked(handles):
        run.logits = anatomy.model(input_ids=input_ids, **inputs).logits
    return run


def embed(embedding: Embedding, run: Trace) -> tuple[Tensor, ...]:
    """What each table adds before the norm, one [batch, seq, width] a table; width is the stream's or its own."""
    shape = (*run.input_ids.shape, -1)
    rows = (table(*args, **kwargs) for table, (args, kwargs) in zip(embedding.tables, run.table_inputs, strict=True))
    return tuple(scaled(row, scale).expand(shape) for row, scale in zip(rows, embedding.scales, strict=True))


def entered(embedding: Embedding, rows: Sequence[Tensor]) -> Tensor:
    """The residual stream [batch, seq, hidden] before the first layer, from the rows of `embed`."""
    stream = normed(embedding.norm, torch.stack(tuple(rows)).sum(dim=0))
    return stream if embedding.projection is None else first_tensor(embedding.projection(stream))


def scaled(x: Tensor, factor: float) -> Tensor:
    """x of any shape times a factor; x itself where the factor is 1."""
    return x if factor == 1.0 else x * factor


def normed(norm: nn.Module | None, x: Tensor) -> Tensor:
    """The norm of x [batch, seq, hidden], x itself where there is none."""
    return x if norm is None else norm(x)


def mlp_write(layer: Layer, output: Tensor) -> Tensor:
    """What the MLP adds to the residual stream, given what `layer.mlp` returned; both [batch, seq, hidden]."""
    return scaled(normed(layer.post_mlp_norm, output), layer.mlp_multiplier)


def layer_forward(layer: Layer, stream: Tensor, call: AttentionCall) -> Tensor:
    """One block from its parts, every head reading its own copy of the residual stream [batch, seq, hidden]."""
    attention = layer.attention
    x = normed(layer.pre_attention_norm, stream)[:, :, None]
    many, few = (x.expand(-1, -1, n, -1) for n in (attention.num_heads, attention.num_key_value_heads))
    written = head_writes(layer, head_outputs(attention, many, few, few, call)).total
    middle = normed(layer.attention_sum_norm, stream + written)
    read = normed(layer.pre_mlp_norm, stream if layer.parallel else middle)
    return normed(layer.mlp_sum_norm, middle + mlp_write(layer, layer.mlp(read)))


def read_out(head: Head, stream: Tensor, last: Tensor | None = None) -> Tensor:
    """Logits [batch, seq, vocab], or [batch, labels] of a classifier, from the last residual stream.

    stream [batch, seq, hidden]. last [batch]: the position that a classifier with pooling "last" reads, by default
    the final one.
    """
    x = normed(head.final_norm, stream)
    if head.pooling == "first":
        x = x[:, 0]
    elif head.pooling == "last":
        x = x[:, -1] if last is None else x[torch.arange(len(x), device=x.device), last]
    for module in head.modules:
        x = first_tensor(module(x))
    x = scaled(x, head.scale)
    return x if head.soft_cap is None else head.soft_cap * torch.tanh(x / head.soft_cap)


def streams(anatomy: Anatomy, run: Trace) -> Iterator[Tensor]:
    """The residual stream before each layer and after the last, each [batch, seq, hidden], from the parts alone."""
    shards, embedding = Shards(anatomy.model), anatomy.embedding
    with shards.gathered(*embedding.tables, embedding.norm, embedding.projection):
        stream = entered(embedding, embed(embedding, run))
    yield stream
    for layer, call in zip(anatomy.layers, run.attention_calls, strict=True):
        with shards.gathered(layer.block):
            stream = layer_forward(layer, stream, call)
        yield stream


def recompose(anatomy: Anatomy, run: Trace) -> Tensor:
    """The logits of the model on the traced input, from the parts alone; shaped as the model's own."""
    *_, stream = streams(anatomy, run)
    with Shards(anatomy.model).gathered(anatomy.head.final_norm, *anatomy.head.modules):
        return read_out(anatomy.head, stream, _last_positions(anatomy, run.input_ids))


def _last_positions(anatomy: Anatomy, input_ids: Tensor) -> Tensor | None:
    """The last position [batch] that is not padding, None where padding is unknown or not looked at."""
    padding = getattr(anatomy.model.config.get_text_config(), "pad_token_id", None)
    if anatomy.head.pooling != "last" or padding is None:
        return None
    positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    return positions.masked_fill(input_ids == padding, -1).argmax(dim=-1)


@torch.no_grad()
def self_check(anatomy: Anatomy, input_ids: Tensor) -> float:
    """The largest difference between recomposed and own logits on input_ids [batch, seq], at least two equal rows.

    Raises Unexplained where it exceeds TOLERANCE, or where a head's slice also reaches other heads.
    """
    run, shards = trace(anatomy, input_ids, activations=False), Shards(anatomy.model)
    try:
        reads = list(streams(anatomy, run))
        with shards.gathered(anatomy.head.final_norm, *anatomy.head.modules):
            logits = read_out(anatomy.head, reads[-1])
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        # A norm, an MLP or a head that wants more than one tensor.
        raise Unexplained(f"the parts do not run on their own ({error})") from error
    experts = any(not is_linear(layer.mlp.output) for layer in anatomy.layers)
    difference = _compare(logits, run.logits, experts=experts)
    for layer, read, call in zip(anatomy.layers, reads, run.attention_calls, strict=False):
        with shards.gathered(layer.block):
            _check_slices(layer, normed(layer.pre_attention_norm, read), call)
    return difference


def _compare(ours: Tensor, theirs: Tensor, *, experts: bool) -> float:
    """The largest difference of two tensors of logits [..., vocab]; raises Unexplained above TOLERANCE.

    experts: in half precision a router may send a token to another expert, which changes its logits and few others:
    the median over positions is then judged instead of the largest.
    """
    if ours.shape != theirs.shape:
        raise Unexplained(f"recomposed logits are {list(ours.shape)}, the model's {list(theirs.shape)}")
    half = theirs.dtype in (torch.float16, torch.bfloat16)
    by_position = (ours.double() - theirs.double()).abs().amax(dim=-1)
    difference, largest = float(by_position.max()), float(theirs.abs().max())
    judged = float(by_position.median()) if half and experts else difference
    allowed = TOLERANCE.get(theirs.dtype, 5e-2) * max(1.0, largest)
    if not judged <= allowed:
        raise Unexplained(
            f"the parts do not recompose: logits differ by {judged:.3g} (allowed {allowed:.3g}, largest logit "
            f"{largest:.3g}){'; half precision may be the cause, float32 will tell' if half else ''}"
        )
    return difference


def _check_slices(layer: Layer, x: Tensor, call: AttentionCall) -> None:
    """Raise Unexplained unless one head's query, key and value reach that head (or its group) alone.

    x [batch, seq, hidden], equal rows. Recomposition cannot see this: fused queries, keys and values that are cut
    at the wrong place are joined again at the same place. A query moves its own head at its own position, a key or
    value the heads of its group, a value in proportion. Norms over all heads together let queries and keys move all.
    """
    attention = layer.attention
    heads, key_heads, last = attention.num_heads, attention.num_key_value_heads, x.shape[1] - 1
    head = heads - 1 - layer.index % max(1, heads - 1)
    group = head * key_heads // heads
    plain = [x[:, :, None].expand(-1, -1, n, -1) for n in (heads, key_heads, key_heads)]
    before = head_outputs(attention, plain[0], plain[1], plain[2], call)[0]
    noise = TOLERANCE.get(x.dtype, 5e-2) * float(before.abs().max())
    index = torch.arange(heads, device=x.device)
    joint = attention.norm_scope == "projection"
    for which, name in enumerate(("query", "key", "value")):
        own = index == head if name == "query" else index * key_heads // heads == group
        reached = torch.zeros(last + 1, heads, dtype=torch.bool, device=x.device)
        reached[last:] = torch.ones_like(own) if joint and name != "value" else own

        def moved(strength: float, which: int = which) -> Tensor:
            changed = list(plain)
            changed[which] = plain[which].clone(memory_format=torch.contiguous_format)
            changed[which][1, last, head if which == 0 else group] += strength * (x[1, 0] - x[1, last])
            return head_outputs(attention, changed[0], changed[1], changed[2], call)[1] - before

        if name != "query":
            reached = reached | reached[last]
        once = moved(1.0)
        leak = float(once.abs().amax(dim=-1).masked_fill(reached, 0).max())
        if leak > noise:
            raise Unexplained(
                f"layer {layer.index}: the {name} slice of head {head} also moves other heads or positions, by "
                f"{leak:.3g} (allowed {noise:.3g})"
            )
        if name == "value" and float((moved(2.0) - 2 * once).abs().max()) > 4 * noise:
            raise Unexplained(f"layer {layer.index}: attention is not linear in what was found as its values")

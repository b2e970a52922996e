"""Where a model reads its residual stream and what each place writes back: the order of a masked forward pass.

A site is one read followed by one write: a layer's attention (all of its q, k and v readers, all of its heads) or
its MLP. `graph_of` gives the computation graph of a model's parts; `attention_site` and `mlp_site` compute what
a site writes from what its readers received, with the model's own modules. Knows no gates and no buffer.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from glassworks.errors import OptionError, UnsupportedArchitecture
from glassworks.foundations.attention import AttentionCall, head_outputs, head_writes
from glassworks.foundations.graph import Graph
from glassworks.foundations.parts import Anatomy, Layer
from glassworks.foundations.recompose import mlp_write, normed


class Site(NamedTuple):
    """One read and write. readers: its columns of the graph; visible: how many writers they read, always the first.

    writes: the rows it writes.
    """

    layer: int
    is_mlp: bool
    readers: slice
    visible: int
    writes: slice


def graph_of(parts: Anatomy, *, embeddings: int = 1, ungrouped: bool = False) -> Graph:
    """The graph of a decoder. embeddings, ungrouped: as in `Graph`.

    Raises UnsupportedArchitecture for a model whose blocks are not those of a decoder, OptionError for two
    embedding writers where the model adds no position embeddings.
    """
    model_type = str(parts.model.config.model_type)
    if any(layer.attention_sum_norm is not None or layer.mlp_sum_norm is not None for layer in parts.layers):
        raise UnsupportedArchitecture(
            "its norms lie on the residual stream itself, which then is no sum of writers",
            place=f"model type '{model_type}'",
            remedy="Circuits are found in decoders: GPT-2, GPT-NeoX, Llama, Mistral, Qwen, Gemma, OLMo and their kin.",
        )
    shapes = {(one.attention.num_heads, one.attention.num_key_value_heads, one.parallel) for one in parts.layers}
    if len(shapes) > 1:
        raise UnsupportedArchitecture("its layers differ in heads or in order", place=f"model type '{model_type}'")
    mapped = parts.embedding.norm is not None or parts.embedding.projection is not None
    if embeddings == 2 and (len(parts.embedding.tables) < 2 or mapped):
        raise OptionError(
            "two embedding writers were asked for, but the model adds no position embeddings to its tokens'",
            place="embeddings",
            remedy="Use 1.",
        )
    heads, kv_heads, parallel = shapes.pop()
    return Graph(
        len(parts.layers),
        heads,
        kv_heads,
        embeddings,
        "parallel" if parallel else "sequential",
        ungrouped and kv_heads < heads,
    )


def sites_of(graph: Graph) -> list[Site]:
    """All sites but the final read, in the order of the forward pass."""
    sites = []
    for layer in range(graph.layers):
        first, start = graph.writers_before(layer), layer * graph.readers_per_layer
        mlp_reader, mlp_writer = start + graph.readers_per_layer - 1, first + graph.heads
        sites.append(Site(layer, False, slice(start, mlp_reader), first, slice(first, mlp_writer)))
        sees = int(graph.visible[mlp_reader])
        sites.append(Site(layer, True, slice(mlp_reader, mlp_reader + 1), sees, slice(mlp_writer, mlp_writer + 1)))
    return sites


def attention_site(layer: Layer, graph: Graph, reads: Tensor, call: AttentionCall) -> Tensor:
    """What each head writes [heads, batch, seq, hidden], its share of the output bias included.

    reads: the residual stream that each q, k and v reader received, [readers, batch, seq, hidden].
    """
    x = normed(layer.pre_attention_norm, reads)
    query, key, value = (
        part.permute(1, 2, 0, 3) for part in x.split([graph.heads, graph.kv_readers, graph.kv_readers])
    )
    return heads_written(layer, head_outputs(layer.attention, query, key, value, call))


def heads_written(layer: Layer, heads: Tensor) -> Tensor:
    """Each head's part of the attention's write [heads, batch, seq, hidden], from [batch, seq, heads, head_dim].

    The output bias is no head's own: each gets 1/H of it, as in the official code, so that the parts add up.
    """
    writes = head_writes(layer, heads)
    each = writes.heads.permute(2, 0, 1, 3)
    without_bias = layer.attention.output_bias is None and layer.post_attention_norm is None
    return each if without_bias else each + writes.bias / each.shape[0]


def mlp_site(layer: Layer, read: Tensor) -> Tensor:
    """What the MLP writes, from the stream that it received; both [1, batch, seq, hidden]."""
    return mlp_write(layer, layer.mlp(normed(layer.pre_mlp_norm, read[0])))[None]

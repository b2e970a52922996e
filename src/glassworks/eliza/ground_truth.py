"""The circuit of a compiled script: which edges carry anything, which of them some data need, and the proof.

An edge from a writer to a reader is true iff the writer writes a dimension that the reader reads; every other edge
carries exact zeros, so that removing all of them leaves the logits bit for bit as they were. A true edge is
necessary on given conversations if removing it alone changes a token of a reply. Input: Compiled and token ids.
Output: foundations' Circuit, to be scored against circuit finders. Edge Pruning's graph (2024, section 2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from glassworks.eliza.compiling import Compiled
from glassworks.eliza.interpreter import response_mask
from glassworks.eliza.modeling import CompiledElizaForCausalLM
from glassworks.eliza.program import HeadProgram, LayerProgram, Program
from glassworks.eliza.prompt_pairs import PromptPair
from glassworks.foundations.circuit import Circuit, Provenance
from glassworks.foundations.graph import Graph, Node

Removed = Sequence[tuple[Node, Node]]
"""Edges as (writer, reader)."""


def graph_of(program: Program) -> Graph:
    """The computation graph of a program's model: padded heads and neurons are nodes too."""
    return Graph(len(program.layers), program.heads, program.heads, embeddings=1)


def true_circuit(program: Program) -> Circuit:
    """Every edge whose writer writes what its reader reads."""
    graph = graph_of(program)
    written = [_written(program, node) for node in graph.writers]
    read = [_read(program, node) for node in graph.readers]
    kept = torch.tensor([[bool(w & r) for r in read] for w in written]) & graph.exists
    return Circuit(graph, kept, provenance=Provenance("compiled_eliza", ablation="zero", method="compiled", task="all"))


def _written(program: Program, node: Node) -> set[str]:
    if node.kind == "embedding":
        return set(program.embedded)
    layer = program.layers[node.layer]
    if node.kind == "mlp":
        return {name for neuron in layer.neurons for name in neuron.writes}
    head = _head(layer, node.number)
    return {copy.target for copy in head.copies} if head else set()


def _read(program: Program, node: Node) -> set[str]:
    if node.kind == "output":
        return {name for reading in program.unembed.values() for name in reading} | {"overflow"}
    layer = program.layers[node.layer]
    if node.kind == "mlp":
        return {name for neuron in layer.neurons for name in neuron.reading}
    head = _head(layer, node.number)
    if head is None:
        return set()
    if node.part == "v":
        return {name for copy in head.copies for name in copy.source}
    return {name for term in head.terms for name in (term.query if node.part == "q" else term.key)}


def _head(layer: LayerProgram, number: int) -> HeadProgram | None:
    return layer.heads[number] if number < len(layer.heads) else None


class Run(NamedTuple):
    """One pass with edges removed. logits [batch, seq, vocab]; writes: what each writer added [batch, seq, hidden].

    streams: the residual stream before each layer and after the last [batch, seq, hidden].
    """

    logits: Tensor
    writes: list[Tensor]
    streams: list[Tensor]


@torch.no_grad()
def run_without(
    model: CompiledElizaForCausalLM,
    input_ids: Tensor,
    removed: Removed = (),
    begun: Run | None = None,
    instead: Run | None = None,
) -> Run:
    """A pass of the model in which each removed edge's reader reads the stream less the writer's write.

    input_ids [batch, seq], no padding. Writers are numbered as in `graph_of`. Counts are not checked. begun: a pass
    without removed edges, to take what comes before the first reader from. instead: a pass on other ids of the same
    shape, whose writes removed edges carry (interchange); without it they carry zeros.
    """
    heads, size = model.config.num_attention_heads, input_ids.shape[1]
    by_reader: dict[Node, list[int]] = {}
    for writer, reader in removed:
        number = 0 if writer.kind == "embedding" else 1 + writer.layer * (heads + 1)
        number += writer.number if writer.kind == "head" else heads if writer.kind == "mlp" else 0
        by_reader.setdefault(reader, []).append(number)
    stream = model.model.embed_tokens(input_ids) + model.model.embed_positions.weight[:size]
    writes, streams, start = [stream], [stream], 0
    if begun is not None:
        start = min(reader.layer for reader in by_reader)
        writes, streams = begun.writes[: 1 + start * (heads + 1)], begun.streams[: start + 1]
        stream = streams[-1]
    mask = torch.full((size, size), -torch.inf, dtype=stream.dtype).triu(1)

    def less(reader: Node) -> Tensor:
        numbers = by_reader[reader]
        cut: Tensor = stream - torch.stack([writes[number] for number in numbers]).sum(dim=0)
        return cut if instead is None else cut + torch.stack([instead.writes[number] for number in numbers]).sum(dim=0)

    for layer, block in list(enumerate(model.model.layers))[start:]:
        attention = block.attention
        parts = []
        for letter in ("q", "k", "v"):
            project = getattr(attention, f"{letter}_proj")
            whole = project(stream).unflatten(-1, (heads, -1))
            for head in range(heads):
                reader = Node("head", layer, head, letter)  # type: ignore[arg-type]
                if reader in by_reader:
                    # The whole projection again: a slice of it may be summed in another order.
                    whole[:, :, head] = project(less(reader)).unflatten(-1, (heads, -1))[:, :, head]
            parts.append(whole.transpose(1, 2))
        q, k, v = parts
        mixed = torch.softmax(q @ k.transpose(-1, -2) + mask, dim=-1) @ v
        outputs = attention.o_proj.weight.unflatten(1, (heads, -1)).transpose(0, 1)
        written = [F.linear(mixed[:, head], outputs[head]) for head in range(heads)]
        writes += written
        stream = stream + torch.stack(written).sum(dim=0)
        reader = Node("mlp", layer)
        writes.append(block.mlp(less(reader) if reader in by_reader else stream))
        stream = stream + writes[-1]
        streams.append(stream)
    last = Node("output", model.config.num_hidden_layers)
    return Run(model.lm_head(less(last) if last in by_reader else stream), writes, streams)


def edge_nodes(graph: Graph, kept: Tensor) -> list[tuple[Node, Node]]:
    """The edges of a mask [writers, readers] as nodes."""
    return [(graph.writers[row], graph.readers[column]) for row, column in kept.nonzero().tolist()]


def replies(tokens: Sequence[str]) -> Tensor:
    """Positions [n] of a transcript at which the next token belongs to a reply."""
    return torch.tensor(response_mask(tokens)[1:]).nonzero().flatten()


def necessary_circuit(compiled: Compiled, conversations: Iterable[Sequence[str]]) -> Circuit:
    """The true edges whose removal changes a predicted token of some reply in the conversations."""
    circuit = true_circuit(compiled.program)
    graph, needed = circuit.graph, torch.zeros_like(circuit.kept)
    data = [(torch.tensor([compiled.encode(list(tokens))]), replies(tokens)) for tokens in conversations]
    whole = [run_without(compiled.model, ids) for ids, _ in data]
    expected = [run.logits[0, at].argmax(-1) for run, (_, at) in zip(whole, data, strict=True)]
    for row, column in circuit.kept.nonzero().tolist():
        edge = [(graph.writers[row], graph.readers[column])]
        for (ids, at), wanted, begun in zip(data, expected, whole, strict=True):
            if not torch.equal(run_without(compiled.model, ids, edge, begun).logits[0, at].argmax(-1), wanted):
                needed[row, column] = True
                break
    provenance = Provenance("compiled_eliza", ablation="zero", method="necessary", task=f"{len(data)} conversations")
    return Circuit(graph, needed, provenance=provenance)


def interchange_circuit(compiled: Compiled, pairs: Sequence[PromptPair]) -> Circuit:
    """The true edges whose removal alone changes a predicted token of some pair's last reply.

    A removed edge carries what its writer writes on the corrupted prompt, as in interchange ablation.
    """
    circuit = true_circuit(compiled.program)
    graph, needed = circuit.graph, torch.zeros_like(circuit.kept)
    shelves: dict[tuple[int, int], list[PromptPair]] = {}
    for pair in pairs:
        shelves.setdefault((len(pair.clean), pair.start), []).append(pair)
    data = []
    for (_, start), found in shelves.items():
        clean, corrupted = (
            torch.tensor([compiled.encode(list(tokens[:-1])) for tokens in side])
            for side in ([pair.clean for pair in found], [pair.corrupted for pair in found])
        )
        whole, other = run_without(compiled.model, clean), run_without(compiled.model, corrupted)
        data.append((clean, whole, other, slice(start - 1, None), whole.logits[:, start - 1 :].argmax(-1)))
    for row, column in circuit.kept.nonzero().tolist():
        edge = [(graph.writers[row], graph.readers[column])]
        needed[row, column] = any(
            not torch.equal(run_without(compiled.model, ids, edge, whole, other).logits[:, at].argmax(-1), wanted)
            for ids, whole, other, at, wanted in data
        )
    provenance = Provenance("compiled_eliza", ablation="interchange", method="necessary", task=f"{len(pairs)} pairs")
    return Circuit(graph, needed, provenance=provenance)


def non_edges_do_nothing(compiled: Compiled, tokens: Sequence[str]) -> bool:
    """Whether removing all edges that are not true at once leaves every logit bit for bit as it was."""
    circuit = true_circuit(compiled.program)
    ids = torch.tensor([compiled.encode(list(tokens))])
    others = edge_nodes(circuit.graph, circuit.graph.exists & ~circuit.kept)
    return torch.equal(run_without(compiled.model, ids).logits, run_without(compiled.model, ids, others).logits)

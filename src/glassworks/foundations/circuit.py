"""A circuit: the edges of a `Graph` that were kept, their scores, and where they come from.

Set algebra between circuits, conversion between one and two embedding writers, and removal of edges that cannot
carry anything (Edge Pruning's clean-up). Masks and scores are tensors [writers, readers]; nothing loops over
edges. Knows no model and no file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from glassworks.errors import GraphMismatch, OptionError
from glassworks.foundations.gates import keep_largest
from glassworks.foundations.graph import Edge, Graph


@dataclass(frozen=True)
class Provenance:
    """Where a circuit comes from. model: its name; *_sha: fingerprints; ablation: what removed edges carry."""

    model: str = ""
    model_sha: str = ""
    tokenizer_sha: str = ""
    ablation: str = ""
    method: str = ""
    task: str = ""


class Overlap(NamedTuple):
    """How far two circuits share edges. iou: shared / in either; the shares are of each circuit's own edges.

    An empty circuit shares all of its edges; two empty circuits have iou 1.
    """

    shared: int
    iou: float
    share_of_first: float
    share_of_second: float


@dataclass(frozen=True, eq=False)
class Circuit:
    """kept: bool [writers, readers], within `graph.exists`; scores: fp32 [writers, readers], or None.

    nodes: which writers are on, bool [writers]; None means all. An edge acts if it is kept and its writer is on:
    set operations, overlaps and counts named effective use these. Raises GraphMismatch for other shapes.
    """

    graph: Graph
    kept: Tensor
    scores: Tensor | None = None
    nodes: Tensor | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        shape = (self.graph.n_writers, self.graph.n_readers)
        wanted = {"kept": (self.kept, shape), "scores": (self.scores, shape), "nodes": (self.nodes, shape[:1])}
        for name, (tensor, expected) in wanted.items():
            if tensor is not None and tuple(tensor.shape) != expected:
                raise GraphMismatch(
                    f"{name} has shape {tuple(tensor.shape)}, expected {expected} of a graph with {self.graph}"
                )
        if bool((self.kept & ~self.graph.exists).any()):
            raise GraphMismatch("the circuit keeps edges from a writer to a reader before it", place="circuit")

    @classmethod
    def from_edges(cls, graph: Graph, edges: list[tuple[str, str]], provenance: Provenance | None = None) -> Circuit:
        """A circuit of named edges, official or EAP names. Raises OptionError for a name the graph lacks."""
        return cls(graph, graph.mask(edges), provenance=provenance or Provenance())

    @classmethod
    def from_scores(cls, graph: Graph, scores: Tensor, n_edges: int, provenance: Provenance | None = None) -> Circuit:
        """The `n_edges` edges of the largest scores [writers, readers], ties by index. Raises OptionError."""
        return cls(graph, keep_largest(scores, n_edges, graph.exists), scores, None, provenance or Provenance())

    @property
    def effective(self) -> Tensor:
        """Kept edges whose writer is on, bool [writers, readers]."""
        return self.kept if self.nodes is None else self.kept & self.nodes.unsqueeze(1)

    @property
    def n_edges(self) -> int:
        """How many edges are kept."""
        return int(self.kept.sum())

    @property
    def edge_sparsity(self) -> float:
        """1 - kept / all edges, in [0, 1]."""
        return 1 - self.n_edges / self.graph.n_edges

    @property
    def effective_sparsity(self) -> float:
        """1 - effective / all edges, in [0, 1]."""
        return 1 - int(self.effective.sum()) / self.graph.n_edges

    @property
    def edges(self) -> list[Edge]:
        """The kept edges by name, in the order of their index."""
        return self.graph.edges(self.kept)

    def __and__(self, other: Circuit) -> Circuit:
        return self._combined(other, self.effective & self._comparable(other).effective, "&")

    def __or__(self, other: Circuit) -> Circuit:
        return self._combined(other, self.effective | self._comparable(other).effective, "|")

    def __sub__(self, other: Circuit) -> Circuit:
        return self._combined(other, self.effective & ~self._comparable(other).effective, "-")

    def same_edges(self, other: Circuit) -> bool:
        """Whether both keep the same effective edges. Raises GraphMismatch."""
        return bool(torch.equal(self.effective, self._comparable(other).effective))

    def overlap(self, other: Circuit) -> Overlap:
        """Shared effective edges, absolutely and as shares. Raises GraphMismatch."""
        mine, theirs = self.effective, self._comparable(other).effective
        shared, first, second = int((mine & theirs).sum()), int(mine.sum()), int(theirs.sum())
        union = first + second - shared

        def share(whole: int) -> float:
            return shared / whole if whole else 1.0

        return Overlap(shared, share(union), share(first), share(second))

    def with_embeddings(self, embeddings: int) -> Circuit:
        """The circuit over a graph with one (from two) or two (from one) embedding writers.

        Two become one: an edge is kept if either was, with the larger score. One becomes two: both get it.
        Raises OptionError for other conversions: with 0 the embeddings are always read, which no edge expresses.
        """
        if embeddings == self.graph.embeddings:
            return self
        if {embeddings, self.graph.embeddings} != {1, 2}:
            raise OptionError(
                f"a circuit with {self.graph.embeddings} embedding writers cannot become one with {embeddings}",
                place="circuit",
                remedy="Convert between 1 and 2 only.",
            )
        convert = _merge_first_two if embeddings == 1 else _double_first
        return replace(
            self,
            graph=self.graph.with_embeddings(embeddings),
            kept=convert(self.kept),
            scores=None if self.scores is None else convert(self.scores),
            nodes=None if self.nodes is None else convert(self.nodes),
        )

    def prune_dead(self) -> Circuit:
        """The circuit without edges into or out of nodes that nothing feeds or that feed nothing.

        A writer is fed if it is an embedding or a fed writer reaches one of its readers (q, k or v alike); with 0
        embedding writers every head and MLP is fed. It is used if it reaches a used node or the final reader. A
        node that is off is neither. Under interchange ablation no output changes; under zero or mean ablation an
        unfed node may still emit its bias, so the caller decides.
        """
        on = torch.ones(self.graph.n_writers, dtype=torch.bool) if self.nodes is None else self.nodes
        alive = _used(self.graph, self.kept, on) & _fed(self.graph, self.kept, on)
        return replace(self, kept=self.kept & alive.unsqueeze(1) & _reader_alive(self.graph, alive), nodes=None)

    def _comparable(self, other: Circuit) -> Circuit:
        if other.graph != self.graph:
            raise GraphMismatch(
                f"one circuit is of a graph with {self.graph}, the other of one with {other.graph}",
                remedy="Compare circuits of one convention; with_embeddings converts between 1 and 2 writers.",
            )
        return other

    def _combined(self, other: Circuit, kept: Tensor, sign: str) -> Circuit:
        mine, theirs = vars(self.provenance), vars(other.provenance)
        shared = {
            key: value if value == theirs[key] else f"{value} {sign} {theirs[key]}" for key, value in mine.items()
        }
        return Circuit(self.graph, kept, provenance=Provenance(**shared))


def _merge_first_two(values: Tensor) -> Tensor:
    # The maximum is "either" for masks and the larger score for scores.
    return torch.cat([torch.maximum(values[:1], values[1:2]), values[2:]])


def _double_first(values: Tensor) -> Tensor:
    return torch.cat([values[:1], values])


def _attention_readers(graph: Graph, layer: int) -> slice:
    # Columns of a layer's q, k and v readers; its MLP's is the next one.
    start = layer * graph.readers_per_layer
    return slice(start, start + graph.readers_per_layer - 1)


def _fed(graph: Graph, kept: Tensor, on: Tensor) -> Tensor:
    # Writers are in topological order, so one pass is the fixed point.
    if graph.embeddings == 0:
        return on
    fed = torch.zeros_like(on)
    fed[: graph.embeddings] = on[: graph.embeddings]
    for layer in range(graph.layers):
        attention, first = _attention_readers(graph, layer), graph.writers_before(layer)
        reached = (kept[:first, attention] & fed[:first].unsqueeze(1)).any(0)
        queries, keys, values = reached.split([graph.heads, graph.kv_readers, graph.kv_readers])
        mlp = first + graph.heads
        fed[first:mlp] = (queries | (keys | values).repeat_interleave(graph.group_size)) & on[first:mlp]
        before = int(graph.visible[attention.stop])
        fed[mlp] = (kept[:before, attention.stop] & fed[:before]).any() & on[mlp]
    return fed


def _used(graph: Graph, kept: Tensor, on: Tensor) -> Tensor:
    used = kept[:, -1] & on
    for layer in reversed(range(graph.layers)):
        attention, first = _attention_readers(graph, layer), graph.writers_before(layer)
        mlp = first + graph.heads
        if used[mlp]:
            used |= kept[:, attention.stop] & on
        groups = used[first:mlp].view(graph.kv_readers, graph.group_size).any(1)
        wanted = torch.cat([used[first:mlp], groups, groups])
        used |= (kept[:, attention] & wanted).any(1) & on
    return used


def _reader_alive(graph: Graph, alive: Tensor) -> Tensor:
    # A reader lives with its node; a shared key or value reader with any head of its group.
    layers = alive[graph.embeddings :].view(graph.layers, graph.heads + 1)
    groups = layers[:, :-1].reshape(graph.layers, graph.kv_readers, graph.group_size).any(2)
    columns = torch.cat([layers[:, :-1], groups, groups, layers[:, -1:]], dim=1)
    return torch.cat([columns.flatten(), torch.ones(1, dtype=torch.bool)])

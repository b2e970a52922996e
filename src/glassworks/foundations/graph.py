"""The computation graph of a transformer, at the grain of heads, MLPs and the edges between them.

Edge Pruning (2024, section 2) and its relatives find circuits in this graph: every writer (embedding, head, MLP)
adds to the residual stream, every reader (a head's query, key and value input, an MLP's input, the final norm)
reads the sum of the writers before it. A `Graph` is six numbers; it names and counts, and gives masks and scores
the shape [writers, readers]. What was kept of it is a `circuit.Circuit`; files are in `circuit_files`. Knows no
weights and no model class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from glassworks.errors import OptionError

Kind = Literal["embedding", "head", "mlp", "output"]
Part = Literal["", "q", "k", "v"]
EMBEDDING_NAMES: dict[int, tuple[str, ...]] = {0: (), 1: ("embeds",), 2: ("tok_embeds", "pos_embeds")}
FINAL_READER = "resid_post"


class Node(NamedTuple):
    """A writer or a reader. layer: from 0, -1 for embeddings, the number of layers for the final reader.

    number: the head, the key/value head of a grouped k or v reader, or which embedding. part: q, k or v of a
    head's reader, else empty.
    """

    kind: Kind
    layer: int
    number: int = 0
    part: Part = ""


class Edge(NamedTuple):
    """An edge by its official names: `a0.h1` to `a3.h2.q`."""

    writer: str
    reader: str


@dataclass(frozen=True)
class Graph:
    """The graph of a decoder with `layers` layers of `heads` query heads and `kv_heads` key/value heads.

    embeddings: 1 = one writer for the embedding sum (ACDC, EAP, MIB), 2 = tokens and positions apart, 0 = always
    read, neither gated nor counted. block: in a "parallel" block the MLP reads what the heads read. ungrouped:
    one k and v reader for each query head instead of one for each key/value head. Edge counts and sparsities of
    different conventions are not comparable. Raises OptionError.
    """

    layers: int
    heads: int
    kv_heads: int
    embeddings: int = 1
    block: Literal["sequential", "parallel"] = "sequential"
    ungrouped: bool = False

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.kv_heads) < 1 or self.heads % self.kv_heads:
            raise OptionError(
                f"{self.layers} layers, {self.heads} heads and {self.kv_heads} key/value heads",
                place="graph",
                remedy="Each is at least 1, and the key/value heads divide the heads.",
            )
        if self.embeddings not in EMBEDDING_NAMES:
            raise OptionError(f"{self.embeddings} embedding writers, expected 0, 1 or 2", place="graph")
        if self.block not in ("sequential", "parallel"):
            raise OptionError(f"block '{self.block}', expected sequential or parallel", place="graph")

    def __str__(self) -> str:
        kv = f"{self.heads} ungrouped from {self.kv_heads}" if self.ungrouped else str(self.kv_heads)
        return (
            f"{self.layers} layers, {self.heads} heads, {kv} key/value heads, "
            f"{self.embeddings} embedding writers, {self.block} blocks"
        )

    @property
    def kv_readers(self) -> int:
        """Key readers of a layer, and value readers: K, or H where ungrouped."""
        return self.heads if self.ungrouped else self.kv_heads

    @property
    def group_size(self) -> int:
        """Query heads that share a key or value reader."""
        return self.heads // self.kv_readers

    @property
    def n_writers(self) -> int:
        """W = E + L (H + 1)."""
        return self.embeddings + self.layers * (self.heads + 1)

    @property
    def readers_per_layer(self) -> int:
        """H query, K key, K value readers and the MLP's: H + 2K + 1."""
        return self.heads + 2 * self.kv_readers + 1

    @property
    def n_readers(self) -> int:
        """R = L (H + 2K + 1) + 1."""
        return self.layers * self.readers_per_layer + 1

    @property
    def n_edges(self) -> int:
        """N: every pair of a writer and a reader after it."""
        heads, layers = self.heads, self.layers
        before_mlp = layers * heads if self.block == "sequential" else 0
        per_layer = layers * self.embeddings + (heads + 1) * layers * (layers - 1) // 2
        return self.readers_per_layer * per_layer + before_mlp + self.n_writers

    def writers_before(self, layer: int) -> int:
        """How many writers the attention of `layer` reads; layer = `layers` gives all."""
        return self.embeddings + layer * (self.heads + 1)

    @cached_property
    def visible(self) -> Tensor:
        """How many writers each reader reads, always the first ones, int64 [readers]."""
        before = self.embeddings + torch.arange(self.layers) * (self.heads + 1)
        counts = before.unsqueeze(1).repeat(1, self.readers_per_layer)
        if self.block == "sequential":
            counts[:, -1] += self.heads
        return torch.cat([counts.flatten(), torch.tensor([self.n_writers])])

    @cached_property
    def exists(self) -> Tensor:
        """Which pairs are edges, bool [writers, readers]; an edge's index is its place in this mask, row by row."""
        return torch.arange(self.n_writers).unsqueeze(1) < self.visible

    @cached_property
    def writers(self) -> tuple[Node, ...]:
        """All writers in topological order."""
        embeddings = [Node("embedding", -1, i) for i in range(self.embeddings)]
        for layer in range(self.layers):
            embeddings += [Node("head", layer, head) for head in range(self.heads)] + [Node("mlp", layer)]
        return tuple(embeddings)

    @cached_property
    def readers(self) -> tuple[Node, ...]:
        """All readers: of each layer the queries, keys, values and the MLP; then the final one."""
        parts: tuple[tuple[Part, int], ...] = (("q", self.heads), ("k", self.kv_readers), ("v", self.kv_readers))
        found: list[Node] = []
        for layer in range(self.layers):
            found += [Node("head", layer, head, part) for part, count in parts for head in range(count)]
            found.append(Node("mlp", layer))
        return (*found, Node("output", self.layers))

    @cached_property
    def writer_names(self) -> tuple[str, ...]:
        """Official names of the writers: embeds, a0.h0, ..., m0, ..."""
        return tuple(self.name(node) for node in self.writers)

    @cached_property
    def reader_names(self) -> tuple[str, ...]:
        """Official names of the readers: a0.h0.q, ..., m0, ..., resid_post."""
        return tuple(self.name(node) for node in self.readers)

    def name(self, node: Node) -> str:
        """The official name of a node of this graph."""
        if node.kind == "embedding":
            return EMBEDDING_NAMES[self.embeddings][node.number]
        if node.kind == "head":
            return f"a{node.layer}.h{node.number}" + (f".{node.part}" if node.part else "")
        return f"m{node.layer}" if node.kind == "mlp" else FINAL_READER

    def writer_index(self, name: str) -> int:
        """The row of a writer, by its official or EAP name. Raises OptionError."""
        return self._index(name, self._writer_rows, "writer")

    def reader_index(self, name: str) -> int:
        """The column of a reader, by its official or EAP name. Raises OptionError."""
        return self._index(name, self._reader_columns, "reader")

    def mask(self, edges: Iterable[tuple[str, str]]) -> Tensor:
        """The edges named, bool [writers, readers]. Raises OptionError for a name or a pair that the graph lacks."""
        pairs = [(self.writer_index(writer), self.reader_index(reader)) for writer, reader in edges]
        mask = torch.zeros_like(self.exists)
        if pairs:
            rows, columns = torch.tensor(pairs).T
            late = ~self.exists[rows, columns]
            if bool(late.any()):
                writer, reader = pairs[int(late.nonzero()[0])]
                raise OptionError(
                    f"{self.writer_names[writer]} does not come before {self.reader_names[reader]}",
                    place=f"edge {self.writer_names[writer]} -> {self.reader_names[reader]}",
                    remedy=f"The graph has {self}.",
                )
            mask[rows, columns] = True
        return mask

    def edges(self, mask: Tensor | None = None) -> list[Edge]:
        """The edges of a mask by name, in the order of their index; all when absent. mask: [writers, readers]."""
        chosen = self.exists if mask is None else mask
        writers, readers = self.writer_names, self.reader_names
        return [Edge(writers[row], readers[column]) for row, column in chosen.nonzero().tolist()]

    def with_embeddings(self, embeddings: int) -> Graph:
        """The same model's graph with another number of embedding writers."""
        return replace(self, embeddings=embeddings)

    def _index(self, name: str, table: dict[str, int], role: str) -> int:
        if name not in table:
            last = f"a{self.layers - 1}.h{self.heads - 1}"
            parts = ".q, .k or .v" if role == "reader" else ""
            ends = FINAL_READER if role == "reader" else ", ".join(EMBEDDING_NAMES[self.embeddings])
            heads = f"a0.h0 to {last} {parts}".strip()
            raise OptionError(
                f"unknown {role} '{name}'",
                place="graph",
                remedy=f"There are {heads}, m0 to m{self.layers - 1}{', ' + ends if ends else ''} ({self}).",
            )
        return table[name]

    @cached_property
    def _writer_rows(self) -> dict[str, int]:
        rows = {name: row for row, name in enumerate(self.writer_names)}
        return rows | ({"input": 0} if self.embeddings == 1 else {})

    @cached_property
    def _reader_columns(self) -> dict[str, int]:
        columns = {name: column for column, name in enumerate(self.reader_names)}
        eap = {re.sub(r"\.([qkv])$", r"<\1>", name): column for name, column in columns.items()}
        return columns | eap | {"logits": self.n_readers - 1}

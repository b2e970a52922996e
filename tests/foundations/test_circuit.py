"""Set algebra, embedding conversion and removal of dead edges, each against a slow reading of its definition."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import GraphMismatch, OptionError
from glassworks.foundations.circuit import Circuit, Provenance
from glassworks.foundations.graph import Graph

GRAPHS = [
    Graph(3, 4, 4),
    Graph(3, 4, 2, 2),
    Graph(2, 4, 1, 0),
    Graph(3, 2, 2, 1, "parallel"),
    Graph(2, 4, 2, 1, "sequential", True),
]


def random_circuit(graph: Graph, seed: int, density: float, node_density: float = 1.0) -> Circuit:
    generator = torch.Generator().manual_seed(seed)
    kept = (torch.rand(graph.exists.shape, generator=generator) < density) & graph.exists
    nodes = torch.rand(graph.n_writers, generator=generator) <= node_density
    return Circuit(graph, kept, nodes=None if node_density == 1 else nodes)


def slow_prune(circuit: Circuit) -> set[tuple[int, int]]:
    """The definition, edge by edge, repeated until nothing changes."""
    graph = circuit.graph
    on = set(range(graph.n_writers)) if circuit.nodes is None else set(circuit.nodes.nonzero().flatten().tolist())
    index = {(node.kind, node.layer, node.number): row for row, node in enumerate(graph.writers)}

    def owners(reader: int) -> set[int]:
        node = graph.readers[reader]
        if node.kind == "output":
            return set()
        if node.kind == "mlp" or node.part == "q":
            return {index[node.kind, node.layer, node.number]}
        heads = range(node.number * graph.group_size, (node.number + 1) * graph.group_size)
        return {index["head", node.layer, head] for head in heads}

    edges = {(w, r) for w, r in circuit.kept.nonzero().tolist()}
    while True:
        always = {w for w in on if graph.embeddings == 0 or graph.writers[w].kind == "embedding"}
        fed, used = set(always), set()
        for _ in range(graph.n_writers + 1):
            fed |= {node for w, r in edges if w in fed for node in owners(r) & on}
            used |= {w for w, r in edges if w in on and (owners(r) & used or r == graph.n_readers - 1)}
        alive = fed & used
        left = {(w, r) for w, r in edges if w in alive and (owners(r) & alive or r == graph.n_readers - 1)}
        if left == edges:
            return edges
        edges = left


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GRAPHS), st.integers(0, 2**20), st.floats(0.02, 0.4), st.sampled_from([1.0, 0.8]))
def test_dead_edges_go_as_defined(graph: Graph, seed: int, density: float, node_density: float) -> None:
    circuit = random_circuit(graph, seed, density, node_density)
    live = circuit.prune_dead()
    assert {(w, r) for w, r in live.kept.nonzero().tolist()} == slow_prune(circuit)
    assert live.prune_dead().same_edges(live)


def test_a_chain_survives_and_loose_ends_go() -> None:
    graph = Graph(3, 2, 2)
    chain = [("embeds", "a0.h1.v"), ("a0.h1", "a2.h0.k"), ("a2.h0", "resid_post")]
    unfed, unused = [("m0", "a1.h0.q"), ("a1.h0", "resid_post")], [("embeds", "m1"), ("m1", "a2.h1.q")]
    circuit = Circuit.from_edges(graph, chain + unfed + unused)
    assert circuit.n_edges == 7
    assert sorted(circuit.prune_dead().edges) == sorted(chain)


def test_without_embedding_writers_every_node_is_fed() -> None:
    edges = [("a0.h1", "m1"), ("m1", "resid_post")]
    assert Circuit.from_edges(Graph(2, 2, 2, 0), edges).prune_dead().n_edges == 2
    assert Circuit.from_edges(Graph(2, 2, 2, 1), edges).prune_dead().n_edges == 0


def test_a_node_that_is_off_carries_nothing() -> None:
    graph = Graph(2, 2, 2)
    edges = [("embeds", "a0.h0.q"), ("a0.h0", "resid_post"), ("embeds", "m0"), ("m0", "resid_post")]
    nodes = torch.ones(graph.n_writers, dtype=torch.bool)
    nodes[graph.writer_index("m0")] = False
    circuit = Circuit(graph, graph.mask(edges), nodes=nodes)
    assert circuit.edge_sparsity == pytest.approx(1 - 4 / 46)
    assert circuit.effective_sparsity == pytest.approx(1 - 3 / 46)
    assert circuit.prune_dead().edges == Circuit.from_edges(graph, edges[:2]).edges


@settings(deadline=None)
@given(st.sampled_from(GRAPHS), st.integers(0, 2**20), st.floats(0, 1), st.floats(0, 1))
def test_set_algebra_is_that_of_sets(graph: Graph, seed: int, first: float, second: float) -> None:
    a, b = random_circuit(graph, seed, first, 0.9), random_circuit(graph, seed + 1, second)
    mine, theirs = (set(graph.edges(circuit.effective)) for circuit in (a, b))
    assert set((a & b).edges) == mine & theirs
    assert set((a | b).edges) == mine | theirs
    assert set((a - b).edges) == mine - theirs
    overlap = a.overlap(b)
    assert overlap.shared == len(mine & theirs)
    assert overlap.iou == (len(mine & theirs) / len(mine | theirs) if mine | theirs else 1)
    assert overlap.share_of_first == (len(mine & theirs) / len(mine) if mine else 1)
    assert overlap.share_of_second == (len(mine & theirs) / len(theirs) if theirs else 1)


def test_a_combination_says_what_it_was_made_of() -> None:
    graph = Graph(1, 1, 1)
    a = Circuit.from_edges(graph, [("embeds", "m0")], Provenance("m", "1f", method="edge_pruning"))
    b = Circuit.from_edges(graph, [("embeds", "m0")], Provenance("m", "1f", method="eap"))
    assert (a & b).provenance == Provenance("m", "1f", method="edge_pruning & eap")


def test_circuits_of_other_graphs_are_refused_by_both_names() -> None:
    a, b = random_circuit(Graph(3, 4, 4), 0, 0.5), random_circuit(Graph(3, 4, 2), 0, 0.5)
    for operation in (a.__and__, a.__or__, a.__sub__, a.overlap, a.same_edges):
        with pytest.raises(GraphMismatch, match=r"4 key/value heads.*2 key/value heads"):
            operation(b)
    with pytest.raises(GraphMismatch, match="kept has shape"):
        Circuit(a.graph, b.kept)
    with pytest.raises(GraphMismatch, match="before it"):
        Circuit(a.graph, torch.ones_like(a.kept))


def test_top_edges_are_exact_and_ties_go_by_index() -> None:
    graph = Graph(2, 2, 2)
    scores = torch.zeros(graph.exists.shape)
    scores[graph.writer_index("m0"), graph.reader_index("resid_post")] = 2
    circuit = Circuit.from_scores(graph, scores, 3)
    assert circuit.edges == [*graph.edges()[:2], ("m0", "resid_post")]
    assert Circuit.from_scores(graph, scores, 0).n_edges == 0
    assert Circuit.from_scores(graph, scores, 46).edge_sparsity == 0
    with pytest.raises(OptionError, match="47 entries are to be kept, but 46 exist"):
        Circuit.from_scores(graph, scores, 47)


def test_embedding_writers_are_merged_and_doubled() -> None:
    two = Graph(2, 2, 2, 2)
    scores = torch.arange(two.n_writers * two.n_readers, dtype=torch.float32).view(two.exists.shape)
    edges = [("tok_embeds", "m0"), ("pos_embeds", "a0.h0.q"), ("a0.h0", "resid_post")]
    circuit = Circuit(two, two.mask(edges), scores)
    one = circuit.with_embeddings(1)
    assert set(one.edges) == {("embeds", "m0"), ("embeds", "a0.h0.q"), ("a0.h0", "resid_post")}
    assert one.scores is not None
    assert torch.equal(one.scores[0], scores[1])
    back = one.with_embeddings(2)
    assert back.n_edges == 5
    assert back.with_embeddings(1).same_edges(one)
    assert circuit.with_embeddings(2) is circuit
    with pytest.raises(OptionError, match="cannot become one with 0"):
        one.with_embeddings(0)


def test_two_million_edges_are_ranked_cleaned_and_compared_quickly() -> None:
    graph = Graph(48, 25, 25)
    scores = torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(0))
    started = time.process_time()
    a = Circuit.from_scores(graph, scores, 20_000)
    b = a.prune_dead()
    assert b.overlap(a).share_of_first == 1
    assert len((a & b).edges) == b.n_edges
    assert time.process_time() - started < 2

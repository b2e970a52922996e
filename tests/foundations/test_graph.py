"""Counts, names and masks of the computation graph."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassworks.errors import OptionError
from glassworks.foundations.graph import Edge, Graph, Node

GRAPHS = st.builds(
    lambda layers, group, kv, embeddings, block, ungrouped: Graph(layers, group * kv, kv, embeddings, block, ungrouped),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from(["sequential", "parallel"]),
    st.booleans(),
)


@pytest.mark.parametrize(
    ("graph", "edges"),
    [
        (Graph(12, 12, 12, 1), 32_491),
        (Graph(12, 12, 12, 2), 32_936),
        (Graph(12, 12, 12, 0), 32_046),
        (Graph(24, 16, 16), 231_877),
        (Graph(48, 25, 25), 2_235_025),
        (Graph(40, 40, 40, 0), 3_872_820),
        (Graph(40, 40, 40, 1), 3_877_661),
        (Graph(32, 32, 8), 805_681),
        (Graph(32, 32, 8, ungrouped=True), 1_592_881),
        (Graph(24, 14, 2), 79_813),
        (Graph(24, 14, 2, ungrouped=True), 179_749),
        (Graph(26, 8, 4), 50_610),
        (Graph(26, 8, 4, ungrouped=True), 74_218),
        (Graph(28, 16, 8), 213_907),
        (Graph(6, 8, 8, block="parallel"), 3_580),
        (Graph(3, 4, 4), 262),
        (Graph(2, 2, 2), 46),
        (Graph(1, 1, 1), 8),
    ],
    ids=str,
)
def test_published_edge_counts(graph: Graph, edges: int) -> None:
    assert graph.n_edges == edges
    assert int(graph.visible.sum()) == edges


def test_published_numbers_of_writers_and_readers() -> None:
    assert [Graph(12, 12, 12, e).n_writers for e in (0, 1, 2)] == [156, 157, 158]
    assert Graph(12, 12, 12).n_readers == 445


@settings(deadline=None)
@given(GRAPHS)
def test_the_mask_agrees_with_the_definition_node_by_node(graph: Graph) -> None:
    assert len(graph.writers) == graph.n_writers
    assert len(graph.readers) == graph.n_readers

    def time_of(node: Node, reading: bool) -> float:
        if node.kind == "mlp":
            return node.layer + (0.0 if reading and graph.block == "parallel" else 0.5)
        return float(node.layer)

    def precedes(writer: Node, reader: Node) -> bool:
        return time_of(writer, False) < time_of(reader, True)

    expected = [[precedes(writer, reader) for reader in graph.readers] for writer in graph.writers]
    assert graph.exists.tolist() == expected
    assert int(graph.exists.sum()) == graph.n_edges


@pytest.mark.parametrize("embeddings", [0, 1, 2])
def test_every_name_leads_back_to_its_index(embeddings: int) -> None:
    graph = Graph(3, 4, 4, embeddings)
    assert [graph.writer_index(name) for name in graph.writer_names] == list(range(graph.n_writers))
    assert [graph.reader_index(name) for name in graph.reader_names] == list(range(graph.n_readers))
    assert torch.equal(graph.mask(graph.edges()), graph.exists)


def test_official_and_eap_names_mean_the_same_nodes() -> None:
    assert Graph(3, 4, 4, 2).writer_names[:4] == ("tok_embeds", "pos_embeds", "a0.h0", "a0.h1")
    graph = Graph(3, 4, 2)
    assert graph.writer_names[0] == "embeds"
    assert graph.writer_names[-1] == "m2"
    assert graph.reader_names[:9] == (
        *("a0.h0.q", "a0.h1.q", "a0.h2.q", "a0.h3.q"),
        *("a0.h0.k", "a0.h1.k", "a0.h0.v", "a0.h1.v"),
        "m0",
    )
    assert graph.reader_names[-1] == "resid_post"
    assert graph.writer_index("input") == graph.writer_index("embeds") == 0
    assert graph.reader_index("logits") == graph.reader_index("resid_post")
    assert graph.reader_index("a2.h3<q>") == graph.reader_index("a2.h3.q")


@pytest.mark.parametrize("name", ["a9.h0", "a0.h4", "m3", "pos_embeds", "", "a0.h0.q"])
def test_unknown_writers_are_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(OptionError, match=r"unknown writer.*a0\.h0 to a2\.h3, m0 to m2, embeds"):
        Graph(3, 4, 2).writer_index(name)


def test_a_grouped_graph_has_no_key_reader_for_every_query_head() -> None:
    with pytest.raises(OptionError, match=r"unknown reader 'a0\.h3\.k'"):
        Graph(3, 4, 2).reader_index("a0.h3.k")
    assert Graph(3, 4, 2, ungrouped=True).reader_index("a0.h3.k") == 7


def test_edges_by_name_become_a_mask_and_return() -> None:
    graph = Graph(2, 2, 2)
    mask = graph.mask([("a0.h1", "a1.h0.q"), ("input", "m0"), ("m1", "logits")])
    assert int(mask.sum()) == 3
    assert graph.edges(mask) == [
        Edge("embeds", "m0"),
        Edge("a0.h1", "a1.h0.q"),
        Edge("m1", "resid_post"),
    ]
    assert not graph.mask([]).any()
    with pytest.raises(OptionError, match=r"m1 does not come before a0\.h0\.q"):
        graph.mask([("m1", "a0.h0.q")])
    with pytest.raises(OptionError, match=r"a0\.h0 does not come before m0"):
        Graph(2, 2, 2, block="parallel").mask([("a0.h0", "m0")])


def test_two_million_edges_take_under_a_second() -> None:
    started = time.process_time()
    graph = Graph(48, 25, 25)
    mask = graph.exists.clone()
    mask[graph.writer_index("m47"), graph.reader_index("logits")] = False
    assert int(mask.sum()) == graph.n_edges - 1
    assert time.process_time() - started < 1


def test_impossible_graphs_are_refused() -> None:
    with pytest.raises(OptionError, match="key/value heads divide"):
        Graph(2, 4, 3)
    with pytest.raises(OptionError, match="3 embedding writers"):
        Graph(2, 4, 4, 3)
    with pytest.raises(OptionError, match="block 'serial'"):
        Graph(2, 4, 4, block="serial")  # type: ignore[arg-type]

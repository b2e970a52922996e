"""Places of nodes: rows upwards, nobody on top of another."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from glassworks.circuits.layout import GAP, NODE_WIDTH, lay_out, links, node_of, port_of
from glassworks.foundations.graph import Edge, Graph

GRAPH = Graph(3, 4, 2)


def test_names_of_nodes_and_ports() -> None:
    assert [node_of(name) for name in ("a3.h1.q", "m2", "resid_post")] == ["a3.h1", "m2", "resid_post"]
    assert [port_of(name) for name in ("a3.h1.v", "m2", "resid_post")] == ["v", "mlp", "output"]


def test_shared_values_lead_to_a_head_of_their_group() -> None:
    edges = [Edge("embeds", "a1.h1.v"), Edge("a1.h3", "resid_post")]
    assert links(edges, 2) == [("embeds", "a1.h3"), ("a1.h3", "resid_post")]
    assert links(edges[:1], 2) == [("embeds", "a1.h2")]


def test_input_and_output_are_bars_and_mlps_a_column() -> None:
    layout = lay_out([Edge("embeds", "m0"), Edge("m0", "a1.h0.v"), Edge("m0", "m1"), Edge("a1.h0", "resid_post")])
    assert layout.bars == {"embeds", "resid_post"}
    assert layout.nodes["m0"][0] == layout.nodes["m1"][0] > layout.nodes["a1.h0"][0] + NODE_WIDTH
    assert [label for _, label in layout.rows] == ["input", "layer 0", "layer 1", "", "output"]
    two = lay_out([Edge("tok_embeds", "m0"), Edge("pos_embeds", "m0")])
    assert two.bars == frozenset()


@given(st.sets(st.sampled_from(GRAPH.edges()), min_size=1, max_size=60))
def test_edges_go_up_and_nodes_do_not_overlap(edges: set[Edge]) -> None:
    layout = lay_out(edges, GRAPH.group_size)
    for one, two in links(edges, GRAPH.group_size):
        assert layout.nodes[one][1] > layout.nodes[two][1]
    by_row: dict[float, list[float]] = {}
    for x, y in layout.nodes.values():
        assert 0 < x < layout.width
        assert 0 < y < layout.height
        by_row.setdefault(y, []).append(x)
    for places in by_row.values():
        places.sort()
        assert all(b - a >= NODE_WIDTH + GAP - 1e-6 for a, b in pairwise(places))

"""The order of reads and writes: graphs of every tiny decoder, sites that tile the graph, refusals."""

import pytest
import torch
from cases.tiny_models import DECODERS, tiny_model

from glassworks.circuits.sites import graph_of, sites_of
from glassworks.errors import OptionError, UnsupportedArchitecture
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.graph import Graph


@pytest.mark.parametrize(
    ("family", "options", "graph"),
    [
        ("gpt2", {}, Graph(3, 4, 4)),
        ("gpt2", {"embeddings": 2}, Graph(3, 4, 4, 2)),
        ("gpt2", {"ungrouped": True}, Graph(3, 4, 4)),
        ("gpt_neox", {}, Graph(3, 4, 4, 1, "parallel")),
        ("llama", {}, Graph(3, 4, 2)),
        ("llama", {"ungrouped": True, "embeddings": 0}, Graph(3, 4, 2, 0, "sequential", True)),
    ],
)
def test_graph_of_a_model(family: str, options: dict, graph: Graph) -> None:
    assert graph_of(anatomy(tiny_model(family)), **options) == graph


@pytest.mark.parametrize("graph", [Graph(3, 4, 2), Graph(2, 4, 4, 2, "parallel"), Graph(2, 4, 2, 0, ungrouped=True)])
def test_sites_tile_readers_and_writers_in_order(graph: Graph) -> None:
    sites = sites_of(graph)
    readers = [column for site in sites for column in range(*site.readers.indices(graph.n_readers))]
    writers = [row for site in sites for row in range(*site.writes.indices(graph.n_writers))]
    assert readers == list(range(graph.n_readers - 1))
    assert writers == list(range(graph.embeddings, graph.n_writers))
    for site in sites:
        assert bool((graph.visible[site.readers] == site.visible).all())
        assert site.visible <= site.writes.start


def test_what_is_no_sum_of_writers_is_refused() -> None:
    with pytest.raises(UnsupportedArchitecture, match="residual stream"):
        graph_of(anatomy(tiny_model("bert")))
    with pytest.raises(OptionError, match="two embedding writers"):
        graph_of(anatomy(tiny_model("llama")), embeddings=2)


def test_every_decoder_has_a_graph_with_as_many_layers() -> None:
    with torch.no_grad():
        assert {graph_of(anatomy(tiny_model(family))).layers for family in DECODERS} == {3}

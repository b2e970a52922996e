"""Circuits written and read back in each format, and files that belong to another model."""

import json
from pathlib import Path
from typing import Literal

import pytest
import torch

from glassworks.errors import DataNotFound, GraphMismatch, MalformedRecord, OptionError
from glassworks.foundations.circuit import Circuit, Provenance
from glassworks.foundations.circuit_files import (
    read_circuit,
    read_eap,
    read_edges,
    write_circuit,
    write_eap,
    write_edges,
)
from glassworks.foundations.graph import Graph


def example(graph: Graph, *, scored: bool = True, with_nodes: bool = False) -> Circuit:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(graph.exists.shape, generator=generator).masked_fill(~graph.exists, float("nan"))
    kept = (torch.rand(graph.exists.shape, generator=generator) < 0.3) & graph.exists
    nodes = torch.rand(graph.n_writers, generator=generator) < 0.8
    provenance = Provenance("gpt2", "1fab", "77", "interchange", "edge_pruning", "ioi")
    return Circuit(graph, kept, scores if scored else None, nodes if with_nodes else None, provenance)


@pytest.mark.parametrize("graph", [Graph(3, 4, 4, 0), Graph(3, 4, 2, 2), Graph(2, 2, 2, 1, "parallel")], ids=str)
@pytest.mark.parametrize(("scored", "with_nodes"), [(True, True), (False, False)])
def test_circuit_json_returns_everything(tmp_path: Path, graph: Graph, scored: bool, with_nodes: bool) -> None:
    circuit = example(graph, scored=scored, with_nodes=with_nodes)
    write_circuit(tmp_path / "circuit.json", circuit)
    again = read_circuit(tmp_path / "circuit.json")
    assert again.graph == graph
    assert again.provenance == circuit.provenance
    assert torch.equal(again.kept, circuit.kept)
    torch.testing.assert_close(again.scores, circuit.scores, rtol=0, atol=0, equal_nan=True)
    assert (again.nodes is None) == (circuit.nodes is None)
    assert again.same_edges(circuit)
    assert [path.name for path in tmp_path.iterdir()] == ["circuit.json"]
    counts = json.loads((tmp_path / "circuit.json").read_text())["counts"]
    assert counts["edges"] == graph.n_edges
    assert counts["kept"] >= counts["effective"] >= counts["live"]


def test_edges_json_is_a_list_of_official_pairs(tmp_path: Path) -> None:
    graph = Graph(3, 4, 4, 2)
    circuit = example(graph, with_nodes=True)
    write_edges(tmp_path / "edges.json", circuit)
    pairs = json.loads((tmp_path / "edges.json").read_text())
    assert pairs[0][0] in ("tok_embeds", "pos_embeds")
    assert read_edges(tmp_path / "edges.json", graph).same_edges(circuit)


def test_a_hand_written_edges_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "edges.json"
    path.write_text('[["embeds", "m0"], ["a0.h1", "a1.h0.v"], ["m1", "resid_post"]]')
    assert read_edges(path, Graph(2, 2, 2)).n_edges == 3


def test_edges_of_another_model_are_refused_by_both_signatures(tmp_path: Path) -> None:
    path = tmp_path / "edges.json"
    path.write_text('[["a11.h3", "resid_post"]]')
    message = r"edges\.json: the file's edges reach 12 layers and 4 heads, the graph has 3 layers, 4 heads"
    with pytest.raises(GraphMismatch, match=message):
        read_edges(path, Graph(3, 4, 4))


@pytest.mark.parametrize("graph", [Graph(3, 4, 4), Graph(3, 4, 2), Graph(3, 4, 2, ungrouped=True)], ids=str)
def test_eap_json_returns_edges_scores_and_nodes(tmp_path: Path, graph: Graph) -> None:
    circuit = example(graph, with_nodes=True)
    write_eap(tmp_path / "graph.json", circuit)
    again = read_eap(tmp_path / "graph.json", provenance=circuit.provenance)
    assert again.graph == graph
    assert again.nodes is not None
    assert circuit.nodes is not None
    assert torch.equal(again.nodes, circuit.nodes)
    assert torch.equal(again.kept, circuit.kept)
    torch.testing.assert_close(again.scores, circuit.scores, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("block", ["sequential", "parallel"])
def test_eap_tensors_return_edges_scores_and_nodes(tmp_path: Path, block: Literal["sequential", "parallel"]) -> None:
    graph, file = Graph(2, 2, 2, 1, block), tmp_path / "graph.pt"
    circuit = example(graph, with_nodes=True)
    write_eap(file, circuit)
    content = torch.load(file, weights_only=True)
    assert content["src_nodes"] == ["input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1"]
    assert content["dst_nodes"][:8] == [*(f"a0.h{h}<{p}>" for p in "qkv" for h in (0, 1)), "m0", "a1.h0<q>"]
    assert content["dst_nodes"][-1] == "logits"
    assert content["edges_scores"].shape == content["edges_in_graph"].shape == (1 + 2 * 3, 2 * (3 * 2 + 1) + 1)
    read = read_eap(file, graph)
    assert read.same_edges(circuit)
    assert read.nodes is not None
    assert circuit.nodes is not None
    assert torch.equal(read.nodes, circuit.nodes)
    assert read.scores is not None
    assert circuit.scores is not None
    assert torch.equal(read.scores[graph.exists], circuit.scores[graph.exists])
    with pytest.raises(OptionError, match=r"each query head.*--graph\.ungrouped"):
        write_eap(file, Circuit.from_edges(Graph(1, 4, 2), []))


def test_broken_eap_tensors_are_named(tmp_path: Path) -> None:
    file = tmp_path / "graph.pt"
    with pytest.raises(DataNotFound, match=r"graph\.pt"):
        read_eap(file)
    for content in (b"no pickle", b""):
        file.write_bytes(content)
        with pytest.raises(MalformedRecord, match=r"graph\.pt: expected an EAP-IG graph of tensors"):
            read_eap(file)
    torch.save({"cfg": {"n_layers": 1, "n_heads": 1}}, file)
    with pytest.raises(MalformedRecord, match="expected an EAP-IG graph of tensors"):
        read_eap(file)


def test_eap_json_has_the_names_that_its_tools_use(tmp_path: Path) -> None:
    write_eap(tmp_path / "graph.json", example(Graph(4, 3, 3, block="parallel")))
    content = json.loads((tmp_path / "graph.json").read_text())
    assert content["cfg"]["n_layers"] == 4
    assert content["cfg"]["parallel_attn_mlp"] is True
    assert list(content["nodes"])[:2] == ["input", "a0.h0"]
    assert list(content["nodes"])[-1] == "logits"
    assert {"a0.h1->a3.h2<q>", "input->m0", "m3->logits"} <= set(content["edges"])
    assert set(content["edges"]["input->m0"]) == {"score", "in_graph"}


def test_eap_json_without_scores_and_with_plain_node_flags_is_read(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    content = {
        "cfg": {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 8},
        "nodes": {"input": True, "a0.h0": True, "m0": False, "logits": True},
        "edges": {"input->m0": {"in_graph": True}, "a0.h0->logits": {"in_graph": False}},
    }
    path.write_text(json.dumps(content))
    circuit = read_eap(path)
    assert circuit.scores is None
    assert circuit.edges == [("embeds", "m0")]
    assert circuit.nodes is not None
    assert not circuit.nodes[circuit.graph.writer_index("m0")]


def test_two_embedding_writers_pass_through_eap_as_one(tmp_path: Path) -> None:
    graph = Graph(2, 2, 2, 2)
    circuit = Circuit.from_edges(graph, [("tok_embeds", "m0"), ("m0", "resid_post")])
    write_eap(tmp_path / "graph.json", circuit)
    again = read_eap(tmp_path / "graph.json", graph)
    assert set(again.edges) == {("tok_embeds", "m0"), ("pos_embeds", "m0"), ("m0", "resid_post")}
    with pytest.raises(OptionError, match="0 embedding writers cannot become"):
        write_eap(tmp_path / "other.json", example(Graph(2, 2, 2, 0)))
    with pytest.raises(GraphMismatch, match=r"2 layers.*3 layers"):
        read_eap(tmp_path / "graph.json", Graph(3, 2, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected a 'glassworks circuit 1' file"),
        ('{"format": "glassworks circuit 1"}', "graph"),
    ],
)
def test_a_broken_circuit_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "circuit.json"
    path.write_text(content)
    with pytest.raises(MalformedRecord, match=rf"circuit\.json: .*{message}"):
        read_circuit(path)


def test_other_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"none\.json: no circuit file"):
        read_circuit(tmp_path / "none.json")
    path = tmp_path / "other.json"
    path.write_text('{"edges": {}}')
    with pytest.raises(MalformedRecord, match="list of"):
        read_edges(path, Graph(2, 2, 2))
    with pytest.raises(MalformedRecord, match="EAP-IG graph"):
        read_eap(path)

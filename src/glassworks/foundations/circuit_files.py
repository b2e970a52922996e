"""Circuits on disk: our `circuit.json`, Edge Pruning's `edges.json`, and the EAP-IG / MIB graph JSON.

`circuit.json` holds the graph, the provenance, counts, the kept edges by official name and every score, so it
stands alone. `edges.json` is a list of [writer, reader] pairs and needs the graph it belongs to. The EAP-IG file
is {cfg, nodes, edges} with nodes input, a0.h1, m0, logits and edges such as a0.h1->a3.h2<q>; one embedding writer. Its
other form, .pt, holds the same as tensors [writers, readers] with the names of their rows and columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from torch import Tensor

from glassworks.errors import DataNotFound, GraphMismatch, MalformedRecord, OptionError
from glassworks.foundations.circuit import Circuit, Provenance
from glassworks.foundations.files import atomic_write
from glassworks.foundations.graph import Graph
from glassworks.foundations.runs import write_text

FORMAT = "glassworks circuit 1"


def write_circuit(path: str | Path, circuit: Circuit) -> None:
    """Write `circuit.json`, atomically. Scores keep nine digits, which is all of fp32."""
    graph = circuit.graph
    content = {
        "format": FORMAT,
        "graph": asdict(graph),
        "provenance": asdict(circuit.provenance),
        "counts": {
            "edges": graph.n_edges,
            "kept": circuit.n_edges,
            "effective": int(circuit.effective.sum()),
            "live": circuit.prune_dead().n_edges,
        },
        "nodes_off": [] if circuit.nodes is None else _names(graph.writer_names, ~circuit.nodes),
        "edges": [list(edge) for edge in circuit.edges],
        "scores": None if circuit.scores is None else _scores_by_reader(graph, circuit.scores),
    }
    _write(path, content)


def read_circuit(path: str | Path) -> Circuit:
    """Read `circuit.json`. Raises DataNotFound, MalformedRecord or GraphMismatch."""
    content = _load(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise MalformedRecord(
            f"expected a '{FORMAT}' file",
            place=str(path),
            remedy="Read edges.json and EAP-IG files with read_edges and read_eap.",
        )
    try:
        graph = Graph(**content["graph"])
        provenance = Provenance(**content["provenance"])
        nodes_off = [graph.writer_index(name) for name in content["nodes_off"]]
        by_reader = content["scores"]
        circuit = Circuit(
            graph,
            graph.mask(content["edges"]),
            None if by_reader is None else _scores_of_readers(graph, by_reader),
            _all_on_but(graph, nodes_off) if nodes_off else None,
            provenance,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedRecord(f"the circuit cannot be read: {error}", place=str(path)) from error
    return circuit


def write_edges(path: str | Path, circuit: Circuit) -> None:
    """Write Edge Pruning's `edges.json`, atomically: the effective edges as [writer, reader] official names."""
    pairs = [json.dumps(edge) for edge in circuit.graph.edges(circuit.effective)]
    write_text(Path(path), "[" + ",\n ".join(pairs) + "]\n")


def read_edges(path: str | Path, graph: Graph, provenance: Provenance | None = None) -> Circuit:
    """Read `edges.json` as a circuit of `graph`.

    Raises DataNotFound, MalformedRecord, and GraphMismatch naming both when the names reach beyond the graph.
    """
    content = _load(path)
    if not isinstance(content, list) or not all(_is_pair(pair) for pair in content):
        raise MalformedRecord("expected a JSON list of [writer, reader] pairs", place=str(path))
    return Circuit(graph, _mask(path, graph, content), provenance=provenance or Provenance())


def write_eap(path: str | Path, circuit: Circuit) -> None:
    """Write the EAP-IG / MIB graph, atomically: every edge, its score (0 where there is none) and membership.

    path: JSON, or tensors where it ends in .pt. Two embedding writers become one. Raises OptionError for a graph
    without embedding writers, and, for .pt, where query heads share key and value readers: its columns are a head's.
    """
    circuit = circuit.with_embeddings(1)
    graph, nodes = circuit.graph, circuit.nodes
    writers = ["input", *graph.writer_names[1:]]
    readers = [re.sub(r"\.([qkv])$", r"<\1>", name) for name in graph.reader_names[:-1]] + ["logits"]
    if Path(path).suffix == ".pt":
        _write_tensors(path, circuit, writers, readers)
        return
    rows, columns = (index.tolist() for index in graph.exists.nonzero(as_tuple=True))
    kept = circuit.kept[graph.exists].tolist()
    scores = (
        [0.0] * len(kept)
        if circuit.scores is None
        else [score or 0.0 for score in _digits(circuit.scores[graph.exists])]
    )
    on = [True] * len(writers) if nodes is None else nodes.tolist()
    content = {
        "cfg": {
            "n_layers": graph.layers,
            "n_heads": graph.heads,
            "n_key_value_heads": graph.kv_heads,
            "ungroup_grouped_query_attention": graph.ungrouped,
            "parallel_attn_mlp": graph.block == "parallel",
        },
        "nodes": {name: {"in_graph": on_} for name, on_ in [*zip(writers, on, strict=True), ("logits", True)]},
        "edges": {
            f"{writers[row]}->{readers[column]}": {"score": score, "in_graph": inside}
            for row, column, score, inside in zip(rows, columns, scores, kept, strict=True)
        },
    }
    _write(path, content)


def read_eap(path: str | Path, graph: Graph | None = None, provenance: Provenance | None = None) -> Circuit:
    """Read an EAP-IG / MIB graph, JSON or .pt; over `graph` where given, else over the one that its cfg describes.

    A `graph` with two embedding writers gets the input's edges twice. Raises DataNotFound, MalformedRecord, and
    GraphMismatch naming both when the file's graph is not `graph`.
    """
    content = _load_tensors(path) if Path(path).suffix == ".pt" else _load(path)
    try:
        found = _graph_of_cfg(content["cfg"])
        nodes = {name: _in_graph(value) for name, value in content["nodes"].items() if name != "logits"}
        names = [tuple(name.split("->")) for name in content["edges"]]
        inside = torch.tensor([_in_graph(value) for value in content["edges"].values()], dtype=torch.bool)
        scores = [value.get("score") for value in content["edges"].values() if isinstance(value, dict)]
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedRecord(
            f"expected an EAP-IG graph with cfg, nodes and edges ({type(error).__name__}: {error})", place=str(path)
        ) from error
    if graph is not None and graph.embeddings and _shape(graph) != _shape(found):
        raise GraphMismatch(f"the file's graph has {found}, the model's {graph}", place=str(path))
    listed = _mask(path, found, names)
    # The mask is in index order and the file in its own, hence a place for each name.
    places = torch.tensor([(found.writer_index(w), found.reader_index(r)) for w, r in names]).view(-1, 2)
    kept, values = torch.zeros_like(listed), torch.full(listed.shape, float("nan"))
    kept[places[:, 0], places[:, 1]] = inside
    has_scores = len(scores) == len(names) and all(score is not None for score in scores)
    if has_scores:
        values[places[:, 0], places[:, 1]] = torch.tensor(scores, dtype=torch.float32)
    off = [found.writer_index(name) for name, on in nodes.items() if not on]
    circuit = Circuit(
        found,
        kept,
        values if has_scores else None,
        _all_on_but(found, off) if off else None,
        provenance or Provenance(),
    )
    return circuit if graph is None else circuit.with_embeddings(graph.embeddings)


def _write_tensors(path: str | Path, circuit: Circuit, writers: list[str], readers: list[str]) -> None:
    graph, nodes = circuit.graph, circuit.nodes
    if graph.kv_readers != graph.heads:
        raise OptionError(
            "the .pt form has key and value readers of each query head", place=str(path),
            remedy="Write JSON, or search with --graph.ungrouped true.",
        )  # fmt: skip
    scores = torch.zeros(graph.exists.shape) if circuit.scores is None else torch.nan_to_num(circuit.scores)
    content = {
        "cfg": {"n_layers": graph.layers, "n_heads": graph.heads, "parallel_attn_mlp": graph.block == "parallel"},
        "src_nodes": writers,
        "dst_nodes": readers,
        "edges_scores": scores.masked_fill(~graph.exists, 0),
        "edges_in_graph": circuit.kept & graph.exists,
        "nodes_in_graph": torch.ones(graph.n_writers, dtype=torch.bool) if nodes is None else nodes,
    }
    with atomic_write(Path(path)) as temporary:
        torch.save(content, temporary)


def _load_tensors(path: str | Path) -> dict[str, Any]:
    """What the JSON form would hold, of the edges that exist. Nothing but tensors and plain values is unpickled."""
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        rows, columns = content["src_nodes"], content["dst_nodes"]
        exists = _graph_of_cfg(content["cfg"]).exists.tolist()
        scores, inside = (content[name].tolist() for name in ("edges_scores", "edges_in_graph"))
        return {
            "cfg": content["cfg"],
            "nodes": dict(zip(rows, content["nodes_in_graph"].tolist(), strict=True)),
            "edges": {
                f"{row}->{column}": {"score": scores[i][j], "in_graph": bool(inside[i][j])}
                for i, row in enumerate(rows)
                for j, column in enumerate(columns)
                if exists[i][j]
            },
        }
    except OSError as error:
        raise DataNotFound(f"no circuit file ({error.strerror})", place=str(path)) from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, EOFError, UnpicklingError) as error:
        problem = f"expected an EAP-IG graph of tensors ({type(error).__name__})"
        raise MalformedRecord(problem, place=str(path)) from error


def _write(path: str | Path, content: dict[str, Any]) -> None:
    # A line for each top-level entry: indented, one score would take a line.
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    write_text(Path(path), "{\n" + ",\n".join(lines) + "\n}\n")


def _load(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataNotFound(f"no circuit file ({error.strerror})", place=str(path)) from error
    except ValueError as error:
        raise MalformedRecord(f"not JSON: {error}", place=str(path)) from error


def _mask(path: str | Path, graph: Graph, names: Iterable[Any]) -> Tensor:
    pairs = list(names)
    try:
        return graph.mask(pairs)
    except OptionError as error:
        reach = [
            [int(found) for pair in pairs for name in pair for found in re.findall(pattern, name)]
            for pattern in (r"^[am](\d+)", r"\.h(\d+)")
        ]
        layers, heads = (max(part, default=-1) + 1 for part in reach)
        raise GraphMismatch(
            f"the file's edges reach {layers} layers and {heads} heads, the graph has {graph}: {error.problem}",
            place=str(path),
            remedy="Use the file with the model that it was made for.",
        ) from error


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(name, str) for name in value)


def _names(names: Iterable[str], chosen: Tensor) -> list[str]:
    return [name for name, keep in zip(names, chosen.tolist(), strict=True) if keep]


def _digits(values: Tensor) -> list[float | None]:
    return [None if value != value else float(f"{value:.9g}") for value in values.tolist()]


def _scores_by_reader(graph: Graph, scores: Tensor) -> dict[str, list[float | None]]:
    counts = graph.visible.tolist()
    return {
        name: _digits(scores[:count, column])
        for column, (name, count) in enumerate(zip(graph.reader_names, counts, strict=True))
    }


def _scores_of_readers(graph: Graph, by_reader: dict[str, list[float | None]]) -> Tensor:
    scores = torch.full(graph.exists.shape, float("nan"))
    for name, values in by_reader.items():
        known = [float("nan") if value is None else value for value in values]
        scores[: len(known), graph.reader_index(name)] = torch.tensor(known)
    return scores


def _all_on_but(graph: Graph, off: list[int]) -> Tensor:
    nodes = torch.ones(graph.n_writers, dtype=torch.bool)
    nodes[off] = False
    return nodes


def _graph_of_cfg(cfg: dict[str, Any]) -> Graph:
    heads = int(cfg["n_heads"])
    block: Literal["sequential", "parallel"] = "parallel" if cfg.get("parallel_attn_mlp") else "sequential"
    kv_heads = int(cfg.get("n_key_value_heads") or heads)
    return Graph(
        int(cfg["n_layers"]), heads, kv_heads, 1, block, bool(cfg.get("ungroup_grouped_query_attention", False))
    )


def _shape(graph: Graph) -> tuple[object, ...]:
    return (graph.layers, graph.heads, graph.kv_readers, graph.block)


def _in_graph(value: Any) -> bool:
    return bool(value["in_graph"]) if isinstance(value, dict) else bool(value)

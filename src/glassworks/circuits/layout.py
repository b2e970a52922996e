"""Where the nodes and edges of a circuit's picture go: layers from the bottom up, few crossings.

A layer has a row of heads and a row for its MLP; rows and nodes without edges are left out. Within a row the nodes
are put near their neighbours (Sugiyama et al. 1981, barycentres). Input: the edges of one or two circuits of a
graph. Output: places in pixels. Draws nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from glassworks.foundations.graph import FINAL_READER, Edge

NODE_WIDTH, NODE_HEIGHT, GAP, ROW = 52, 24, 16, 62
MARGIN, LABEL = 20, 64
SWEEPS = 6


class Layout(NamedTuple):
    """nodes: centre (x, y) of each; rows: y and label of each; size: width and height in pixels."""

    nodes: dict[str, tuple[float, float]]
    rows: list[tuple[float, str]]
    width: float
    height: float


def node_of(reader: str) -> str:
    """The node that a reader belongs to: a3.h1 of a3.h1.q."""
    return re.sub(r"\.[qkv]$", "", reader)


def port_of(reader: str) -> str:
    """Which input of its node a reader is: q, k, v, mlp or output."""
    found = re.search(r"\.([qkv])$", reader)
    return found[1] if found else ("output" if reader == FINAL_READER else "mlp")


def lay_out(edges: Iterable[Edge], group_size: int = 1) -> Layout:
    """Places for all nodes of `edges`. group_size: query heads that share a key or value reader.

    A shared key or value reader leads to each head of its group that the circuit uses otherwise, or to the first.
    """
    edges = list(edges)
    joined = links(edges, group_size)
    rows: dict[tuple[float, str], list[str]] = defaultdict(list)
    for name in {end for link in joined for end in link}:
        rows[_row(name)].append(name)
    order = {key: sorted(names, key=_number) for key, names in sorted(rows.items())}
    neighbours: dict[str, list[str]] = defaultdict(list)
    for one, two in joined:
        neighbours[one].append(two)
        neighbours[two].append(one)
    place = _centred(order)
    for sweep in range(SWEEPS):
        for key in sorted(order, reverse=sweep % 2 == 1):
            order[key].sort(key=lambda name: _barycentre(name, neighbours, place))
            place |= _centred({key: order[key]})
    return _in_pixels(order)


def links(edges: Iterable[Edge], group_size: int = 1) -> list[tuple[str, str]]:
    """Writer and node of each edge, in order; a shared key or value reader stands for a head of its group."""
    edges = list(edges)
    heads = {edge.writer for edge in edges} | {node_of(edge.reader) for edge in edges if edge.reader.endswith(".q")}

    def target(reader: str) -> str:
        node = node_of(reader)
        if group_size == 1 or not reader.endswith((".k", ".v")):
            return node
        layer, number = node.split(".h")
        group = [f"{layer}.h{int(number) * group_size + member}" for member in range(group_size)]
        return next((head for head in group if head in heads), group[0])

    return [(edge.writer, target(edge.reader)) for edge in edges]


def _row(name: str) -> tuple[float, str]:
    if found := re.fullmatch(r"a(\d+)\.h\d+", name):
        return int(found[1]), f"layer {found[1]}"
    if found := re.fullmatch(r"m(\d+)", name):
        return int(found[1]) + 0.5, ""
    return (float("inf"), "output") if name == FINAL_READER else (-1, "input")


def _number(name: str) -> int:
    return int((re.findall(r"\d+", name) or ["0"])[-1])


def _centred(order: dict[tuple[float, str], list[str]]) -> dict[str, float]:
    return {name: at - (len(names) - 1) / 2 for names in order.values() for at, name in enumerate(names)}


def _barycentre(name: str, neighbours: dict[str, list[str]], place: dict[str, float]) -> float:
    beside = neighbours[name]
    return sum(place[other] for other in beside) / len(beside) if beside else place[name]


def _in_pixels(order: dict[tuple[float, str], list[str]]) -> Layout:
    widest = max((len(names) for names in order.values()), default=1)
    width = LABEL + MARGIN + max(widest, 4) * (NODE_WIDTH + GAP)
    height = 2 * MARGIN + max(len(order), 1) * ROW
    centre = LABEL + (width - LABEL) / 2
    nodes, rows = {}, []
    for level, ((_, label), names) in enumerate(order.items()):
        y = height - MARGIN - ROW / 2 - level * ROW
        rows.append((y, label))
        for name, x in _centred({("", label): names}).items():  # type: ignore[dict-item]
            nodes[name] = (centre + x * (NODE_WIDTH + GAP), y)
    return Layout(nodes, rows, width, height)

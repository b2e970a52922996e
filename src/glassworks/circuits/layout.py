"""Where the nodes and edges of a circuit's picture go: layers from the bottom up, few crossings.

A layer has a row of heads; the MLPs stand in a column of their own at the right, and input and output are bars over
the whole width, so that what nearly every node has to do with crosses nothing. Rows and nodes without edges are left
out. Within a row the nodes are put near their neighbours (Sugiyama et al. 1981, barycentres), every other row half a
step aside, so that long edges pass between nodes. Input: the edges of one or two circuits of a graph. Output: places
in pixels. Draws nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from glassworks.foundations.graph import FINAL_READER, Edge

NODE_WIDTH, NODE_HEIGHT, GAP, ROW, HALF_ROW = 52, 24, 16, 62, 42
MARGIN, LABEL, BESIDE = 20, 64, 40
WIDE, STEP = 620, 116
"""How wide the rows of heads are spread, and the step between heads at most."""
SWEEPS = 6
INPUT, OUTPUT = -1.0, float("inf")


class Layout(NamedTuple):
    """nodes: centre (x, y) of each; bars: those that span the rows; rows: y and label of each; size in pixels."""

    nodes: dict[str, tuple[float, float]]
    bars: frozenset[str]
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
    ends = {names[0] for key, names in order.items() if len(names) == 1 and key[0] in (INPUT, OUTPUT)}
    for one, two in joined:
        if not {one, two} & ends:
            neighbours[one].append(two)
            neighbours[two].append(one)
    place = _centred(order)
    column = {name: max(place.values(), default=0) + 1 for name in place if name.startswith("m")}
    place |= column
    for sweep in range(SWEEPS):
        for key in sorted(order, reverse=sweep % 2 == 1):
            order[key].sort(key=lambda name: _barycentre(name, neighbours, place))
            place |= _centred({key: order[key]}) | column
    return _in_pixels(order, frozenset(ends))


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
    return (OUTPUT, "output") if name == FINAL_READER else (INPUT, "input")


def _number(name: str) -> int:
    return int((re.findall(r"\d+", name) or ["0"])[-1])


def _centred(order: dict[tuple[float, str], list[str]]) -> dict[str, float]:
    return {name: at - (len(names) - 1) / 2 for names in order.values() for at, name in enumerate(names)}


def _barycentre(name: str, neighbours: dict[str, list[str]], place: dict[str, float]) -> float:
    beside = neighbours[name]
    return sum(place[other] for other in beside) / len(beside) if beside else place[name]


def _in_pixels(order: dict[tuple[float, str], list[str]], bars: frozenset[str]) -> Layout:
    """Places of the nodes of `order`, rows from the bottom up."""
    mlps = {names[0] for names in order.values() if names[0].startswith("m")}
    heads = [names for names in order.values() if names[0] not in mlps | bars]
    widest = max(map(len, heads), default=1)
    step = min(STEP, max(NODE_WIDTH + GAP, WIDE / widest))
    stagger = step / 4 if len(heads) > 1 else 0
    spread = max(widest * step, 2 * STEP) + 2 * stagger
    width = LABEL + spread + MARGIN + (NODE_WIDTH + (BESIDE if len(mlps) > 2 else GAP) if mlps else 0)
    centre, column = LABEL + spread / 2, LABEL + spread + NODE_WIDTH / 2
    nodes, rows, y, before = {}, [], 0.0, ""
    for level, ((layer, label), names) in enumerate(order.items()):
        own = names[0] in mlps and before == f"layer {int(layer)}"
        y -= HALF_ROW if own else ROW if level else 0
        rows.append((y, "" if own else label or f"layer {int(layer)}"))
        stagger, before = -stagger if names[0] not in mlps | bars else stagger, label
        for name, x in _centred({("", label): names}).items():  # type: ignore[dict-item]
            alone = names[0] in bars or name in mlps
            nodes[name] = (column if name in mlps else centre + x * step + (0 if alone else stagger), y)
    top = MARGIN + NODE_HEIGHT / 2 - y
    placed = {name: (x, y + top) for name, (x, y) in nodes.items()}
    return Layout(placed, bars, [(y + top, label) for y, label in rows], width, top + NODE_HEIGHT / 2 + MARGIN)

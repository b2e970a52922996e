"""Which largest set of passages has answers that do not contradict each other? Maximum independent set, exactly.

ReliabilityRAG (2025): nodes are passages in rank order, an edge joins two answers that contradict, abstainers have
none; among largest sets the one of better ranks is taken. No certificate is known for it here, and it says so. In:
responses and a contradiction test. Out: the passages' positions. A test by words is given for use without an NLI model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Contradicts = Callable[[str, str], bool]


def contradiction_graph(responses: Sequence[str | None], contradicts: Contradicts) -> list[int]:
    """Neighbours of each response as a bit mask [responses]; None (abstained) contradicts nothing."""
    edges = [0] * len(responses)
    for i, first in enumerate(responses):
        for j in range(i):
            second = responses[j]
            if first is not None and second is not None and (contradicts(first, second) or contradicts(second, first)):
                edges[i] |= 1 << j
                edges[j] |= 1 << i
    return edges


def maximum_independent_set(edges: Sequence[int]) -> tuple[int, ...]:
    """The largest set without an edge, ties to better ranks: of two sets the one that holds the first difference.

    edges: bit masks [nodes], at most some thirty nodes. Branches on the first node of most neighbours.
    """

    def best(free: int) -> int:
        if not free:
            return 0
        node = (free & -free).bit_length() - 1
        with_node = (1 << node) | best(free & ~((1 << node) | edges[node]))
        if not edges[node] & free:
            return with_node
        without = best(free & ~(1 << node))
        return without if without.bit_count() > with_node.bit_count() else with_node

    chosen = best((1 << len(edges)) - 1)
    return tuple(node for node in range(len(edges)) if chosen >> node & 1)


def share_no_keyword(extract: Callable[[str], frozenset[str]]) -> Contradicts:
    """Two answers contradict where they share no keyword; a stand-in for a model of natural language inference."""
    return lambda first, second: not extract(first) & extract(second)

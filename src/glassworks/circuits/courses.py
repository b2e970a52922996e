"""The course of an edge in a circuit's picture: a curve from writer to reader that passes beside the nodes between.

A cubic Bézier from the top of one node to the foot of another, upright at both ends if nothing is in its way. Where it
would run behind a box of a row in between, and seem to lead there, it is drawn aside, by as little as clears all rows;
an edge from or to a bar meets the bar elsewhere instead. MLPs that are not neighbours are joined by arcs beside their
column. Input: places of nodes. Output: points of the curve. Draws nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from glassworks.circuits.layout import BESIDE, LABEL, MARGIN, NODE_HEIGHT, NODE_WIDTH, ROW, Layout

ASIDE = (0, 16, -16, 32, -32, 48, -48, 64, -64, 80, -80, 96, -96)
"""How far a curve is drawn aside, in the order that is tried."""
CLEARANCE = NODE_WIDTH / 2 + 4
MOST_BOW = 4 / 3 * (NODE_WIDTH / 2 + BESIDE)
"""How far aside an arc's control points lie; three quarters of it are seen."""
ROUND = 6
"""Corner of a bar, which no edge meets."""
BISECTIONS = 12


class Course(NamedTuple):
    """Ends and control points of a curve that rises from y1 to y2 < y1."""

    x1: float
    y1: float
    control1: tuple[float, float]
    control2: tuple[float, float]
    x2: float
    y2: float

    @property
    def path(self) -> str:
        """As SVG path data."""
        (a, b), (c, d) = self.control1, self.control2
        return f"M{self.x1:.1f} {self.y1:.1f}C{a:.1f} {b:.1f} {c:.1f} {d:.1f} {self.x2:.1f} {self.y2:.1f}"

    @property
    def height(self) -> float:
        """How far it rises."""
        return self.y1 - self.y2

    def x_at(self, y: float) -> float:
        """Where it crosses a height between its ends; its height only rises."""
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            t = (low + high) / 2
            low, high = (t, high) if self._at(t, 1) > y else (low, t)
        return self._at((low + high) / 2, 0)

    def _at(self, t: float, axis: int) -> float:
        ends = ((self.x1, self.x2), (self.y1, self.y2))[axis]
        s = 1 - t
        inner = 3 * s * s * t * self.control1[axis] + 3 * s * t * t * self.control2[axis]
        return s**3 * ends[0] + inner + t**3 * ends[1]


class Courses:
    """Courses between the nodes of one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        rows: dict[float, list[float]] = {}
        for name, (x, y) in layout.nodes.items():
            if name not in layout.bars:
                rows.setdefault(y, []).append(x)
        self._rows = {y: sorted(rows[y]) for y in sorted(rows)}
        self._heights = list(self._rows)

    def between(self, writer: str, node: str, shift: float) -> Course:
        """From the top of `writer` to the foot of `node`, `shift` pixels beside its middle; straight at a bar."""
        (x1, y1), (x2, y2) = self.layout.nodes[writer], self.layout.nodes[node]
        bars = self.layout.bars & {writer, node}
        x2 += shift
        y1, y2 = y1 - NODE_HEIGHT / 2, y2 + NODE_HEIGHT / 2
        if x1 == x2 and y1 - y2 > 2 * ROW and not bars and writer.startswith("m") and node.startswith("m"):
            bow = min(MOST_BOW, NODE_WIDTH * 0.75 + 0.07 * (y1 - y2))
            return _curve(x1, y1, x2, y2, bow)
        tried = [course for aside in ASIDE for course in self._aside(x1, y1, x2, y2, aside, writer, node)]
        return next((course for course in tried if self._is_clear(course)), tried[0])

    def _aside(
        self, x1: float, y1: float, x2: float, y2: float, aside: float, writer: str, node: str
    ) -> Iterator[Course]:
        """One curve between nodes; at a bar two, the second with more of its way upright before the bar."""
        from_bar, to_bar = (name in self.layout.bars for name in (writer, node))
        if from_bar == to_bar:
            yield _curve(x1, y1, x2, y2, 4 / 3 * aside)
            return
        at = (x2 if from_bar else x1) + aside
        meets = min(max(at, LABEL + ROUND), self.layout.width - MARGIN - ROUND)
        (x1, x2), bend = (meets, x2) if from_bar else (x1, meets), _bend(y1, y2)
        yield _curve(x1, y1, x2, y2, 0)
        yield Course(x1, y1, (meets, y1 - bend), (meets, y2 + bend), x2, y2)

    def _is_clear(self, course: Course) -> bool:
        """Whether no box of a row that the curve passes lies in its way."""
        first = bisect_right(self._heights, course.y2 + NODE_HEIGHT / 2)
        last = bisect_left(self._heights, course.y1 - NODE_HEIGHT / 2)
        for y in self._heights[first:last]:
            row = self._rows[y]
            for edge in (y + NODE_HEIGHT / 2, y, y - NODE_HEIGHT / 2):
                x = course.x_at(edge)
                at = bisect_left(row, x - CLEARANCE)
                if at < len(row) and row[at] < x + CLEARANCE:
                    return False
        return True


def _curve(x1: float, y1: float, x2: float, y2: float, bow: float) -> Course:
    bend = _bend(y1, y2)
    return Course(x1, y1, (x1 + bow, y1 - bend), (x2 + bow, y2 + bend), x2, y2)


def _bend(y1: float, y2: float) -> float:
    return max(18.0, 0.45 * (y1 - y2))

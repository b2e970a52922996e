"""A circuit as SVG or HTML: layers upwards, an edge's colour saying what it feeds and its width how it scored.

Needs no program but this one. `circuit_svg` draws one circuit, `difference_svg` two beside each other on the same
places, what only one has in its own colour. Every node and edge carries its name as a title (shown on hover); the
page adds highlighting. Colours follow the reader's theme as all figures do. Knows no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import torch

from glassworks.circuits.courses import Courses
from glassworks.circuits.layout import LABEL, MARGIN, NODE_HEIGHT, NODE_WIDTH, ROW, Layout, lay_out, links, port_of
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.graph import Edge
from glassworks.report.svg import FONT, THEME, theme_css

PORTS = {"q": "series-1", "k": "series-3", "v": "series-2", "mlp": "series-4", "output": "muted"}
PORT_SHIFT = {"q": -0.32, "k": 0.0, "v": 0.32, "mlp": 0.0, "output": 0.0}
TITLE = 34
THIN, THICK = 0.8, 4.0
FEW, FADED = 40, 150


def circuit_svg(circuit: Circuit, *, caption: str, alt: str) -> str:
    """The effective edges of a circuit as a standalone SVG. caption, alt: as of every figure."""
    edges, widths = _edges(circuit), _widths(circuit)
    layout = lay_out(edges, circuit.graph.group_size)
    colours = [PORTS[port_of(edge.reader)] for edge in edges]
    legend = [(_MEANING[port], colour) for port, colour in PORTS.items() if colour in colours]
    body = _panel(layout, edges, widths, colours, circuit.graph.group_size)
    return _document(
        layout.width, layout.height + TITLE, _legend(legend) + _moved(body, 0, TITLE), caption=caption, alt=alt
    )


def difference_svg(first: Circuit, second: Circuit, *, names: tuple[str, str], caption: str, alt: str) -> str:
    """Two circuits of one graph side by side on the same places; shared edges grey, the others in two colours.

    Raises GraphMismatch for circuits of two graphs.
    """
    shared = first & second
    union = _edges(first | second)
    group = first.graph.group_size
    layout = lay_out(union, group)
    both = set(_edges(shared))
    panels = []
    for at, (circuit, name, own) in enumerate(zip((first, second), names, ("series-2", "series-1"), strict=True)):
        edges = _edges(circuit)
        colours = ["muted" if edge in both else own for edge in edges]
        left = at * (layout.width + MARGIN)
        panels.append(_moved(_panel(layout, edges, _widths(circuit), colours, group), left, 2 * TITLE))
        panels.append(_text(left + LABEL, TITLE + 18, f"{name}: {len(edges)} edges", size=13, weight=600))
    legend = [(f"in both ({len(both)})", "muted")]
    legend += [
        (f"only in {name} ({len(_edges(circuit)) - len(both)})", colour)
        for name, circuit, colour in zip(names, (first, second), ("series-2", "series-1"), strict=True)
    ]
    width = 2 * layout.width + MARGIN
    return _document(width, layout.height + 2 * TITLE, _legend(legend) + "".join(panels), caption=caption, alt=alt)


def as_page(svg: str, title: str) -> str:
    """An HTML page around a picture: names on hover, and the edge or node below the pointer stands out."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>\n'
        f"body {{ margin: 1.5rem auto; max-width: max-content; font-family: {FONT}; "
        f"background: {THEME['paper'][0]}; color: {THEME['ink'][0]} }}\n"
        "svg { height: auto; max-width: 100% } h1 { font-size: 1.1rem }\n"
        "path.edge:hover { stroke-opacity: 1; stroke-width: 5 } svg:has(path.edge:hover) path.edge:not(:hover) "
        "{ stroke-opacity: .08 }\n"
        f"@media (prefers-color-scheme: dark) {{ body {{ background: {THEME['paper'][1]}; color: {THEME['ink'][1]} "
        f"}} }}\n</style></head>\n<body><h1>{escape(title)}</h1>\n{svg}</body></html>\n"
    )


_MEANING = {"q": "query", "k": "key", "v": "value", "mlp": "MLP input", "output": "output"}


def _edges(circuit: Circuit) -> list[Edge]:
    return circuit.graph.edges(circuit.effective)


def _widths(circuit: Circuit) -> list[float]:
    """A width in pixels for each effective edge, by the rank of its score: methods' scores have no common unit."""
    count = int(circuit.effective.sum())
    if circuit.scores is None or count < 2:
        return [1.6] * count
    scores = torch.nan_to_num(circuit.scores[circuit.effective], nan=0.0)
    ranks = scores.argsort(stable=True).argsort(stable=True).double() / (count - 1)
    thin = THIN if count > FEW else 2 * THIN
    return [thin + (THICK - thin) * float(rank) ** 2 for rank in ranks]


def _panel(
    layout: Layout, edges: Sequence[Edge], widths: Sequence[float], colours: Sequence[str], group_size: int
) -> str:
    """The rows, edges and nodes of one circuit."""
    right = layout.width - MARGIN
    parts = []
    for y, label in layout.rows:
        if label:
            parts.append(_text(8, y + 4, label, size=11, colour="muted"))
        parts.append(f'<path d="M{LABEL} {y:g}H{right:g}" style="stroke:{_colour("rule")};stroke-width:.6;fill:none"/>')
    courses = Courses(layout)
    opacity = max(0.4, min(0.85, 30 / max(1, len(edges)) ** 0.75)) if len(edges) < FADED else 0.4
    lines = [
        (courses.between(*ends, PORT_SHIFT[port_of(edge.reader)] * NODE_WIDTH), width, edge, ends, colour)
        for width, edge, ends, colour in zip(widths, edges, links(edges, group_size), colours, strict=True)
    ]
    # Long edges lie below short ones, thin ones below wide ones.
    lines.sort(key=lambda item: (-item[0].height, item[1]))
    for line, width, edge, _, colour in lines:
        clear = opacity * (1 if line.height <= 2.5 * ROW else 0.7)
        parts.append(
            f'<path class="edge" d="{line.path}" style="stroke:{_colour(colour)};stroke-width:{width:.2f};'
            f'stroke-opacity:{clear:.2f};fill:none"><title>{escape(edge.writer)} → {escape(edge.reader)}</title></path>'
        )
    used = {name for _, _, _, ends, _ in lines for name in ends}
    parts += [_node(name, layout) for name in layout.nodes if name in used]
    return "".join(parts)


def _node(name: str, layout: Layout) -> str:
    label = {"resid_post": "output", "embeds": "input", "tok_embeds": "tokens", "pos_embeds": "places"}.get(name, name)
    (x, y), half = layout.nodes[name], NODE_WIDTH / 2
    left, right = (LABEL, layout.width - MARGIN) if name in layout.bars else (x - half, x + half)
    return (
        f'<g><title>{escape(name)}</title><rect x="{left:.1f}" y="{y - NODE_HEIGHT / 2:.1f}" '
        f'width="{right - left:.1f}" height="{NODE_HEIGHT}" rx="{12 if name.startswith("m") else 5}" '
        f'style="fill:{_colour("paper")};stroke:{_colour("ink")};stroke-width:1"/>'
        + _text((left + right) / 2, y + 4, label, size=11, anchor="middle")
        + "</g>"
    )


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    parts, x = [], 10.0
    for label, colour in entries:
        parts.append(f'<path d="M{x:g} 18h22" style="stroke:{_colour(colour)};stroke-width:3;fill:none"/>')
        parts.append(_text(x + 28, 22, label, size=11))
        x += 44 + 6.3 * len(label)
    return "".join(parts)


def _text(x: float, y: float, text: str, *, size: int, colour: str = "ink", anchor: str = "", weight: int = 400) -> str:
    anchored = f"text-anchor:{anchor};" if anchor else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" style="{anchored}font-size:{size}px;font-weight:{weight};'
        f'fill:{_colour(colour)}">{escape(text)}</text>'
    )


def _moved(body: str, x: float, y: float) -> str:
    return f'<g transform="translate({x:g} {y:g})">{body}</g>'


def _colour(name: str) -> str:
    return f"var(--gw-{name},{THEME[name][0]})"


def _document(width: float, height: float, body: str, *, caption: str, alt: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img"><title>{escape(caption)}</title><desc>{escape(alt)}</desc>'
        f"<style>svg{{font-family:{FONT}}}{theme_css('svg')}</style>{body}</svg>\n"
    )

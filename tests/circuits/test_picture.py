"""Pictures: every edge is there with its name, wider where it ranks higher; safe to embed; legible in a browser."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
from cases.chromium import BROWSER, open_page

from glassworks.circuits.picture import as_page, circuit_svg, difference_svg
from glassworks.errors import GraphMismatch
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.graph import Graph
from glassworks.report.svg import embedded

GRAPH = Graph(12, 12, 12)


def random_circuit(n: int, seed: int = 0, graph: Graph = GRAPH) -> Circuit:
    scores = torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(seed))
    return Circuit.from_scores(graph, scores, n)


def test_every_edge_is_drawn_with_its_name_and_rank() -> None:
    circuit = random_circuit(40)
    root = ElementTree.fromstring(circuit_svg(circuit, caption="c", alt="a"))
    paths = [path for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("class") == "edge"]
    names = {path[0].text: float(re.search(r"stroke-width:([\d.]+)", path.get("style", ""))[1]) for path in paths}
    assert set(names) == {f"{edge.writer} → {edge.reader}" for edge in circuit.edges}
    scores = {f"{edge.writer} → {edge.reader}": score for edge, score in
              zip(circuit.edges, circuit.scores[circuit.kept].tolist(), strict=True)}  # fmt: skip
    assert sorted(names, key=names.__getitem__)[-1] == max(scores, key=scores.__getitem__)


def test_side_by_side_colours_what_differs() -> None:
    first, second = random_circuit(20, 1), random_circuit(20, 2)
    svg = difference_svg(first, second, names=("one", "<two>"), caption="c", alt="a")
    assert svg.count('class="edge"') == 40
    assert "&lt;two&gt;: 20 edges" in svg
    with pytest.raises(GraphMismatch):
        difference_svg(first, random_circuit(4, 1, Graph(1, 1, 1)), names=("a", "b"), caption="c", alt="a")


def test_dossier_keeps_what_draws() -> None:
    picture = embedded(circuit_svg(random_circuit(10), caption="cap", alt="alt"), prefix="p-", place="x")
    assert picture.caption == "cap"
    assert picture.svg.count("<path") > 10
    assert "<rect" in picture.svg


def test_empty_circuit_is_a_picture_too() -> None:
    assert "<svg" in circuit_svg(Circuit.from_edges(GRAPH, []), caption="c", alt="a")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_page_of_300_edges_shows_without_errors(tmp_path: Path) -> None:
    file = tmp_path / "circuit.html"
    circuit = random_circuit(300)
    file.write_text(as_page(circuit_svg(circuit, caption="c", alt="a"), "A circuit"), encoding="utf-8")
    with open_page(file) as page:
        assert page.messages == []
        assert page.evaluate("document.querySelectorAll('path.edge').length") == 300
        overlapping = """(() => { const boxes = [...document.querySelectorAll('rect')]
            .map(r => r.getBoundingClientRect());
            return boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right
                && a.top < b.bottom && b.top < a.bottom)).length })()"""
        assert page.evaluate(overlapping) == 0

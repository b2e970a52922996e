"""Verb `circuits draw`: the picture of a circuit, or of two side by side, as SVG and as a page with names on hover."""

from __future__ import annotations

from glassworks.circuits.claims import save_picture
from glassworks.circuits.evaluate import open_circuit
from glassworks.circuits.picture import as_page, difference_svg
from glassworks.errors import OptionError, check_at_least
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_text
from glassworks.foundations.runs import Run
from glassworks.report.figures import FIGURES_FOLDER


def draw_circuit(
    circuit: str, out: str = "runs/circuit-picture", beside: str | None = None, edges: int | None = None
) -> Run:
    """Draw a circuit in layers, or two circuits side by side with their differences in colour.

    Shell: glassworks circuits draw runs/circuit --beside runs/other

    Args:
        circuit: A run folder of `circuits find`, circuit.json, or an EAP-IG / MIB graph (.json, .pt).
        out: The run folder; holds circuit.html and figures/circuit.svg.
        beside: A second circuit to draw beside it.
        edges: Draw only this many edges, those of the highest scores.
    """
    arguments = dict(locals())
    with Run.start(out, draw_circuit, arguments) as run:
        check_at_least(1, edges=edges)
        first = _cut(open_circuit(circuit), edges, circuit)
        if beside is None:
            save_picture(run, first)
        else:
            second = _cut(open_circuit(beside), edges, beside)
            shared = first.overlap(second)
            caption = f"{circuit} and {beside}: {shared.shared} edges shared, {shared.iou:.0%} of those in either."
            names = (first.provenance.method or "first", second.provenance.method or "second")
            svg = difference_svg(first, second, names=names, caption=caption, alt=caption)
            write_text(run.path / FIGURES_FOLDER / "circuits.svg", svg)
            write_text(run.path / "circuits.html", as_page(svg, caption))
        run.record(Evidence("circuits", "Edges drawn", "edges_drawn", float(first.effective.sum()), setting=circuit))
    return run


def _cut(circuit: Circuit, edges: int | None, place: str) -> Circuit:
    """The `edges` kept edges of the highest scores; the circuit itself without a number."""
    if edges is None or circuit.n_edges <= edges:
        return circuit
    if circuit.scores is None:
        raise OptionError("the circuit has no scores to choose edges by", place=place, remedy="Leave --edges out.")
    scores = circuit.scores.masked_fill(~circuit.effective, -1e30)
    return Circuit.from_scores(circuit.graph, scores, edges, circuit.provenance)

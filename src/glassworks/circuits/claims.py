"""What is said of a circuit in a run folder: evidence with intervals, its picture, its curve, its training.

Inputs: measured figures an example and the circuit they belong to. Outputs: `Evidence` and figures that the dossier
shows. Computes no figure but means and intervals.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from glassworks.circuits.faithfulness import CurvePoint, Values, area_under, measure_circuit
from glassworks.circuits.picture import as_page, circuit_svg
from glassworks.circuits.problem import Problem
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_text
from glassworks.foundations.runs import METRICS, Run
from glassworks.foundations.statistics import bootstrap_mean, proportion
from glassworks.report.figures import FIGURES_FOLDER, Series, curves, save_figure

logger = logging.getLogger(__name__)

DRAWN = 1000
"""More edges than this are not drawn unasked: nobody could read them."""


class Measured(NamedTuple):
    """Figures of a circuit, [examples] by name, and what they were measured on. reached: sparsity after training."""

    figures: Mapping[str, Values]
    problem: Problem
    circuit: Circuit
    seed: int
    reached: float | None = None


_CLAIMS: dict[str, tuple[str, str, Literal["higher", "lower"]]] = {
    "kl": ("Divergence of the circuit's answers from the full model's", "nats", "lower"),
    "exact_match": ("Share of answers on which circuit and full model agree", "", "higher"),
    "accuracy": ("Share of the circuit's answers that are right", "", "higher"),
    "logit_diff": ("The circuit's logit of the right answer above that of the wrong one", "logits", "higher"),
    "preferred": ("Share of prompts on which the circuit prefers the right answer to the wrong one", "", "higher"),
    "prob_diff": ("Probability that the circuit gives to right years above wrong ones", "", "higher"),
    "prob_diff_10": ("Probability of right above wrong years, within ten of the first", "", "higher"),
    "kendall_tau": ("Rank agreement of circuit and full model over the hundred years", "", "higher"),
}


def circuit_claims(measured: Measured, curve: Sequence[CurvePoint] = ()) -> list[Evidence]:
    """Faithfulness with intervals, sizes under a named convention, and the curve's areas."""
    circuit, problem = measured.circuit, measured.problem
    origin = circuit.provenance
    setting = f"{origin.method or 'circuit'} on {origin.task or problem.pairs.name}; {problem.ablation} ablation"
    found = []
    for name, values in measured.figures.items():
        claim, unit, better = _CLAIMS[name]
        if item := _mean_claim(claim, name, values, setting, unit, better):
            found.append(item)
    live = circuit.prune_dead()
    where = f"{setting}; graph: {circuit.graph}"
    sizes = [
        ("edges_kept", "Edges of the circuit", float(circuit.n_edges), float(circuit.graph.n_edges)),
        ("edges_live", "Edges that carry anything, after clean-up", float(live.n_edges), float(circuit.n_edges)),
        ("edge_sparsity", "Share of edges that the circuit lacks", circuit.edge_sparsity, None),
    ]
    if measured.reached is not None:
        sizes.append(("sparsity_reached", "Sparsity that training reached by itself", measured.reached, None))
    if curve:
        cpr, cmd = area_under(curve)
        sizes.append(
            ("cpr", "Area under faithfulness over the share of edges (CPR; the full model has 0.999)", cpr, None)
        )
        sizes.append(("cmd", "Area between faithfulness and 1 (CMD)", cmd, None))
    better_of: dict[str, Literal["higher", "lower", "none"]] = {"cpr": "higher", "cmd": "lower"}
    for metric, claim, value, baseline in sizes:
        direction = better_of.get(metric, "none")
        found.append(Evidence(
            "circuits", claim, metric, value, better=direction, baseline=baseline, setting=where))  # fmt: skip
    return [replace(item, model_sha=origin.model_sha, artefact="circuit.json", seed=measured.seed) for item in found]


def model_claims(problem: Problem, seed: int, name: str = "full model") -> list[Evidence]:
    """Whether the full model does the task at all: its right answers, and its preference beside a coin's."""
    figures = measure_circuit(problem, None)
    setting = f"{name} on {problem.pairs.name}"
    claims = [
        _mean_claim("Share of the full model's answers that are right", "model_accuracy", figures["accuracy"], setting),
        _mean_claim(
            "Share of prompts on which the full model prefers the right answer to the wrong one", "model_preferred",
            figures["preferred"], setting, baseline=0.5,
        ),
    ]  # fmt: skip
    return [replace(item, seed=seed) for item in claims if item is not None]


def _mean_claim(
    claim: str,
    metric: str,
    values: Values,
    setting: str,
    unit: str = "",
    better: Literal["higher", "lower"] = "higher",
    baseline: float | None = None,
) -> Evidence | None:
    """The mean of the finite ones of `values` [examples] with its interval, exact for shares; None without any."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    binary = metric.endswith(("exact_match", "accuracy", "preferred")) and bool(np.isin(finite, (0, 1)).all())
    one = proportion(int(finite.sum()), len(finite)) if binary else bootstrap_mean(finite)
    interval = (one.interval.low, one.interval.high) if np.isfinite(one.interval).all() else None
    return Evidence("circuits", claim, metric, one.value, unit, better, interval, one.n, baseline, setting=setting)


def save_picture(run: Run, circuit: Circuit, name: str = "circuit") -> None:
    """The circuit after clean-up as figures/NAME.svg, and NAME.html with names on hover."""
    live = circuit.prune_dead()
    if not 0 < live.n_edges <= DRAWN:
        logger.warning("the circuit has %d live edges and is not drawn (1 to %d are)", live.n_edges, DRAWN)
        return
    origin = circuit.provenance
    caption = (
        f"{live.n_edges} edges of {circuit.graph.n_edges:,} that {origin.method or 'the circuit'} keeps for "
        f"{Path(origin.task).name or 'the task'}; wider is higher in rank."
    )
    strongest = live.kept if circuit.scores is None else torch.where(live.kept, circuit.scores, -torch.inf)
    row, column = divmod(int(strongest.float().flatten().argmax()), circuit.graph.n_readers)
    edge = f"{circuit.graph.writer_names[row]} to {circuit.graph.reader_names[column]}"
    svg = circuit_svg(live, caption=caption, alt=f"Circuit of {live.n_edges} edges; the strongest goes from {edge}.")
    write_text(run.path / FIGURES_FOLDER / f"{name}.svg", svg)
    write_text(run.path / f"{name}.html", as_page(svg, caption))


def save_curves(run: Run, measured: Mapping[str, Sequence[CurvePoint]]) -> None:
    """Faithfulness over the share of edges, a line for each name, as figures/faithfulness.svg."""
    lines = [
        Series(name, [100 * point.share for point in points], [point.faithfulness for point in points])
        for name, points in ((name, [point for point in of if point.share < 1]) for name, of in measured.items())
    ]  # all edges are the full model, whatever ranked them
    figure = curves(
        lines, x_label="edges kept, % of all", y_label="faithfulness (full model 1, empty circuit 0)", log_x=True,
        reference=1.0, reference_label="full model",
    )  # fmt: skip
    alt = "; ".join(
        f"{name} {point.faithfulness:.2f} at {100 * point.share:g} %"
        for name, points in measured.items()
        for point in points
    )
    save_figure(
        figure, run.path / FIGURES_FOLDER / "faithfulness.svg",
        caption="Share of the logit difference that circuits of growing size keep.", alt=f"Faithfulness: {alt}.",
    )  # fmt: skip


def training_figure(run: Run) -> None:
    """The sparsity of the gates and its target over training, from the run's log; nothing without one."""
    file = run.path / METRICS
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    lines = list({line["step"]: line for line in lines if "edge_sparsity" in line}.values())
    if len(lines) < 2:
        return
    steps = [float(line["step"]) for line in lines]
    series = [
        Series("target", steps, [line["target"] for line in lines]),
        Series("sparsity", steps, [line["edge_sparsity"] for line in lines]),
        Series("KL (nats)", steps, [line["kl"] for line in lines]),
    ]
    save_figure(
        curves(series, x_label="step", y_label="share of edges removed; KL in nats"),
        run.path / FIGURES_FOLDER / "training.svg",
        caption="The target sparsity, the gates' own, and the divergence that they cost, during training.",
        alt=f"Sparsity rises to {lines[-1]['edge_sparsity']:.2f}, the KL ends at {lines[-1]['kl']:.3f} nats.",
    )

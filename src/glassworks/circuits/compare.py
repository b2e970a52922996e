"""Verb `circuits compare`: what do circuits of one graph share, and how faithful is each to which model?

Overlaps of every pair, the edges that most keep, two drawn side by side. With one model every circuit is measured in
it: methods or seeds. With a model for each circuit every circuit is measured in every model, beside how far the models'
own answers moved: what did a training change, and does the old mechanism still explain the new model? Inputs:
circuits from any source. Trains and searches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from pathlib import Path

import torch
from torch import Tensor

from glassworks.circuits.agreement import ensemble
from glassworks.circuits.claims import model_claims, save_curves
from glassworks.circuits.evaluate import judging_problem, open_circuit, recovery_claims
from glassworks.circuits.faithfulness import CurvePoint, faithfulness_curve, measure_circuit
from glassworks.circuits.find import CIRCUIT, GraphOptions, PairOptions
from glassworks.circuits.objectives import by_example, divergence
from glassworks.circuits.picture import as_page, difference_svg
from glassworks.circuits.problem import Ablation, Problem
from glassworks.errors import GraphMismatch, OptionError
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.circuit_files import write_circuit
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_text
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import Estimate, bootstrap_mean
from glassworks.report.figures import FIGURES_FOLDER, Point, forest, save_figure

LINES = 5
"""More curves than this in one figure cannot be told apart."""


def compare_circuits(
    circuits: list[str],
    out: str = "runs/circuit-compare",
    models: list[str] | None = None,
    data: str = "ioi",
    ablation: Ablation = "interchange",
    truth: str | None = None,
    pairs: PairOptions = PairOptions(),
    seed: int = 43,
    device: str = "auto",
) -> Run:
    """Compare circuits of one graph: overlaps, what most of them keep, drawn side by side, faithfulness.

    Shell: glassworks circuits compare [runs/before,runs/after] --models [MODEL,runs/align/model]

    Args:
        circuits: Run folders of `circuits find`, circuit.json or graph JSON files; at least two.
        out: The run folder.
        models: One, to measure all circuits in, or one for each circuit; none: only edges are compared.
        data: The task or file of the prompts to measure on.
        ablation: What an edge outside a circuit carries.
        truth: A file of the known circuit, to score each against.
        pairs: The prompts; those to judge by are used.
        seed: Draws the pairs.
        device: auto, cpu, cuda or cuda:N.
    """
    arguments = dict(locals())
    with Run.start(out, compare_circuits, arguments) as run:
        if len(circuits) < 2:
            raise OptionError(f"expected at least two, received {len(circuits)}", place="circuits")
        if models is not None and len(models) not in (1, len(circuits)):
            raise OptionError(
                f"received {len(models)} models for {len(circuits)} circuits", place="models",
                remedy="Give one model for all circuits, or one for each in the same order.",
            )  # fmt: skip
        opened = dict(zip(short_names(circuits), map(open_circuit, circuits), strict=True))
        known = None if truth is None else open_circuit(truth)
        grain = next(iter(opened.values())).graph
        options = GraphOptions(grain.embeddings, grain.ungrouped)
        problems = {
            name: judging_problem(model, data, ablation, options, pairs, seed, device)
            for name, model in zip(short_names(models or []), models or [], strict=True)
        }
        for (name, circuit), (owner, problem) in product(opened.items(), problems.items()):
            if circuit.graph != problem.graph:
                raise GraphMismatch(f"{name} is of a graph with {circuit.graph}, that of {owner} has {problem.graph}")
        _overlaps(run, opened)
        write_circuit(run.path / CIRCUIT, ensemble(list(opened.values())))
        if problems:
            _faithfulness(run, opened, problems, seed)
            _shifts(run, problems, seed)
        if known is not None:
            for name, circuit in opened.items():
                run.record(*recovery_claims(circuit, known, name))
    return run


def _overlaps(run: Run, opened: Mapping[str, Circuit]) -> None:
    """What each two circuits share, as claims and side by side."""
    for (one, first), (two, second) in combinations(opened.items(), 2):
        shared = first.overlap(second)
        setting = f"{one} ({int(first.effective.sum())} edges) and {two} ({int(second.effective.sum())})"
        run.record(
            Evidence("circuits", f"Edges that {one} and {two} share, of those in either", "iou", shared.iou,
                     better="none", setting=setting, artefact=CIRCUIT),
            Evidence("circuits", f"Share of {one}'s edges that {two} has", "share_of_first", shared.share_of_first,
                     better="none", setting=setting, artefact=CIRCUIT),
            Evidence("circuits", f"Share of {two}'s edges that {one} has", "share_of_second", shared.share_of_second,
                     better="none", setting=setting, artefact=CIRCUIT),
        )  # fmt: skip
        caption = f"Edges of {one} and of {two}: {shared.shared} shared, {shared.iou:.0%} of those in either."
        alt = f"{one} and {two} side by side; {shared.shared} edges are in both."
        if not (first | second).n_edges:
            continue
        svg = difference_svg(first, second, names=(one, two), caption=caption, alt=alt)
        name = f"{one}-and-{two}".replace("/", "-")
        write_text(run.path / FIGURES_FOLDER / f"{name}.svg", svg)
        write_text(run.path / f"{name}.html", as_page(svg, caption))


def _faithfulness(run: Run, opened: Mapping[str, Circuit], problems: Mapping[str, Problem], seed: int) -> None:
    """Each circuit's KL in each model on the same prompts, as claims and as one figure; its curve in its own model."""
    points, several = [], len(problems) > 1
    lines: dict[str, list[CurvePoint]] = {}
    for at, (model, problem) in enumerate(problems.items()):
        run.record(*model_claims(problem, seed, model))
        for number, (name, circuit) in enumerate(opened.items()):
            kl = bootstrap_mean(measure_circuit(problem, circuit.effective)["kl"])
            label = f"{name} in {model}" if several else name
            points.append(Point(f"{label}, {circuit.n_edges} edges", kl.value, *kl.interval, kl.n))
            run.record(_divergence(f"Divergence of {label} from the full model", "kl", kl, problem, seed))
            if circuit.scores is not None and (not several or number == at):
                lines[label] = faithfulness_curve(problem, circuit)
    if 0 < len(lines) <= LINES:
        save_curves(run, lines)
    size = len(next(iter(problems.values())))
    save_figure(
        forest(points, x_label="KL from the full model, nats (0 = faithful)"),
        run.path / FIGURES_FOLDER / "divergence.svg",
        caption=f"How far each circuit's answers are from its full model's, on {size} prompts; 95 % intervals.",
        alt="; ".join(f"{point.label}: {point.value:.3f} nats" for point in points) + ".",
    )


def _shifts(run: Run, problems: Mapping[str, Problem], seed: int) -> None:
    """How far each two models' own answers are apart on the prompts; nothing where their tokens differ."""
    for (one, first), (two, second) in combinations(problems.items(), 2):
        if first.pairs.pairs == second.pairs.pairs:
            values = bootstrap_mean(model_divergence(first, second).cpu().double().numpy())
            run.record(_divergence(f"Divergence of {two}'s answers from {one}'s", "model_shift", values, first, seed))


@torch.no_grad()
def model_divergence(first: Problem, second: Problem) -> Tensor:
    """KL(first || second) of two full models on the same pairs, nats an example, [examples]."""
    parts = []
    for one, two in zip(first.batches(64), second.batches(64), strict=True):
        apart = divergence(one.full, two.full.to(one.full))
        parts.append(by_example(apart, one.batch.at.rows, one.batch.weights))
    return torch.cat(parts)


def _divergence(claim: str, metric: str, measured: Estimate, problem: Problem, seed: int) -> Evidence:
    ends = (measured.interval.low, measured.interval.high)
    return Evidence(
        "circuits", claim, metric, measured.value, "nats", "lower" if metric == "kl" else "none", ends, measured.n,
        setting=f"{problem.pairs.name}; {problem.ablation} ablation", seed=seed,
    )  # fmt: skip


def short_names(paths: list[str]) -> list[str]:
    """The shortest names that tell the paths apart: their own, or with the folder's before it."""
    names = [Path(path).stem for path in paths]
    if len(set(names)) == len(names):
        return names
    longer = ["/".join(Path(path).with_suffix("").parts[-2:]) for path in paths]
    return longer if len(set(longer)) == len(longer) else [f"{at}:{name}" for at, name in enumerate(longer, start=1)]

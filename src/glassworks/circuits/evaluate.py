"""Verbs `circuits eval` and `circuits compare`: circuits from any source, measured on the same prompts.

A circuit is a run folder, circuit.json, edges.json (Edge Pruning) or a graph JSON of EAP-IG / MIB. `eval` measures one
beside the full model and, where it is known, the true circuit; `compare` measures several, their overlaps, the edges
that most of them keep, and draws two side by side: two methods, two seeds, or a model before and after training.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from glassworks.circuits.agreement import ensemble, recovery
from glassworks.circuits.claims import Measured, circuit_claims, save_curve, save_picture
from glassworks.circuits.faithfulness import faithfulness_curve, measure_circuit
from glassworks.circuits.find import CIRCUIT, GraphOptions, PairOptions, load_masked, task_pairs
from glassworks.circuits.picture import as_page, difference_svg
from glassworks.circuits.problem import Ablation, Problem
from glassworks.errors import GraphMismatch, MalformedRecord, OptionError
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.circuit_files import read_circuit, read_eap, read_edges, write_circuit
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_json, write_text
from glassworks.foundations.graph import Graph
from glassworks.foundations.models import load_tokenizer
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import bootstrap_mean
from glassworks.report.figures import FIGURES_FOLDER, Point, forest, save_figure


def evaluate_circuit(
    circuit: str,
    model: str,
    data: str = "ioi",
    out: str = "runs/circuit-eval",
    ablation: Ablation = "interchange",
    truth: str | None = None,
    graph: GraphOptions = GraphOptions(),
    pairs: PairOptions = PairOptions(),
    seed: int = 43,
    device: str = "auto",
) -> Run:
    """Measure how faithful a circuit is to its model, and how much of a known circuit it finds.

    Shell: glassworks circuits eval edges.json gpt2 --data ioi

    Args:
        circuit: A run folder of `circuits find`, circuit.json, edges.json or an EAP-IG / MIB graph JSON.
        model: Hugging Face id, folder or packaged:NAME.
        data: A task (ioi, ioi-t1, gt, gp, bool), a JSONL of clean and corrupted prompts, or a MIB CSV.
        out: The run folder.
        ablation: What an edge outside the circuit carries.
        truth: A file of the known circuit, such as a compiled model's circuit.json.
        graph: The graph that the model is read as.
        pairs: The prompts; those to judge by are used.
        seed: Draws the pairs; another than the search's.
        device: auto, cpu, cuda or cuda:N.
    """
    arguments = dict(locals())
    with Run.start(out, evaluate_circuit, arguments) as run:
        problem = _problem(model, data, ablation, graph, pairs, seed, device)
        found = open_circuit(circuit, problem.graph)
        figures = measure_circuit(problem, found.effective)
        curve = faithfulness_curve(problem, found) if found.scores is not None else []
        run.record(*circuit_claims(Measured(figures, problem, found, seed), curve))
        write_circuit(run.path / CIRCUIT, found)
        write_json(run.path / "metrics.json", {name: float(values.mean()) for name, values in figures.items()})
        if curve:
            save_curve(run, curve, found.provenance.method or "circuit")
        if truth is not None:
            run.record(*_recovery_claims(found, open_circuit(truth, problem.graph), data))
        save_picture(run, found)
    return run


def compare_circuits(
    circuits: list[str],
    out: str = "runs/circuit-compare",
    model: str | None = None,
    data: str = "ioi",
    ablation: Ablation = "interchange",
    truth: str | None = None,
    pairs: PairOptions = PairOptions(),
    seed: int = 43,
    device: str = "auto",
) -> Run:
    """Compare circuits of one graph: overlaps, what most of them keep, and two drawn side by side.

    Shell: glassworks circuits compare [runs/before,runs/after]

    Args:
        circuits: Run folders of `circuits find`, circuit.json or graph JSON files; at least two.
        out: The run folder.
        model: Measure all of them in this model on the same prompts; none: only edges are compared.
        data: The task or file of those prompts.
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
        opened = dict(zip(_short(circuits), map(open_circuit, circuits), strict=True))
        _overlaps(run, opened)
        most = ensemble(list(opened.values()))
        write_circuit(run.path / CIRCUIT, most)
        if model is not None:
            grain = next(iter(opened.values())).graph
            options = GraphOptions(grain.embeddings, grain.ungrouped)
            _faithfulness(run, opened, _problem(model, data, ablation, options, pairs, seed, device), seed)
        if truth is not None:
            known = open_circuit(truth)
            for name, circuit in opened.items():
                run.record(*_recovery_claims(circuit, known, name))
    return run


def open_circuit(path: str, graph: Graph | None = None) -> Circuit:
    """The circuit of a run folder or file of any known format, over `graph` where one is given.

    Raises DataNotFound, MalformedRecord, and GraphMismatch, naming both graphs.
    """
    file = Path(path) / CIRCUIT if Path(path).is_dir() else Path(path)
    text = file.read_text(encoding="utf-8")[:4096].lstrip() if file.is_file() else ""
    if text.startswith("["):
        if graph is None:
            raise MalformedRecord(
                "edges.json names no graph", place=path, remedy="Evaluate it with its model first: circuits eval."
            )
        return read_edges(file, graph)
    if '"cfg"' in text:
        return read_eap(file, graph)
    circuit = read_circuit(file)
    if graph is None or circuit.graph == graph:
        return circuit
    if {circuit.graph.embeddings, graph.embeddings} == {1, 2}:
        circuit = circuit.with_embeddings(graph.embeddings)
    if circuit.graph != graph:
        raise GraphMismatch(f"the file's graph has {circuit.graph}, the model's {graph}", place=path)
    return circuit


def _problem(
    model: str, data: str, ablation: Ablation, graph: GraphOptions, pairs: PairOptions, seed: int, device: str
) -> Problem:
    if ablation == "optimal":
        raise OptionError("constants are learned by a search and cannot be judged apart", place="ablation")
    _, test = task_pairs(data, load_tokenizer(model), pairs, seed)
    return Problem(load_masked(model, graph, device), test, ablation)


def _overlaps(run: Run, opened: dict[str, Circuit]) -> None:
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


def _faithfulness(run: Run, opened: dict[str, Circuit], problem: Problem, seed: int) -> None:
    """Each circuit's KL on the same prompts, as claims and as one figure."""
    points = []
    for name, circuit in opened.items():
        if circuit.graph != problem.graph:
            raise GraphMismatch(f"{name} is of a graph with {circuit.graph}, the model's has {problem.graph}")
        kl = bootstrap_mean(measure_circuit(problem, circuit.effective)["kl"])
        ends = (kl.interval.low, kl.interval.high)
        points.append(Point(f"{name}, {circuit.n_edges} edges", kl.value, *kl.interval, kl.n))
        run.record(Evidence(
            "circuits", f"Divergence of {name} from the full model", "kl", kl.value, "nats", "lower",
            ends, kl.n, setting=f"{problem.pairs.name}; {problem.ablation} ablation", seed=seed,
        ))  # fmt: skip
    save_figure(
        forest(points, x_label="KL from the full model, nats (0 = faithful)"),
        run.path / FIGURES_FOLDER / "divergence.svg",
        caption=f"How far each circuit's answers are from the full model's, on {len(problem)} prompts; 95 % intervals.",
        alt="; ".join(f"{point.label}: {point.value:.3f} nats" for point in points) + ".",
    )


def _recovery_claims(found: Circuit, truth: Circuit, name: str) -> list[Evidence]:
    scored = recovery(found, truth)
    n = int(truth.effective.sum())
    claims = {
        "f1": "F1 of the circuit's edges against the known circuit",
        "precision": "Share of the circuit's edges that are in the known circuit",
        "recall": "Share of the known circuit's edges that were found",
        "auc": "Ranking of known edges above others (ROC-AUC)",
    }
    values = {metric: getattr(scored, metric) for metric in claims}
    return [
        Evidence("circuits", claim, metric, values[metric], better="higher", n=n, setting=name, artefact=CIRCUIT)
        for metric, claim in claims.items()
        if values[metric] is not None
    ]


def _short(paths: list[str]) -> list[str]:
    """The shortest names that tell the paths apart: their own, or with the folder's before it."""
    names = [Path(path).stem for path in paths]
    if len(set(names)) == len(names):
        return names
    longer = ["/".join(Path(path).with_suffix("").parts[-2:]) for path in paths]
    return longer if len(set(longer)) == len(longer) else [f"{at}:{name}" for at, name in enumerate(longer, start=1)]

"""Verb `circuits eval`: a circuit from any source, measured beside the full model and, where known, the true circuit.

A circuit is a run folder, circuit.json, edges.json (Edge Pruning) or a graph of EAP-IG / MIB, JSON or .pt;
`open_circuit` reads them all and refuses one of another graph. Writes the circuit, its figures, picture and curve.
"""

from __future__ import annotations

from pathlib import Path

from glassworks.circuits.agreement import recovery
from glassworks.circuits.claims import Measured, circuit_claims, model_claims, save_curves, save_picture
from glassworks.circuits.faithfulness import faithfulness_curve, measure_circuit
from glassworks.circuits.find import CIRCUIT, GraphOptions, PairOptions, load_masked, task_pairs
from glassworks.circuits.problem import Ablation, Problem
from glassworks.errors import GraphMismatch, MalformedRecord, OptionError
from glassworks.foundations.adapters import tokenizer_of
from glassworks.foundations.circuit import Circuit
from glassworks.foundations.circuit_files import read_circuit, read_eap, read_edges, write_circuit
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import write_json
from glassworks.foundations.graph import Graph
from glassworks.foundations.runs import Run


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
        circuit: A run folder of `circuits find`, circuit.json, edges.json or an EAP-IG / MIB graph (.json, .pt).
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
        problem = judging_problem(model, data, ablation, graph, pairs, seed, device)
        found = open_circuit(circuit, problem.graph)
        known = None if truth is None else open_circuit(truth, problem.graph)
        figures = measure_circuit(problem, found.effective)
        curve = faithfulness_curve(problem, found) if found.scores is not None else []
        run.record(*model_claims(problem, seed), *circuit_claims(Measured(figures, problem, found, seed), curve))
        write_circuit(run.path / CIRCUIT, found)
        write_json(run.path / "metrics.json", {name: float(values.mean()) for name, values in figures.items()})
        if curve:
            save_curves(run, {found.provenance.method or "circuit": curve})
        if known is not None:
            run.record(*recovery_claims(found, known, data))
        save_picture(run, found)
    return run


def open_circuit(path: str, graph: Graph | None = None) -> Circuit:
    """The circuit of a run folder or file of any known format, over `graph` where one is given.

    Raises DataNotFound, MalformedRecord, and GraphMismatch, naming both graphs.
    """
    file = Path(path) / CIRCUIT if Path(path).is_dir() else Path(path)
    if file.suffix == ".pt":
        return read_eap(file, graph)
    text = file.read_text(encoding="utf-8", errors="replace")[:4096].lstrip() if file.is_file() else ""
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


def judging_problem(
    model: str, data: str, ablation: Ablation, graph: GraphOptions, pairs: PairOptions, seed: int, device: str
) -> Problem:
    """The pairs of `data` that circuits are judged by, in `model`. Raises OptionError for optimal ablation."""
    if ablation == "optimal":
        raise OptionError("constants are learned by a search and cannot be judged apart", place="ablation")
    _, test = task_pairs(data, tokenizer_of(model), pairs, seed)
    return Problem(load_masked(model, graph, device), test, ablation)


def recovery_claims(found: Circuit, truth: Circuit, name: str) -> list[Evidence]:
    """Precision, recall, F1 and AUC of `found` against the known circuit; setting: name."""
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

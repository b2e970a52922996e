"""Verb `circuits find`: a model and prompt pairs in, a faithful circuit, its picture and its figures out.

Check, load, search, cut to an exact count, measure beside the full model on pairs that the search did not see, draw.
Writes circuit.json, edges.json, circuit.eap.json, mask.safetensors (Edge Pruning), and figures. Killed and run again,
a search by Edge Pruning goes on where it was last saved and ends with the same circuit.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from glassworks.circuits.attribution import Attribution
from glassworks.circuits.claims import (
    Measured,
    circuit_claims,
    model_claims,
    save_curves,
    save_picture,
    training_figure,
)
from glassworks.circuits.edge_pruning import EdgePruning
from glassworks.circuits.faithfulness import faithfulness_curve, measure_circuit
from glassworks.circuits.masked_model import MaskedModel
from glassworks.circuits.methods import Found, Method, check_sparsity, find
from glassworks.circuits.pairs import OnMisaligned, PairSet
from glassworks.circuits.problem import Ablation, Problem
from glassworks.circuits.tasks import Corruption, load_task
from glassworks.errors import OptionError
from glassworks.foundations.adapters import load_merged, merged_sha, tokenizer_of
from glassworks.foundations.circuit import Circuit, Provenance
from glassworks.foundations.circuit_files import write_circuit, write_eap, write_edges
from glassworks.foundations.files import write_json, write_text
from glassworks.foundations.runs import Run
from glassworks.foundations.sparsity import saved_step

logger = logging.getLogger(__name__)

CIRCUIT, MASK = "circuit.json", "mask.safetensors"
SHOWN = 24


@dataclass(frozen=True)
class GraphOptions:
    """Which graph is searched, and how it is computed; sparsities of two graphs do not compare.

    Args:
        embeddings: Embedding writers: 1, 2 (tokens and positions apart) or 0 (always read, not counted).
        ungrouped: One key and value reader a query head where the model groups them.
        checkpointing: Compute activations twice instead of keeping them.
        dtype: Precision of the model; auto: as it is stored. Gates and their sums are float32 in any.
    """

    embeddings: int = 1
    ungrouped: bool = False
    checkpointing: bool = False
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


@dataclass(frozen=True)
class PairOptions:
    """Which pairs are searched on and judged by.

    Args:
        train: Pairs to search on, at most.
        test: Pairs to judge by, at most; a generator makes fresh ones.
        corruption: How indirect-object prompts are corrupted.
        on_misaligned: Stop at a pair whose prompts differ in length, or skip and count it.
    """

    train: int = 200
    test: int = 200
    corruption: Corruption = "abc"
    on_misaligned: OnMisaligned = "stop"

    def __post_init__(self) -> None:
        if min(self.train, self.test) < 1:
            raise OptionError("at least 1 pair is needed to search and 1 to judge", place="pairs")


def find_circuit(
    model: str,
    data: str = "ioi",
    out: str = "runs/circuit",
    method: Method = "edge-pruning",
    sparsity: float = 0.97,
    ablation: Ablation = "interchange",
    graph: GraphOptions = GraphOptions(),
    pairs: PairOptions = PairOptions(),
    pruning: EdgePruning = EdgePruning(),
    attribution: Attribution = Attribution(),
    seed: int = 42,
    device: str = "auto",
) -> Run:
    """Find the edges of a model that suffice for a task, and measure how faithful they are.

    Shell: glassworks circuits find gpt2 --data ioi --sparsity 0.97

    Args:
        model: Hugging Face id, packaged:NAME, or the folder of a model or of an adapter (PEFT).
        data: A task (ioi, ioi-t1, gt, gp, bool), a JSONL of clean and corrupted prompts, or a MIB CSV.
        out: The run folder.
        method: How edges are ranked.
        sparsity: Share of edges that the circuit lacks, in [0, 1).
        ablation: What an edge outside the circuit carries.
        graph: The graph that is searched.
        pairs: The prompts.
        pruning: Settings of Edge Pruning.
        attribution: Settings of the other methods.
        seed: Draws pairs, gates and noise.
        device: auto, cpu, cuda or cuda:N.
    """
    arguments = dict(locals())
    with Run.start(out, find_circuit, arguments) as run:
        check_sparsity(sparsity)
        tokenizer = tokenizer_of(model)
        training, test = task_pairs(data, tokenizer, pairs, seed)
        masked = load_masked(model, graph, device)
        problem, judged = Problem(masked, training, ablation), Problem(masked, test, ablation)
        provenance = Provenance(model, merged_sha(model), "", ablation, method, data)
        run.rewind_log(saved_step(run.path / MASK) - 1)
        found = find(
            problem,
            method,
            sparsity,
            pruning=pruning,
            attribution=attribution,
            seed=seed,
            checkpoint=run.path / MASK,
            log=lambda line: run.log(**line),
            provenance=provenance,
        )
        _warn_of_early_cut(found, sparsity)
        if problem.constants is not None:
            judged.constants = problem.constants.detach()
        _write(run, found.circuit)
        _samples(run, judged, found.circuit, tokenizer)
        _judge(run, judged, found, method, seed)
    return run


def task_pairs(
    data: str, tokenizer: PreTrainedTokenizerBase, options: PairOptions, seed: int
) -> tuple[PairSet, PairSet]:
    """Pairs to search on and pairs to judge by; a generator's do not overlap, a file's own split is kept."""
    training, test = load_task(
        data,
        tokenizer,
        options.train + options.test,
        seed=seed,
        corruption=options.corruption,
        on_misaligned=options.on_misaligned,
    )
    for part in {id(training): training, id(test): test}.values():
        if part.skipped:
            logger.warning("%s: %d pairs are not aligned and were left out", data, part.skipped)
    if training is not test:
        return training.take(0, options.train), test.take(0, options.test)
    if len(training) < options.train + options.test:
        logger.warning("%s: %d pairs serve for the search and for judging alike", data, len(training))
        return training.take(0, options.train), test.take(0, options.test)
    return training.take(0, options.train), training.take(options.train, options.train + options.test)


def load_masked(model: str, graph: GraphOptions, device: str) -> MaskedModel:
    """The gated model. Raises the errors of loading, and UnsupportedArchitecture."""
    loaded = load_merged(model, device=device, dtype=graph.dtype)
    return MaskedModel(
        loaded, embeddings=graph.embeddings, ungrouped=graph.ungrouped, checkpointing=graph.checkpointing
    )


def _warn_of_early_cut(found: Found, sparsity: float) -> None:
    """Say that the cut ranks gates that training left undecided."""
    if found.trained is not None and found.trained.sparsity < sparsity - 0.005:
        logger.warning(
            "training reached sparsity %.3f; the cut at %.3f ranks gates that it did not decide. "
            "Train longer, or with a higher --pruning.target.",
            found.trained.sparsity, sparsity,
        )  # fmt: skip


def _judge(run: Run, judged: Problem, found: Found, method: Method, seed: int) -> None:
    """Measure the circuit beside the full model, record it, and draw circuit, curve and training."""
    figures = measure_circuit(judged, found.circuit.effective)
    reached = None if found.trained is None else found.trained.sparsity
    curve = faithfulness_curve(judged, found.circuit)
    measured = Measured(figures, judged, found.circuit, seed, reached)
    run.record(*model_claims(judged, seed), *circuit_claims(measured, curve))
    write_json(run.path / "metrics.json", {name: float(values.mean()) for name, values in figures.items()})
    save_picture(run, found.circuit)
    save_curves(run, {method: curve})
    training_figure(run)


def _write(run: Run, circuit: Circuit) -> None:
    write_circuit(run.path / CIRCUIT, circuit)
    write_edges(run.path / "edges.json", circuit)
    if circuit.graph.embeddings:
        write_eap(run.path / "circuit.eap.json", circuit)


def _samples(run: Run, problem: Problem, circuit: Circuit, tokenizer: PreTrainedTokenizerBase) -> None:
    """Prompts with the circuit's answers, in the form that reports show, beside those of the full model."""
    prepared = problem.prepare(range(min(SHOWN, len(problem))))
    gates = circuit.effective.to(problem.masked.ones())
    logits, lines = problem.logits(prepared, gates), []
    choices = None if problem.choices is None else problem.choices.tolist()
    for at in range(len(prepared.full)):
        row, column = int(prepared.batch.at.rows[at]), int(prepared.batch.at.columns[at])
        answers = [int(side[at].argmax()) for side in (prepared.full, logits)]
        words = [tokenizer.decode([choices[answer] if choices else answer]) for answer in answers]
        prompt = tokenizer.decode(prepared.batch.clean[row, : column + 1].tolist())
        expected = tokenizer.decode([int(prepared.batch.targets[at])])
        lines.append({"question": prompt, "answer": words[1], "answers": [expected], "full model": words[0]})
    write_text(run.path / "samples.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

"""Verbs `circuits data` and `circuits toy`: prompt pairs on disk, and small models whose circuits are worth finding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from glassworks.circuits.pairs import TextPair
from glassworks.circuits.sites import graph_of
from glassworks.circuits.tasks import Corruption, as_json, generate
from glassworks.circuits.toy_model import (
    TRUE_EDGES,
    indirect_object_rows,
    symbol_rows,
    train_indirect_object,
    written_model,
)
from glassworks.errors import check_at_least
from glassworks.foundations.adapters import tokenizer_of
from glassworks.foundations.anatomy import anatomy
from glassworks.foundations.circuit import Circuit, Provenance
from glassworks.foundations.circuit_files import write_circuit
from glassworks.foundations.evidence import Evidence
from glassworks.foundations.files import atomic_write, write_text
from glassworks.foundations.runs import Run
from glassworks.foundations.statistics import proportion

PAIRS, MODEL, TRUTH = "pairs.jsonl", "model", "truth.json"


def circuit_data(
    task: Literal["ioi", "ioi-t1", "gt", "gp", "bool"],
    out: str = "runs/pairs",
    n: int = 400,
    model: str | None = None,
    corruption: Corruption = "abc",
    seed: int = 42,
) -> Run:
    """Write clean and corrupted prompts of a task as JSONL, half to search on and half to judge by.

    Shell: glassworks circuits data ioi --model gpt2

    Args:
        task: Indirect objects (many frames, or one), greater-than, gendered pronouns, Boolean expressions.
        out: The run folder; holds pairs.jsonl.
        n: How many pairs.
        model: Keep to words that this model's tokenizer does not split.
        corruption: How indirect-object prompts are corrupted: fresh names, swapped roles, or another giver.
        seed: Draws the pairs.
    """
    arguments = dict(locals())
    with Run.start(out, circuit_data, arguments) as run:
        tokenizer = tokenizer_of(model) if model else None
        rows = generate(task, n, seed=seed, corruption=corruption, tokenizer=tokenizer)
        _write_pairs(run.path / PAIRS, rows[: (n + 1) // 2], rows[(n + 1) // 2 :])
        run.record(Evidence("circuits", "Prompt pairs written", "pairs", float(n), setting=task, seed=seed,
                            artefact=PAIRS))  # fmt: skip
    return run


def toy_circuit_model(
    kind: Literal["trained", "written"] = "trained", out: str = "runs/toy", steps: int = 2500, seed: int = 0
) -> Run:
    """Make a small model with a circuit worth finding: trained on indirect objects, or written by hand.

    Shell: glassworks circuits toy --out runs/toy

    Args:
        kind: Trained: 3 layers, 4 heads, 262 edges. Written: 2 layers, 2 heads, 46 edges, of which 3 are its circuit.
        out: The run folder; holds model/, pairs.jsonl and, of the written one, truth.json.
        steps: Longest training.
        seed: Of the weights and the pairs.
    """
    arguments = dict(locals())
    with Run.start(out, toy_circuit_model, arguments) as run:
        check_at_least(1, steps=steps)
        if kind == "trained":
            model, tokenizer = train_indirect_object(seed, steps=steps, log=lambda line: run.log(**line))
            training, test = indirect_object_rows(200, seed), indirect_object_rows(512, seed + 100)
        else:
            model, tokenizer = written_model()
            training, test = symbol_rows(64, seed), symbol_rows(128, seed + 100)
            graph = graph_of(anatomy(model))
            provenance = Provenance(str(run.path / MODEL), "", "", "interchange", "written by hand", "symbols")
            write_circuit(run.path / TRUTH, Circuit.from_edges(graph, list(TRUE_EDGES), provenance))
        with atomic_write(run.path / MODEL) as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        _write_pairs(run.path / PAIRS, training, test)
        # All rows have as many tokens.
        ids = tokenizer([row.clean for row in test], return_tensors="pt", return_token_type_ids=False)
        told = model(ids["input_ids"]).logits[:, -1].argmax(-1).tolist()
        right = sum(a == tokenizer.convert_tokens_to_ids(row.answer.strip()) for a, row in zip(told, test, strict=True))
        share = proportion(right, len(test))
        ends = (share.interval.low, share.interval.high)
        run.record(Evidence(
            "circuits", "Right answers of the small model on fresh prompts", "toy_accuracy", share.value,
            better="higher", interval=ends, n=share.n, setting=kind, seed=seed, artefact=MODEL,
        ))  # fmt: skip
    return run


def _write_pairs(path: Path, training: list[TextPair], test: list[TextPair]) -> None:
    rows = [replace(row, split="train") for row in training] + [replace(row, split="validation") for row in test]
    write_text(path, "".join(as_json(row) + "\n" for row in rows))

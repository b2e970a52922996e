"""Edge Pruning beside its peers on the toy of indirect objects, over three models.

Run: python benchmarks/circuits_toy.py

Each seed trains the 3-layer toy (262 edges). Every method searches in 200 pairs and keeps the same number of edges; KL
from the full model is measured on 512 fresh pairs. Edge Pruning has the published rates, 1,500 steps, 1,250 of them
warm-up; EAP-IG has five steps, over inputs and over gates, of the logit difference and of the KL itself, its
strongest form here. Targets: the median KL of Edge Pruning is at most 0.4 of EAP's and 0.75 of EAP-IG's, random edges
are at 5 nats or more, and training reaches its sparsity to 0.05. Figures are kept after every seed.
"""

from __future__ import annotations

import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from log_probs_memory import processor

from glassworks.circuits.attribution import Attribution
from glassworks.circuits.edge_pruning import EdgePruning
from glassworks.circuits.faithfulness import measure_circuit
from glassworks.circuits.masked_model import MaskedModel
from glassworks.circuits.methods import Method, find
from glassworks.circuits.pairs import tokenise
from glassworks.circuits.problem import Problem
from glassworks.circuits.toy_model import indirect_object_rows, train_indirect_object

SEEDS, SPARSITY = (0, 1, 2), 0.85
PRUNING = EdgePruning(steps=1500, warmup_steps=1250, lr_warmup_steps=100)
RESULTS = Path(__file__).parent / "results" / "circuits_toy.json"
PATHS: dict[str, tuple[Method, Attribution]] = {
    "edge-pruning": ("edge-pruning", Attribution()),
    "eap": ("eap", Attribution()),
    "eap-ig inputs, logit_diff": ("eap-ig", Attribution()),
    "eap-ig inputs, kl": ("eap-ig", Attribution(objective="kl")),
    "eap-ig gates, logit_diff": ("eap-ig", Attribution(path="gates")),
    "eap-ig gates, kl": ("eap-ig", Attribution(path="gates", objective="kl")),
    "random": ("random", Attribution()),
}


def measure(seed: int) -> list[dict[str, object]]:
    """A row for each method on the model of one seed."""
    model, tokenizer = train_indirect_object(seed)
    masked = MaskedModel(model)
    training, test = (
        Problem(masked, tokenise(indirect_object_rows(n, of), tokenizer, name="toy"))
        for n, of in ((200, seed), (512, seed + 100))
    )
    rows: list[dict[str, object]] = []
    for path, (method, attribution) in PATHS.items():
        started = time.process_time()
        found = find(training, method, SPARSITY, pruning=PRUNING, attribution=attribution)
        seconds = time.process_time() - started
        figures = measure_circuit(test, found.circuit.effective)
        row = {"seed": seed, "path": path, "edges": found.circuit.n_edges, "seconds": seconds}
        row |= {name: float(figures[name].mean()) for name in ("kl", "exact_match", "logit_diff")}
        rows.append(row | ({} if found.trained is None else {"sparsity_reached": found.trained.sparsity}))
        print(f"{seed:4} {path:26} {row['kl']:8.3f} {row['exact_match']:6.3f} {row['seconds']:7.1f}", flush=True)
    return rows


def main() -> None:
    """Measure every seed, print the medians and their ratios, write the figures."""
    torch.set_num_threads(1)
    print(f"{'seed':>4} {'path':26} {'KL':>8} {'match':>6} {'CPU s':>7}")
    rows: list[dict[str, object]] = []
    for seed in SEEDS:
        rows += measure(seed)
        median = {path: statistics.median(float(str(row["kl"])) for row in rows if row["path"] == path)
                  for path in PATHS}  # fmt: skip
        ratios = {path: median["edge-pruning"] / value for path, value in median.items()}
        record = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"), "processor": processor(),
            "torch": torch.__version__, "sparsity": SPARSITY, "median_kl": median,
            "edge_pruning_to_median": ratios, "rows": rows,
        }  # fmt: skip
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for path in PATHS:
        print(f"{path:31} median KL {median[path]:7.3f}   Edge Pruning / this {ratios[path]:5.2f}")


if __name__ == "__main__":
    main()

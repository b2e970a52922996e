"""Which circuit finder recovers the necessary edges of a compiled script? F1 at the true sparsity, by process time.

    python benchmarks/eliza_recovery.py --out FILE [--attention soft hard] [--seeds 3] [--slow]

The smallest packaged script is compiled with soft and with hard attention. Truth: the edges whose removal alone changes
a reply of the prompt pairs (interchange). Every method keeps as many edges as the truth has; Edge Pruning is run with
one seed after the other. --slow adds the two that close one edge after the other, a pass of all pairs each.

Hard attention jumps: a gate that is open by 98% breaks a head as if it were closed, so that hardly any gradient says
which gates matter. Soft attention has the same edges, the same replies, and gradients.

Seen (results/eliza_recovery.json): with soft attention Edge Pruning has F1 .91 to .94 over ten seeds, in 11 s, with
hard attention .72 to .78 over three; its settings were chosen on the first three seeds, others gave .84 to .94.
Integrated gate gradients reach .94 on the soft model in 2 s; EAP and EAP-IG stay below .8. Exact patching finds all in
both models, being how the truth is defined, in 60 s, and ACDC all but one: m1 -> a3.h2.k is needed by itself, since
without it the head finds an end that is in neither prompt, but not once the head is cut off, whose place is the same in
both. Methods that judge circuits as a whole leave it out, so their F1 is .97 at best.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from glassworks.circuits.agreement import recovery
from glassworks.circuits.attribution import Attribution
from glassworks.circuits.edge_pruning import EdgePruning
from glassworks.circuits.evaluate import judging_problem, open_circuit
from glassworks.circuits.find import GraphOptions, PairOptions
from glassworks.circuits.methods import Method, find
from glassworks.eliza.compile_verb import MODEL, PAIRS, TRUTH, eliza_compile
from glassworks.eliza.layers import Options

PRUNING = EdgePruning(
    steps=350,
    target=0.978,
    warmup_steps=1,
    lr_warmup_steps=1,
    batch_size=12,
    penalty="expected",
    initial=5.0,
    alpha_lr=0.024,
    lambda_lr=0.1,
    linear_term=False,
    mask_weight_decay=0.0,
)
KL = Attribution(objective="kl", signed=True)
FAST: list[tuple[str, Method, Attribution]] = [
    ("random", "random", Attribution()),
    ("eap, logit difference", "eap", Attribution()),
    ("eap, KL", "eap", Attribution(objective="kl")),
    ("eap-ig, logit difference", "eap-ig", Attribution()),
    ("eap-ig, KL", "eap-ig", Attribution(objective="kl")),
    ("integrated gates, KL", "eap-ig", Attribution(objective="kl", path="gates", steps=20)),
]
SLOW: list[tuple[str, Method, Attribution]] = [("acdc", "acdc", KL), ("exact patching", "exact", KL)]


def measure(attention: str, folder: Path, seeds: int, slow: bool) -> dict[str, Any]:
    """F1, ROC-AUC and seconds of every method on the script compiled in one way."""
    options = Options(max_len=48, max_count=8, attention=attention)  # type: ignore[arg-type]
    eliza_compile("packaged:tiny", str(folder), options, conversations=2)
    model, pairs = str(folder / MODEL), str(folder / PAIRS)
    problem = judging_problem(model, pairs, "interchange", GraphOptions(), PairOptions(), 0, "cpu")
    truth = open_circuit(str(folder / TRUTH), problem.graph)
    rows: list[dict[str, Any]] = []
    runs: list[tuple[str, Method, Attribution, int]]
    runs = [("edge-pruning", "edge-pruning", Attribution(), seed) for seed in range(seeds)]
    runs += [(name, method, settings, 0) for name, method, settings in [*FAST, *(SLOW if slow else [])]]
    for name, method, settings, seed in runs:
        begun = time.process_time()
        found = find(
            problem,
            method,
            truth.edge_sparsity,
            pruning=PRUNING,
            attribution=settings,
            seed=seed,
        ).circuit
        seconds, scored = time.process_time() - begun, recovery(found, truth)
        kl = problem.mean_loss(found.effective.to(problem.masked.ones()))
        row = {"method": name, "seed": seed, "f1": scored.f1, "auc": scored.auc, "kl": kl, "seconds": seconds}
        rows.append(row | {"missed": [f"{edge.writer} -> {edge.reader}" for edge in (truth - found).edges]})
        print(attention, name, seed, f"F1 {scored.f1:.3f}", f"KL {kl:.3f}", f"{seconds:.1f} s", flush=True)
    return {"attention": attention, "edges": problem.graph.n_edges, "necessary": truth.n_edges, "pairs": len(problem),
            "kl_of_truth": problem.mean_loss(truth.effective.to(problem.masked.ones())), "rows": rows}  # fmt: skip


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--attention", nargs="+", default=["soft", "hard"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--slow", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(name, Path(folder) / name, options.seeds, options.slow) for name in options.attention]
    options.out.write_text(json.dumps({"pruning": vars(PRUNING), "models": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

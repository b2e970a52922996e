"""Time of an ablation sweep against one forward pass an ablation, and what hooks cost when every gate is 1.

Run: python benchmarks/subnetworks_sweep.py

A random BERT of 6 layers, 8 heads, width 256 on 16 rows of 32 tokens; all 48 heads ablated one by one; one thread,
process time, medians of ratios taken in one run. Hooks: the gates are set explicitly to ones before each pass, since
a model that is told so should be left alone. Where captum is installed, its FeatureAblation over the vector of gates is
the independent reference: largest difference of any logit's change, and its time. Bars: .6, 1.02 and 1e-5.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from glassworks.circuits.ablation_sweep import ablation_sweep, naive_sweep
from glassworks.circuits.head_masks import UnitGates, gated
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.circuits.unit_means import collect_means
from glassworks.foundations.anatomy import anatomy

LAYERS, HEADS, SWEEPS, PASSES = 6, 8, 2, 30
RESULTS = Path(__file__).parent / "results" / "subnetworks_sweep.json"


def seconds(run: Callable[[], object]) -> float:
    """Process time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def by_captum(gates: UnitGates, batch: dict[str, Tensor]) -> Tensor:
    """How each logit falls when one gate goes from 1 to 0, [rows * classes, layers * heads]."""
    ablation = importlib.import_module("captum.attr").FeatureAblation

    def forward(z: Tensor) -> Tensor:
        units = torch.cat([z.reshape(LAYERS, HEADS), torch.ones(LAYERS, 1)], 1)
        gates.set(units)
        logits: Tensor = gates.parts.model(**batch).logits
        return logits.flatten()

    found: Tensor = ablation(forward).attribute(torch.ones(1, LAYERS * HEADS), baselines=0)
    return found


@torch.no_grad()
def main() -> None:
    """Measure, print and write."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=256,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=1024,
        initializer_range=0.1,
    )
    model = BertForSequenceClassification(config).eval()
    parts, full = anatomy(model, check=False), UnitMask.full(LAYERS, HEADS)
    heads = [name for name in full.names() if not name.endswith("mlp")]
    batch = {"input_ids": torch.randint(5, 30_000, (16, 32))}
    means = collect_means(parts, [batch])
    plain, opened, ratios, captum = [], [], [], []
    for _ in range(PASSES):
        plain.append(seconds(lambda: model(**batch)))
        with gated(parts, means) as gates:
            gates.set(full)
            opened.append(seconds(lambda: model(**batch)))
    with gated(parts, means) as gates:
        difference = largest = None
        if importlib.util.find_spec("captum"):
            swept = ablation_sweep(gates, batch, full, heads, rows_at_once=32)
            ours = torch.stack([(swept[""] - swept[name]).flatten() for name in heads], 1)
            difference = float((by_captum(gates, batch) - ours).abs().max())
            largest = float(ours.abs().max())
        for _ in range(SWEEPS):
            ours_s = seconds(lambda: ablation_sweep(gates, batch, full, heads, rows_at_once=32))
            ratios.append(ours_s / seconds(lambda: naive_sweep(gates, batch, full, heads)))
            if difference is not None:
                captum.append(ours_s / seconds(lambda: by_captum(gates, batch)))
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}",
        "sweep_by_naive": round(statistics.median(ratios), 3),
        "sweep_by_naive_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "open_gates_by_plain": round(statistics.median(o / p for o, p in zip(opened, plain, strict=True)), 4),
        "sweep_by_captum": round(statistics.median(captum), 3) if captum else None,
        "largest_difference_from_captum": difference,
        "largest_change": largest,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

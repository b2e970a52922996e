"""Time of an ablation sweep against one forward pass an ablation, and of a forward pass with all gates open.

Run: .venv/bin/python benchmarks/subnetworks_sweep.py (one thread, process time, medians of ratios in one run).
"""

import statistics
import time
from collections.abc import Callable

import torch
from transformers import BertConfig, BertForSequenceClassification

from glassworks.circuits.ablation_sweep import ablation_sweep, naive_sweep
from glassworks.circuits.head_masks import gated
from glassworks.circuits.subnetwork_units import UnitMask
from glassworks.foundations.anatomy import anatomy


def seconds(run: Callable[[], object]) -> float:
    """Process time of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


@torch.no_grad()
def main() -> None:
    """Print both ratios."""
    torch.set_num_threads(1)
    config = BertConfig(hidden_size=256, num_hidden_layers=6, num_attention_heads=8, intermediate_size=1024)
    model = BertForSequenceClassification(config).eval()
    parts, full = anatomy(model, check=False), UnitMask.full(6, 8)
    heads = [name for name in full.names() if not name.endswith("mlp")]
    batch = {"input_ids": torch.randint(5, 30_000, (16, 32))}
    plain, opened, ratios = [], [], []
    for _ in range(15):
        plain.append(seconds(lambda: model(**batch)))
        with gated(parts, ablation="zero"):
            opened.append(seconds(lambda: model(**batch)))
    with gated(parts, ablation="zero") as gates:
        for _ in range(2):
            fast = seconds(lambda: ablation_sweep(gates, batch, full, heads, rows_at_once=64))
            ratios.append(fast / seconds(lambda: naive_sweep(gates, batch, full, heads)))
    print(f"sweep / naive {statistics.median(ratios):.3f} (bar 0.6)")
    print(f"all gates open / no hooks {statistics.median(opened) / statistics.median(plain):.3f} (bar 1.02)")


if __name__ == "__main__":
    main()

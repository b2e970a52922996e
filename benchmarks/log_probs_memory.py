"""Memory and CPU time of token log-probs from hidden states, against the path through all logits.

Run: python benchmarks/log_probs_memory.py

One preference step's head at the size of SmolLM2-135M: 2,048 response tokens, hidden size 576, vocabulary 49,152,
fp32, forward and backward. Each figure is the median of separate processes: growth of the peak resident memory
during the step, and CPU seconds of the step, one thread. Paths: `log_softmax` (logits, log-softmax, gather: what
preference trainers do), `cross_entropy` (torch's fused loss on the logits) and `glassworks`. The head is frozen
(adapters) or trains (full fine-tuning).
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from glassworks.foundations.log_probs import token_log_probs
from glassworks.foundations.unembedding import Unembedding

TOKENS, HIDDEN, VOCABULARY, REPEATS = 2048, 576, 49_152, 5
RESULTS = Path(__file__).parent / "results" / "log_probs_memory.json"


def through_log_softmax(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Log-probs [tokens] by way of all logits; hidden [tokens, hidden], weight [vocab, hidden]."""
    return F.linear(hidden, weight).log_softmax(-1).gather(1, labels.unsqueeze(1)).squeeze(1)


def through_cross_entropy(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The same by torch's fused loss; hidden [tokens, hidden], weight [vocab, hidden]."""
    return -F.cross_entropy(F.linear(hidden, weight), labels, reduction="none")


def through_chunks(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The same by `token_log_probs`; hidden [tokens, hidden], weight [vocab, hidden]."""
    return token_log_probs(hidden, labels, Unembedding(weight))


PATHS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "log_softmax": through_log_softmax,
    "cross_entropy": through_cross_entropy,
    "glassworks": through_chunks,
}


def step(path: str, head_trains: bool, tokens: int, vocabulary: int) -> dict[str, float]:
    """One forward and backward in this process: growth of peak memory in MiB, CPU seconds, and the loss."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, HIDDEN, generator=generator).requires_grad_()
    weight = torch.randn(vocabulary, HIDDEN, generator=generator).mul_(0.02).requires_grad_(head_trains)
    labels = torch.randint(vocabulary, (tokens,), generator=generator)
    upstream = torch.rand(tokens, generator=generator)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    loss = -(PATHS[path](hidden, weight, labels) * upstream).mean()
    loss.backward()
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mib": (peak - before) / 1024, "seconds": seconds, "loss": float(loss.detach())}


def child(path: str, head: str) -> None:
    """Measure one step after a small one that loads the libraries; print it as JSON."""
    torch.set_num_threads(1)
    step(path, head == "trained", 8, 512)
    print(json.dumps(step(path, head == "trained", TOKENS, VOCABULARY)))


def measure(path: str, head: str) -> dict[str, float]:
    """`child` in a process of its own, because peak memory never falls."""
    command = [sys.executable, __file__, path, head]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(output)
    return result


def main() -> None:
    """Measure every path and head, print one table and write the figures."""
    rows = []
    for head in ("frozen", "trained"):
        # Interleaved, so that a busy spell of the machine falls on every path.
        runs: dict[str, list[dict[str, float]]] = {path: [] for path in PATHS}
        for _ in range(REPEATS):
            for path in PATHS:
                runs[path].append(measure(path, head))
        median = {
            path: {key: statistics.median(run[key] for run in of_path) for key in ("mib", "seconds", "loss")}
            for path, of_path in runs.items()
        }
        ours = median["glassworks"]
        for path in PATHS:
            row = {"head": head, "path": path, "runs": runs[path], **median[path]}
            row["memory_ratio"] = ours["mib"] / median[path]["mib"]
            row["time_ratio"] = ours["seconds"] / median[path]["seconds"]
            rows.append(row)
    print(f"{'head':8} {'path':14} {'peak MiB':>9} {'CPU s':>7} {'ours/this: memory':>18} {'time':>6}")
    for row in rows:
        print(
            f"{row['head']:8} {row['path']:14} {row['mib']:9.0f} {row['seconds']:7.2f} "
            f"{row['memory_ratio']:18.3f} {row['time_ratio']:6.2f}"
        )
    machine = {"machine": platform.machine(), "system": platform.system(), "python": platform.python_version()}
    record = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine,
        "processor": processor(),
        "torch": torch.__version__,
        "tokens": TOKENS,
        "hidden": HIDDEN,
        "vocabulary": VOCABULARY,
        "threads": 1,
        "repeats": REPEATS,
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(*sys.argv[1:])
    else:
        main()

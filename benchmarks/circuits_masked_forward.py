"""CPU time and memory of the gated forward pass, forward and backward, at the shape of GPT-2 small.

Run: python benchmarks/circuits_masked_forward.py

Random weights, 4 prompts of 32 tokens, fp32, one answer each, one thread. Time is CPU seconds, the median of steps that
take turns in one process: `plain` (the model's own forward pass, logits everywhere), `plain_body` (logits at one
place), `glassworks`, `prefix` (the same, with the first half of the prompts in common) and `two_einsums` (every reader
takes z x + (1 - z) x' of all writers, by autograd, on the same modules: the formula of the paper as it stands). Memory
is the growth to the peak in a process of its own, once the model is there (Linux); `bound` is 2.5 buffers of W B S D
numbers and half a GB.
"""

from __future__ import annotations

import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from log_probs_memory import processor
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from glassworks.circuits.masked_model import MaskedModel, Positions
from glassworks.circuits.sites import attention_site, mlp_site
from glassworks.foundations.recompose import read_out, trace

BATCH, LENGTH, REPEATS, WARM = 4, 32, 5, 1
RESULTS = Path(__file__).parent / "results" / "circuits_masked_forward.json"
PATHS = ("plain", "plain_body", "glassworks", "prefix", "two_einsums")


class Setting:
    """A model, prompts, stand-ins and gates to take steps with. shared: places that both prompts have in common."""

    def __init__(self, layers: int = 12, heads: int = 12, width: int = 768, vocabulary: int = 50257) -> None:
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=vocabulary, n_layer=layers, n_head=heads, n_embd=width, n_positions=LENGTH)
        self.masked = MaskedModel(GPT2LMHeadModel(config))
        self.clean, other = (torch.randint(vocabulary, (BATCH, LENGTH)) for _ in range(2))
        self.shared = LENGTH // 2
        half = torch.cat([self.clean[:, : self.shared], other[:, self.shared :]], dim=1)
        self.stand_ins = {0: self.masked.writers(other), self.shared: self.masked.writers(half)}
        self.prefix = self.masked.prefix(self.clean[:, : self.shared])
        self.at = Positions(torch.arange(BATCH), torch.full((BATCH,), LENGTH - 1))
        self.gates = torch.rand(self.masked.graph.exists.shape) * self.masked.ones()
        self.target = self.masked.plain_logits(self.clean, self.at).log_softmax(-1)

    def loss(self, logits: Tensor) -> Tensor:
        """KL of the full model's answers from `logits` [answers, vocab], scalar."""
        return (self.target.exp() * (self.target - logits.log_softmax(-1))).sum(-1).mean()


def plain(setting: Setting, keep: int) -> None:
    """One forward pass of the unmasked model, logits at all places (0) or at the last."""
    with torch.no_grad():
        setting.masked.model(input_ids=setting.clean, logits_to_keep=keep)


def ours(setting: Setting, shared: int) -> Tensor:
    """Gate gradient [writers, readers] by the library's pass."""
    gates = setting.gates.clone().requires_grad_()
    prefix = setting.prefix if shared else None
    logits = setting.masked.logits(setting.clean, setting.stand_ins[shared], gates, setting.at, prefix=prefix)
    return torch.autograd.grad(setting.loss(logits), gates)[0]


def two_einsums(setting: Setting) -> Tensor:
    """The same gradient from z x + (1 - z) x' over all writers, one more copy of the state at every write."""
    masked, gates = setting.masked, setting.gates.clone().requires_grad_()
    z, corrupted = gates * masked.ones(), setting.stand_ins[0]
    calls = trace(masked.parts, setting.clean, activations=False, logits_to_keep=1).attention_calls
    state = torch.zeros_like(corrupted)
    state[:1] = masked.parts.embedding.tables[0](setting.clean) + masked.parts.embedding.tables[1].weight[:LENGTH]

    def read(columns: slice) -> Tensor:
        # A column's share of x' counts where an edge exists.
        closed = (1 - z[:, columns]) * masked.ones()[:, columns]
        return torch.einsum("wr,wbsd->rbsd", z[:, columns], state) + torch.einsum("wr,wbsd->rbsd", closed, corrupted)

    for site in masked.sites:
        layer, reads = masked.parts.layers[site.layer], read(site.readers)
        if site.is_mlp:
            written = mlp_site(layer, reads)
        else:
            written = attention_site(layer, masked.graph, reads, calls[site.layer])
        state = state.index_copy(0, torch.arange(site.writes.start, site.writes.stop), written)
    stream = read(slice(masked.graph.n_readers - 1, None))[0][setting.at.rows, setting.at.columns]
    return torch.autograd.grad(setting.loss(read_out(masked.parts.head, stream)), gates)[0]


STEPS: dict[str, Callable[[Setting], object]] = {
    "plain": lambda setting: plain(setting, 0),
    "plain_body": lambda setting: plain(setting, 1),
    "glassworks": lambda setting: ours(setting, 0),
    "prefix": lambda setting: ours(setting, setting.shared),
    "two_einsums": two_einsums,
}


def times() -> dict[str, list[float]]:
    """CPU seconds of every step of every path, by turns."""
    setting, found = Setting(), {path: [] for path in PATHS}  # type: dict[str, list[float]]
    assert torch.allclose(ours(setting, 0), two_einsums(setting), rtol=1e-3, atol=1e-6)
    for turn in range(WARM + REPEATS):
        for path in PATHS:
            started = time.process_time()
            STEPS[path](setting)
            if turn >= WARM:
                found[path].append(time.process_time() - started)
    return found


def child(path: str) -> None:
    """Print the growth of resident memory to its peak, in MiB, by two steps of `path` on a model that is ready."""
    torch.set_num_threads(1)
    setting = Setting()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what building the setting has freed would hide as much growth
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    before = resident("VmRSS")
    STEPS[path](setting)
    STEPS[path](setting)
    print(resident("VmHWM") - before)


def resident(field: str) -> float:
    """Resident memory of this process, MiB: now (VmRSS) or at its peak (VmHWM). Linux."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field))


def memory(path: str) -> float:
    """`child` in a process of its own, because peak memory never falls."""
    command = [sys.executable, __file__, path]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Measure every path, print one table and write the figures."""
    torch.set_num_threads(1)
    graph = MaskedModel(GPT2LMHeadModel(GPT2Config())).graph
    bound = (2.5 * graph.n_writers * BATCH * LENGTH * 768 * 4 + 5e8) / 2**20
    measured, grown = times(), {path: memory(path) for path in PATHS}
    seconds = {path: statistics.median(of_path) for path, of_path in measured.items()}
    rows = [
        {
            "path": path, "runs": measured[path], "seconds": seconds[path], "mib": grown[path],
            "times_plain": seconds[path] / seconds["plain"], "times_body": seconds[path] / seconds["plain_body"],
            "times_glassworks": seconds[path] / seconds["glassworks"],
            "memory_ratio": grown[path] / grown["glassworks"],
        }
        for path in PATHS
    ]  # fmt: skip
    print(f"{'path':12} {'CPU s':>7} {'x plain':>8} {'x body':>7} {'x ours':>7} {'MiB':>7}   bound {bound:.0f} MiB")
    for row in rows:
        print(
            f"{row['path']:12} {row['seconds']:7.3f} {row['times_plain']:8.2f} {row['times_body']:7.2f} "
            f"{row['times_glassworks']:7.2f} {row['mib']:7.0f}"
        )
    record = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "torch": torch.__version__,
        "batch": BATCH,
        "length": LENGTH,
        "threads": 1,
        "bound_mib": bound,
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        child(sys.argv[1])
    else:
        main()

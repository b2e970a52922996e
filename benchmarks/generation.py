"""What batching, shared beginnings and batch invariance cost and save when a real model generates.

Run: python benchmarks/generation.py

SmolLM2-135M, fp32, CPU, one thread, greedy. Each figure is the median of repeats that take turns, so that a busy
machine slows all paths alike; CPU seconds of the process and wall seconds. Three questions:
answers   8 short conversations, 16 new tokens each: one call a prompt, one call for all, transformers' own
          left-padded `generate` on the same batch, and one call for all, batch-invariant.
beginnings  10 prompts with 256 tokens in common and 32 of their own, read for their first token: as one padded
          batch without sharing, with the beginning computed once in the call, and with it remembered from before.
blocks    one prompt of 1,024 tokens read at once, and in blocks of 32, 64 and 128, as it is to be remembered.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from glassworks.foundations.causal_forward import CausalForward
from glassworks.foundations.decoding import Decoding
from glassworks.foundations.generation import LocalModel, Sampling
from glassworks.foundations.prefix_store import PrefixStore

MODEL, REPEATS = "packaged:smollm2", 5
RESULTS = Path(__file__).parent / "results" / "generation.json"
QUESTIONS = (
    "What is the capital of France?",
    "Name a primary colour.",
    "Who wrote Hamlet?",
    "What do bees make?",
    "How many legs does a spider have?",
    "Which planet is the largest of the solar system?",
    "What is water made of?",
    "In which country is the city of Kyoto?",
)
Reading = Callable[[], object]


def interleaved(paths: dict[str, Reading], repeats: int) -> dict[str, dict[str, float]]:
    """Median CPU and wall seconds of each path; one round runs every path once, the first round is not counted."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
    for turn in range(repeats + 1):
        for name, path in paths.items():
            cpu, wall = time.process_time(), time.perf_counter()
            path()
            if turn:
                taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {
        name: {
            "cpu_s": round(statistics.median(cpu for cpu, _ in times), 3),
            "wall_s": round(statistics.median(wall for _, wall in times), 3),
        }
        for name, times in taken.items()
    }


def answers(model: LocalModel) -> dict[str, Reading]:
    """The paths from 8 conversations to 16 new tokens each; every path writes all 16."""
    free = LocalModel(model.model, model.tokenizer)
    exact = LocalModel(model.model, model.tokenizer, batch_invariant=True)
    for each in (free, exact):
        each._stop_ids = frozenset()
    prompts = [[{"role": "user", "content": question}] for question in QUESTIONS]
    options = Sampling(max_new_tokens=16)
    rows = [free.encode(prompt) for prompt in prompts]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])

    def transformers_generate() -> object:
        return free.model.generate(
            ids, attention_mask=mask, max_new_tokens=16, min_new_tokens=16, do_sample=False, pad_token_id=0
        )

    return {
        "one_by_one": lambda: [free.generate([prompt], options) for prompt in prompts],
        "batched": lambda: free.generate(prompts, options),
        "transformers_batched": transformers_generate,
        "batch_invariant": lambda: exact.generate(prompts, options),
    }


def beginnings(model: LocalModel) -> dict[str, Reading]:
    """The paths from 10 prompts to their first next-token distributions [10, vocab]."""
    forward = CausalForward(model.model)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(100, 40_000, (256 + 320,), generator=generator).tolist()
    rows = [tokens[:256] + tokens[256 + 32 * i : 256 + 32 * (i + 1)] for i in range(10)]
    warm, apart = PrefixStore(forward), PrefixStore(forward, block=100_000)
    return {
        "not_shared": lambda: Decoding(forward, apart, rows),
        "shared_in_the_call": lambda: Decoding(forward, PrefixStore(forward, capacity=0), rows),
        "remembered": lambda: Decoding(forward, warm, rows),
    }


def blocks(model: LocalModel) -> dict[str, Reading]:
    """The paths from one prompt of 1,024 tokens to its next-token distribution [1, vocab]."""
    forward = CausalForward(model.model)
    row = torch.randint(100, 40_000, (1024,), generator=torch.Generator().manual_seed(1)).tolist()

    def reading(block: int) -> Reading:
        return lambda: Decoding(forward, PrefixStore(forward, block=block), [row])

    return {"at_once": reading(100_000)} | {f"blocks_of_{size}": reading(size) for size in (32, 64, 128)}


def main() -> None:
    """Measure, print the ratios and keep the figures."""
    torch.set_num_threads(1)
    model = LocalModel.load(MODEL, device="cpu", dtype="float32")
    results: dict[str, object] = {
        "model": MODEL,
        "repeats": REPEATS,
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "measured": datetime.now(UTC).date().isoformat(),
    }
    for name, paths in (("answers", answers), ("beginnings", beginnings), ("blocks", blocks)):
        times = interleaved(paths(model), REPEATS)
        first = next(iter(times.values()))["cpu_s"]
        for path, seconds in times.items():
            seconds["times_faster"] = round(first / seconds["cpu_s"], 2)
            if name == "answers":
                seconds["tokens_per_cpu_s"] = round(16 * len(QUESTIONS) / seconds["cpu_s"], 1)
            print(name, path, seconds, flush=True)
        results[name] = times
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

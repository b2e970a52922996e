"""Compiled = symbolic: random scripts x conversations x every combination of options, forced and free-running.

    python benchmarks/eliza_exactness.py [--scripts 50] [--conversations 8] [--free 1] [--long] [--out FILE]

Each script meets all eight combinations of cycling, memory and null cycle. Teacher-forced on every conversation,
free-running on the first `free`. --long: conversations of up to 1,024 tokens in float32 and 2,048 in float64 instead.
Prints and writes after every script how many reply tokens were compared and how many differ; 0 may differ.
"""

import argparse
import itertools
import json
import time
from collections import Counter
from pathlib import Path

import torch

from glassworks.eliza.compiling import compile_script
from glassworks.eliza.exactness import differences, free_differences
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.layers import Options
from glassworks.eliza.random_scripts import random_script, random_sentences

MECHANISMS = list(itertools.product(("count", "trace"), ("counter", "trace"), ("on_input", "on_response")))


def short(seed: int, conversations: int, free: int, totals: Counter[str]) -> None:
    """One script with all options."""
    for cycling, memory, null_cycle in MECHANISMS:
        script = random_script(seed, null_cycle=null_cycle)
        compiled = compile_script(script, Options(cycling, memory, max_len=256, max_count=16))
        for number in range(conversations):
            turns = converse(script, random_sentences(script, 10, 1000 * seed + number))
            while len(transcript(turns)) > 256:
                turns.pop()
            found = {"forced": differences(compiled, transcript(turns))}
            if number < free:
                found["free"] = free_differences(compiled, turns)
            for name, difference in found.items():
                totals[f"{name}_tokens"] += difference.tokens
                totals[f"{name}_wrong"] += difference.wrong
        totals["models"] += 1


def long(seed: int, totals: Counter[str]) -> None:
    """One script in a conversation as long as the precision holds."""
    script = random_script(seed)
    for dtype, size in (("float32", 1024), ("float32", 2048), ("float64", 2048)):
        compiled = compile_script(script, Options(max_len=size, max_count=128), dtype=dtype)
        turns = converse(script, random_sentences(script, size // 8, seed))
        while len(transcript(turns)) > size:
            turns.pop()
        found = differences(compiled, transcript(turns))
        totals[f"{dtype}_{size}_tokens"] += found.tokens
        totals[f"{dtype}_{size}_wrong"] += found.wrong


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scripts", type=int, default=50)
    parser.add_argument("--conversations", type=int, default=8)
    parser.add_argument("--free", type=int, default=1)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    totals: Counter[str] = Counter()
    begun = time.process_time()
    for seed in range(options.scripts):
        if options.long:
            long(seed, totals)
        else:
            short(seed, options.conversations, options.free, totals)
        totals["scripts"] += 1
        line = json.dumps({**totals, "cpu_seconds": round(time.process_time() - begun, 1)})
        print(line, flush=True)
        if options.out:
            options.out.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

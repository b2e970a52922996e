"""Compiled = symbolic: random scripts x conversations x every combination of options, forced and free-running.

    python benchmarks/eliza_exactness.py --out FILE [--scripts 50] [--conversations 8] [--free 1] [--long]

Each script meets all eight combinations of cycling, memory and null cycle with copying by position, and the two pure
ones with copying by induction of one and two words, which is compared with a script that copies by the same rule.
Teacher-forced on every conversation, free-running on the first `free`. --long: conversations of up to 1,024 tokens in
float32 and 2,048 in both precisions instead. Writes after every script how many reply tokens were compared and how
many differ; 0 may differ. Run again, it goes on behind the scripts that FILE holds.

Results: eliza_exactness.json (50 scripts, free-running on the first of eight conversations), eliza_exactness_long.json
(50 scripts, --long), eliza_exactness_free.json (50 scripts, --free 8): nothing differs in any.
"""

import argparse
import itertools
import json
import time
from collections import Counter
from pathlib import Path

import torch

from glassworks.eliza.compiling import compile_script, symbolic_copy
from glassworks.eliza.exactness import differences, free_differences
from glassworks.eliza.interpreter import converse, transcript
from glassworks.eliza.layers import Options
from glassworks.eliza.random_scripts import random_script, random_sentences
from glassworks.eliza.script import NullCycle

NULL_CYCLES: tuple[NullCycle, ...] = ("on_input", "on_response")
MECHANISMS = [
    *((*chosen, "position", 1) for chosen in itertools.product(("count", "trace"), ("counter", "trace"), NULL_CYCLES)),
    ("count", "counter", "on_input", "induction", 1),
    ("trace", "trace", "on_input", "induction", 2),
]


def short(seed: int, conversations: int, free: int, totals: Counter[str]) -> None:
    """One script with all options."""
    for cycling, memory, null_cycle, copy, context in MECHANISMS:
        script = random_script(seed, null_cycle=null_cycle)
        options = Options(cycling, memory, copy, context, max_len=256, max_count=16)
        compiled, exact = compile_script(script, options), 0
        for number in range(conversations):
            sentences = random_sentences(script, 10, 1000 * seed + number, max_copy=4 if copy == "position" else 8)
            turns = converse(script, sentences, symbolic_copy(options))
            while len(transcript(turns)) > 256:
                turns.pop()
            exact += sum(a.reply == b.reply for a, b in zip(turns, converse(script, sentences), strict=False))
            totals[f"{copy}_turns"] += len(turns)
            found = {"forced": differences(compiled, transcript(turns))}
            if number < free:
                found["free"] = free_differences(compiled, turns)
            for name, difference in found.items():
                totals[f"{copy}_{name}_tokens"] += difference.tokens
                totals[f"{copy}_{name}_wrong"] += difference.wrong
        totals[f"{copy}_turns_copied_right"] += exact
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
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scripts", type=int, default=50)
    parser.add_argument("--conversations", type=int, default=8)
    parser.add_argument("--free", type=int, default=1)
    parser.add_argument("--long", action="store_true")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    totals: Counter[str] = Counter(json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {})
    for seed in range(totals["scripts"], options.scripts):
        begun = time.process_time()
        if options.long:
            long(seed, totals)
        else:
            short(seed, options.conversations, options.free, totals)
        totals["scripts"] += 1
        totals["cpu_ms"] += round(1000 * (time.process_time() - begun))
        print(json.dumps(totals), flush=True)
        options.out.write_text(json.dumps(totals, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
